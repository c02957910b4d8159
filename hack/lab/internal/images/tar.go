package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// whiteout is the prefix by which a layer says that a file of the layers below is gone (OCI image specification, layer.md).
const whiteout = ".wh."

// Tree is a file system as a folder.
type Tree struct {
	Folder string
	// Below is the tree that it was copied from and that its layer lies upon, if any.
	Below string
	// Part says that Folder holds only what was added: what is missing in it is not gone.
	Part bool
}

// write writes the tree's layer: all of it, or what differs from the tree below. Order, names of owners and times of access do not
// come in; times of modification do, since Python compares them with its bytecode's.
func (t Tree) write(w io.Writer) error {
	out := tar.NewWriter(w)
	if err := t.folder(out, "."); err != nil {
		return fmt.Errorf("layer of %s: %w", t.Folder, err)
	}
	return out.Close()
}

func (t Tree) folder(out *tar.Writer, name string) error {
	entries, err := os.ReadDir(filepath.Join(t.Folder, name)) // sorted
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := t.entry(out, path.Join(name, entry.Name())); err != nil {
			return err
		}
	}
	if t.Below == "" || t.Part {
		return nil
	}
	return t.whiteouts(out, name, entries)
}

func (t Tree) entry(out *tar.Writer, name string) error {
	info, err := os.Lstat(filepath.Join(t.Folder, name))
	if err != nil {
		return err
	}
	// What runtimes mount themselves.
	if mode := info.Mode(); mode&(fs.ModeDevice|fs.ModeSocket|fs.ModeNamedPipe) != 0 {
		return nil
	}
	same, err := t.sameBelow(name, info)
	if err != nil {
		return err
	}
	if !same {
		if err := t.add(out, name, info); err != nil {
			return err
		}
	}
	if !info.IsDir() {
		return nil
	}
	return t.folder(out, name)
}

func (t Tree) add(out *tar.Writer, name string, info fs.FileInfo) error {
	source := filepath.Join(t.Folder, name)
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(source); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uname, header.Gname = "", ""
	header.Format = tar.FormatPAX
	header.ModTime = info.ModTime().Truncate(time.Second)
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, file)
	return errors.Join(err, file.Close())
}

// sameBelow says whether the tree below has the same. Copies keep times and programs that write files change them.
func (t Tree) sameBelow(name string, info fs.FileInfo) (bool, error) {
	if t.Below == "" {
		return false, nil
	}
	below, err := os.Lstat(filepath.Join(t.Below, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Mode() != below.Mode() || owner(info) != owner(below) {
		return false, nil
	}
	switch {
	case info.IsDir():
		return true, nil
	case info.Mode()&fs.ModeSymlink != 0:
		a, errA := os.Readlink(filepath.Join(t.Folder, name))
		b, errB := os.Readlink(filepath.Join(t.Below, name))
		return a == b, errors.Join(errA, errB)
	}
	return info.Size() == below.Size() && info.ModTime().Equal(below.ModTime()), nil
}

func owner(info fs.FileInfo) [2]uint32 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return [2]uint32{stat.Uid, stat.Gid}
	}
	return [2]uint32{}
}

// whiteouts says what of the folder below is gone.
func (t Tree) whiteouts(out *tar.Writer, name string, entries []fs.DirEntry) error {
	below, err := os.ReadDir(filepath.Join(t.Below, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range below {
		gone := !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == entry.Name() })
		if !gone || entry.Type()&(fs.ModeDevice|fs.ModeSocket|fs.ModeNamedPipe) != 0 {
			continue
		}
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(name, whiteout+entry.Name()), Mode: 0o644}); err != nil {
			return err
		}
	}
	return nil
}
