package render

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
)

// SetNamespace puts all objects into namespace, and renames the Namespace.
func (t *Tree) SetNamespace(namespace string) { t.k.Namespace = namespace }

// SetImage puts ref where the manifests say the image name. A ref without tag and digest keeps the manifests' own.
func (t *Tree) SetImage(name, ref string) {
	image := types.Image{Name: name}
	image.NewName, image.Digest, _ = strings.Cut(ref, "@")
	repository := path.Dir(image.NewName)
	if base, tag, ok := strings.Cut(path.Base(image.NewName), ":"); ok {
		image.NewName, image.NewTag = path.Join(repository, base), tag
	}
	t.k.Images = append(t.k.Images, image)
}

// Add puts value at the JSON pointer of every object of the kind: for fields that may not be there at all.
func (t *Tree) Add(kind, pointer, value string) error {
	patch, err := json.Marshal([]map[string]string{{"op": "add", "path": pointer, "value": value}})
	if err != nil {
		return fmt.Errorf("patching %s of %s: %w", pointer, kind, err)
	}
	t.k.Patches = append(t.k.Patches, types.Patch{
		Patch:  string(patch),
		Target: &types.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: kind}}},
	})
	return nil
}
