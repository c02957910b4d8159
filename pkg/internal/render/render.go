// Package render edits a kustomize tree in memory, as `kustomize edit` does on disk, and builds it. It knows kustomize, not MLflow.
package render

import (
	_ "embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// schema is the part of kustomize's schema that is about the kinds in the manifests. To read all of it takes longer than all the rest.
//
//go:embed schema.json
var schema []byte //nolint:gochecknoglobals // a file

// schemaFile is where a build finds it, in the folder of the overlay.
const schemaFile = "schema.json"

// overlays is the folder of a tree whose children can be opened.
const overlays = "overlays"

// kustomize keeps the OpenAPI schema that it merges by in a variable of its process, unguarded: its guard is one per process too.
var building sync.Mutex //nolint:gochecknoglobals // guards kyaml's global; nothing of ours is in it

// Tree is a copy in memory of a kustomize tree, with one overlay chosen. It is not safe for concurrent use.
type Tree struct {
	fs  filesys.FileSystem
	dir string // of the overlay
	k   types.Kustomization

	mounted bool // a kustomization of the user's, with objects of any kind
}

// Open copies src and reads the kustomization of overlays/<overlay>. Where there is no such overlay, the error is
// failure.Invalid and lists those that there are.
func Open(src fs.FS, overlay string) (*Tree, error) {
	known, err := fs.ReadDir(src, overlays)
	if err != nil {
		return nil, fmt.Errorf("reading the manifests: %w", err)
	}
	names := make([]string, 0, len(known))
	for _, entry := range known {
		names = append(names, entry.Name())
	}
	if !slices.Contains(names, overlay) {
		return nil, &failure.Error{
			Class: failure.Invalid, Reason: "UnknownOverlay",
			Message: fmt.Sprintf("there is no overlay %q", overlay),
			Hint:    "choose one of: " + strings.Join(names, ", "),
		}
	}
	t := &Tree{fs: filesys.MakeFsInMemory(), dir: "/" + path.Join(overlays, overlay)}
	if err := t.copy(src); err != nil {
		return nil, fmt.Errorf("reading the manifests: %w", err)
	}
	text, err := t.fs.ReadFile(t.file())
	if err != nil {
		return nil, fmt.Errorf("reading the manifests: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, &t.k); err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.file(), err)
	}
	return t, nil
}

func (t *Tree) copy(src fs.FS) error {
	return fs.WalkDir(src, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(src, name)
		if err != nil {
			return err
		}
		return t.fs.WriteFile("/"+name, content)
	})
}

// file is the overlay's kustomization.
func (t *Tree) file() string { return path.Join(t.dir, "kustomization.yaml") }

// SetEnv sets values in a *.env file of the tree ("components/postgres/params.env"). A key that the file lacks,
// and a value with a line break, are failure.Invalid.
func (t *Tree) SetEnv(file string, values map[string]string) error {
	text, err := t.fs.ReadFile("/" + file)
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	if text, err = setEnv(file, text, values); err != nil {
		return err
	}
	if err := t.fs.WriteFile("/"+file, text); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

// Build returns the objects in the order of kubectl's and kustomize's commands.
func (t *Tree) Build() ([]*unstructured.Unstructured, error) {
	k := t.k
	if !t.mounted {
		k.OpenAPI = map[string]string{"path": schemaFile}
	}
	text, err := yaml.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", t.file(), err)
	}
	for name, text := range map[string][]byte{t.file(): text, path.Join(t.dir, schemaFile): schema} {
		if err := t.fs.WriteFile(name, text); err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
	}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy

	building.Lock()
	defer building.Unlock()
	openapi.ResetOpenAPI() // what the last build put there would stay
	built, err := krusty.MakeKustomizer(options).Run(t.fs, t.dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize build %s: %w", strings.TrimPrefix(t.dir, "/"), err)
	}
	objs := make([]*unstructured.Unstructured, 0, built.Size())
	for _, r := range built.Resources() {
		// Through JSON: kustomize's maps hold int where apimachinery's hold int64.
		text, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.CurId(), err)
		}
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("%s: %w", r.CurId(), err)
		}
		objs = append(objs, obj)
	}
	return objs, nil
}
