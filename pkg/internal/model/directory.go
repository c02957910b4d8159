package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Directory is a model on this machine. Links are not followed: they may lead out of it.
type Directory struct{ root *os.Root }

// OpenDirectory opens a directory, which the caller closes. failure.Invalid where there is none.
func OpenDirectory(name string) (*Directory, error) {
	root, err := os.OpenRoot(name)
	if err == nil {
		return &Directory{root}, nil
	}
	e := &failure.Error{Class: failure.Invalid, Reason: "ModelDirectoryNotFound", Message: fmt.Sprintf("%q cannot be opened as a model's directory", name), Err: err}
	if info, statErr := os.Stat(name); statErr == nil && !info.IsDir() {
		e.Message, e.Err, e.Hint = fmt.Sprintf("%q is not a directory", name), nil, "name the directory that holds the file MLmodel"
	} else if errors.Is(err, fs.ErrNotExist) {
		e.Message, e.Err, e.Hint = fmt.Sprintf("there is no directory %q", name), nil, "name the directory that holds the file MLmodel, or a model on the tracking server, as models:/NAME/VERSION"
	}
	return nil, e
}

// Near tells that files are on this machine: to read them again costs little.
func (d *Directory) Near() {}

// Close ends all reading.
func (d *Directory) Close() error { return d.root.Close() }

// List implements Files. failure.Invalid names what is neither a file nor a directory.
func (d *Directory) List(ctx context.Context) ([]File, error) {
	var list []File
	err := fs.WalkDir(d.root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			return &failure.Error{
				Class: failure.Invalid, Reason: "ModelFileNotRegular", Message: fmt.Sprintf("%q in the model's directory is %s", path, kindOf(entry.Type())),
				Hint: "put the file itself in its place, or take it away",
			}
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		list = append(list, File{Path: path, Size: info.Size()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

func kindOf(mode fs.FileMode) string {
	if mode&fs.ModeSymlink != 0 {
		return "a symbolic link"
	}
	return "not a regular file"
}

// Open implements Files.
func (d *Directory) Open(_ context.Context, path string, offset int64) (io.ReadCloser, error) {
	file, err := d.root.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
