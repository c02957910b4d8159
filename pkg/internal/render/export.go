package render

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// marker is the file by which a directory is known as an export. It lists the others, one a line.
const marker = ".kubectl-mlflow-export"

const markerText = "# Written by kubectl mlflow export, as were these files. Another export replaces them.\n"

// Adopt makes the patches of a component the overlay's own. As a component's, they would not meet what the overlay itself generates:
// up to kubectl 1.28, that is made last.
func (t *Tree) Adopt(component string) error {
	name := path.Join("/components", component, konfig.DefaultKustomizationFileName())
	text, err := t.fs.ReadFile(name)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	var k types.Kustomization
	if err := k.Unmarshal(text); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	t.k.Patches = append(t.k.Patches, k.Patches...)
	return nil
}

// Rename changes the name of an object that the tree has, which kustomize does only where it is allowed to.
func (t *Tree) Rename(kind, name, to string) error {
	text, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": to}})
	if err != nil {
		return fmt.Errorf("renaming %s %s: %w", kind, name, err)
	}
	t.k.Patches = append(t.k.Patches, types.Patch{
		Patch: string(text), Target: &types.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: kind}, Name: name}}, Options: &types.PatchArgs{AllowNameChange: true},
	})
	return nil
}

// Export writes what Build reads, and the files of beside, into dir: plain kustomize. It returns the overlay's path. What an earlier
// export wrote is replaced; failure.Refused where dir holds something else. Cut short, it can be repeated.
func (t *Tree) Export(dir string, beside map[string]string) (overlay string, err error) {
	files, err := t.files()
	if err != nil {
		return "", err
	}
	for name, text := range beside {
		files[name] = []byte(text)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // it is for Git, not secret
		return "", unwritable(dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", unwritable(dir, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	old, err := earlier(root, dir)
	if err != nil {
		return "", err
	}
	if err := replace(root, old, files); err != nil {
		return "", unwritable(dir, err)
	}
	return filepath.Join(dir, filepath.FromSlash(t.dir)), nil
}

func unwritable(dir string, err error) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "ExportDirectory", Object: dir, Message: "the export cannot be written there",
		Hint: "name a directory that is not there yet, is empty, or holds an earlier export, and that you may write to", Err: err,
	}
}

// files are those that the overlay reads.
func (t *Tree) files() (map[string][]byte, error) {
	text, err := yaml.Marshal(t.k)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", t.file(), err)
	}
	if err := t.fs.WriteFile(t.file(), append([]byte("# Written by kubectl mlflow export: another export overwrites it.\n"), text...)); err != nil {
		return nil, fmt.Errorf("writing %s: %w", t.file(), err)
	}
	folders := []string{t.dir, "/base"}
	for _, component := range t.k.Components {
		folders = append(folders, path.Join(t.dir, component))
	}
	files := map[string][]byte{}
	for _, folder := range folders {
		err := t.fs.Walk(folder, func(name string, info fs.FileInfo, err error) error {
			if err != nil || info.IsDir() || name == path.Join(t.dir, schemaFile) {
				return err
			}
			files[strings.TrimPrefix(name, "/")], err = t.fs.ReadFile(name)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", folder, err)
		}
	}
	return files, nil
}

// earlier lists the files of an earlier export. failure.Refused where there is something, and no earlier export.
func earlier(root *os.Root, dir string) ([]string, error) {
	text, err := root.ReadFile(marker)
	if err == nil {
		var names []string
		for line := range strings.Lines(string(text)) {
			if name := strings.TrimSpace(line); fs.ValidPath(name) && !strings.HasPrefix(name, "#") {
				names = append(names, name)
			}
		}
		return names, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, unwritable(dir, err)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, unwritable(dir, err)
	}
	for _, entry := range entries {
		if entry.Name() != ".git" { // a repository that is new
			return nil, &failure.Error{
				Class: failure.Refused, Reason: "DirectoryNotEmpty", Object: dir,
				Message: fmt.Sprintf("it holds %s and no earlier export", entry.Name()),
				Hint:    "name a directory of its own for the export",
			}
		}
	}
	return nil, nil
}

// replace writes files and removes what is only in old. At any time the marker names all that is there.
func replace(root *os.Root, old []string, files map[string][]byte) error {
	names := slices.Sorted(maps.Keys(files))
	if err := writeFile(root, marker, markerOf(slices.Concat(old, names))); err != nil {
		return err
	}
	for _, name := range names {
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := writeFile(root, name, files[name]); err != nil {
			return err
		}
	}
	for _, name := range old {
		if _, kept := files[name]; kept || name == marker {
			continue
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for folder := path.Dir(name); folder != "." && root.Remove(folder) == nil; folder = path.Dir(folder) {
			continue // as long as they are empty
		}
	}
	return writeFile(root, marker, markerOf(names))
}

func markerOf(names []string) []byte {
	slices.Sort(names)
	return []byte(markerText + strings.Join(slices.Compact(names), "\n") + "\n")
}

// writeFile leaves a file as it was or whole, and untouched where it is as it should be.
func writeFile(root *os.Root, name string, text []byte) (err error) {
	if info, err := root.Lstat(name); err == nil && info.Mode().IsRegular() {
		if there, err := root.ReadFile(name); err == nil && bytes.Equal(there, text) {
			return nil
		}
	}
	temporary := path.Join(path.Dir(name), ".kubectl-mlflow-"+rand.Text())
	file, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	return nil
}
