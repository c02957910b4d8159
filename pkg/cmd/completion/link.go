package completion

import (
	"bytes"
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Scripts that do what the link does. Windows lets few users make links; elsewhere the one in a release's archive may be there.
var (
	//go:embed kubectl_complete-mlflow.cmd
	windowsScript []byte
	//go:embed kubectl_complete-mlflow
	script []byte
)

// link is what kubectl looks for.
type link struct {
	file   string
	target string // of the link, "" where a script stands in for it
}

func newLink(system, plugin, directory string) link {
	if system == "windows" {
		return link{file: filepath.Join(directory, linkName+".cmd")}
	}
	l := link{file: filepath.Join(directory, linkName), target: plugin}
	if filepath.Dir(plugin) == directory {
		l.target = filepath.Base(plugin) // they may be moved together
	}
	return l
}

// make makes the link, unless it is there.
func (l link) make() (made bool, err error) {
	present, err := os.Lstat(l.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, l.write()
	case err != nil:
		return false, unwritable(l.file, err)
	case present.Mode().IsRegular():
		content, err := os.ReadFile(l.file)
		if err != nil || !bytes.Equal(content, script) && !bytes.Equal(content, windowsScript) {
			return false, foreign(l.file)
		}
		return false, nil
	case present.Mode()&fs.ModeSymlink == 0:
		return false, foreign(l.file)
	}
	target, err := os.Readlink(l.file)
	if err != nil || !ours(target) {
		return false, foreign(l.file)
	}
	if target == l.target {
		return false, nil
	}
	if err := os.Remove(l.file); err != nil {
		return false, unwritable(l.file, err)
	}
	return true, l.write()
}

func (l link) write() error {
	var err error
	if l.target != "" {
		err = os.Symlink(l.target, l.file)
	} else {
		err = os.WriteFile(l.file, windowsScript, 0o755) //nolint:gosec // a program
	}
	if err != nil {
		return unwritable(l.file, err)
	}
	return nil
}
