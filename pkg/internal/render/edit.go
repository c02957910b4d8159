package render

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"
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

// Compose makes the overlay's components those of order that it has or that are chosen, without those chosen away, in that order.
func (t *Tree) Compose(order []string, chosen map[string]bool) error {
	const folder = "../../components/"
	var components []string
	for _, name := range order {
		wanted, said := chosen[name]
		if !said {
			wanted = slices.Contains(t.k.Components, folder+name)
		}
		if wanted {
			components = append(components, folder+name)
		}
	}
	for _, has := range t.k.Components {
		if !slices.Contains(order, strings.TrimPrefix(has, folder)) {
			return fmt.Errorf("%s: component %s has no place in the order", t.file(), has)
		}
	}
	t.k.Components = components
	return nil
}

// Add puts value at the JSON pointer of every object of the kinds ("Deployment|Job"): for fields that may not be there at all.
func (t *Tree) Add(kinds, pointer string, value any) error {
	return t.patch(&types.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: kinds}}},
		[]map[string]any{{"op": "add", "path": pointer, "value": value}})
}

// Patch merges fields into one object, as kubectl apply would: items of lists by their names.
func (t *Tree) Patch(kind, name string, fields map[string]any) error {
	patch := map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name}}
	maps.Copy(patch, fields)
	return t.patch(&types.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: kind}, Name: name}}, patch)
}

func (t *Tree) patch(target *types.Selector, patch any) error {
	text, err := yaml.Marshal(patch)
	if err != nil {
		return fmt.Errorf("patching %s: %w", target.Kind, err)
	}
	t.k.Patches = append(t.k.Patches, types.Patch{Patch: string(text), Target: target})
	return nil
}
