package render

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// userFolder is where the kustomization of the user's lies in the tree.
const userFolder = "user"

// maxUser is how much a kustomization of the user's may be, in bytes: it is kept in a ConfigMap, beside other things.
const maxUser = 256 << 10

// source is where a kustomization lies. Paths are as in io/fs.
type source interface {
	mode(name string) (fs.FileMode, error)
	read(name string) ([]byte, error) // no more than a little over maxUser
}

type fileSource struct{ fs.FS }

func (s fileSource) mode(name string) (fs.FileMode, error) {
	info, err := fs.Stat(s.FS, name)
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

func (s fileSource) read(name string) ([]byte, error) {
	file, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, maxUser+1))
}

type textSource map[string]string

func (s textSource) mode(name string) (fs.FileMode, error) {
	if _, ok := s[name]; ok {
		return 0, nil
	}
	for other := range s {
		if name == "." || strings.HasPrefix(other, name+"/") {
			return fs.ModeDir, nil
		}
	}
	return 0, fs.ErrNotExist
}

func (s textSource) read(name string) ([]byte, error) { return []byte(s[name]), nil }

// reader follows the references of a kustomization.
type reader struct {
	src   source
	files map[string]string
	size  int
	done  map[string]bool // folders
}

// ReadUser reads a kustomization of the user's and what it refers to, all of it in src: texts by path. kustomize would fetch from
// the network and run programs: what leads there, or out of src, is failure.Invalid.
func ReadUser(src fs.FS) (map[string]string, error) { return readUser(fileSource{src}) }

func readUser(src source) (map[string]string, error) {
	r := &reader{src: src, files: map[string]string{}, done: map[string]bool{}}
	k, err := r.folder(".")
	if err != nil {
		return nil, err
	}
	for _, field := range []struct{ name, value string }{{"namespace", k.Namespace}, {"namePrefix", k.NamePrefix}, {"nameSuffix", k.NameSuffix}} {
		if field.value != "" {
			return nil, r.wrong(".", "remove it: the namespace is the one of -n, and other objects find these by their names", "%s does not go on top of the manifests", field.name)
		}
	}
	return r.files, nil
}

// Mount puts files, which ReadUser read, on top of all components. They are checked again: they may have come by way of a cluster.
func (t *Tree) Mount(files map[string]string) error {
	files, err := readUser(textSource(files))
	if failed, ok := errors.AsType[*failure.Error](err); ok {
		failed.Object = path.Join(userFolder, failed.Object) // as it is called in an export
	}
	if err != nil {
		return err
	}
	for name, text := range files {
		if path.Dir(name) == "." && isKustomization(name) {
			if text, err = asComponent(text); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if err := t.fs.WriteFile("/"+path.Join(userFolder, name), []byte(text)); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	t.k.Components, t.mounted = append(t.k.Components, "../../"+userFolder), true
	return nil
}

// asComponent makes a Kustomization a Component, which changes what is there instead of making objects of its own.
func asComponent(text string) (string, error) {
	var k types.Kustomization
	if err := k.Unmarshal([]byte(text)); err != nil {
		return "", err
	}
	if k.Kind == types.ComponentKind {
		return text, nil
	}
	k.Kind, k.APIVersion = types.ComponentKind, types.ComponentVersion
	k.FixKustomization()
	out, err := yaml.Marshal(k)
	return string(out), err
}

func isKustomization(name string) bool {
	return slices.Contains(konfig.RecognizedKustomizationFileNames(), path.Base(name))
}

// folder reads the kustomization of a folder, and all that it leads to.
func (r *reader) folder(dir string) (*types.Kustomization, error) {
	r.done[dir] = true
	var found []string
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		if _, err := r.src.mode(path.Join(dir, name)); err == nil {
			found = append(found, path.Join(dir, name))
		}
	}
	if len(found) != 1 {
		return nil, r.wrong(dir, "it needs one file kustomization.yaml", "there are %d kustomization files in it", len(found))
	}
	if err := r.file(found[0]); err != nil {
		return nil, err
	}
	k := &types.Kustomization{}
	if err := k.Unmarshal([]byte(r.files[found[0]])); err != nil {
		return nil, r.wrong(found[0], "compare it with kustomize's documentation", "%v", err)
	}
	k.FixKustomization() // deprecated fields become those of today, but for two kinds of patches
	if err := r.forbidden(dir, k); err != nil {
		return nil, err
	}
	for _, ref := range slices.Concat(k.Resources, k.Components) {
		if err := r.follow(dir, ref); err != nil {
			return nil, err
		}
	}
	for _, ref := range fileReferences(k) {
		name, err := r.local(dir, ref)
		if err == nil {
			err = r.file(name)
		}
		if err != nil {
			return nil, err
		}
	}
	return k, nil
}

// forbidden is about what runs programs or charts, or changes kustomize itself for the rest of the process.
func (r *reader) forbidden(dir string, k *types.Kustomization) error {
	for _, field := range []struct {
		name string
		used bool
	}{
		{"generators", len(k.Generators) > 0},
		{"transformers", len(k.Transformers) > 0},
		{"validators", len(k.Validators) > 0},
		{"helmCharts", len(k.HelmCharts) > 0 || k.HelmGlobals != nil},
		{"openapi", len(k.OpenAPI) > 0},
	} {
		if field.used {
			return r.wrong(dir, "remove it; patches, resources, configMapGenerator, images, labels and replacements work", "%s is not taken from a kustomization of yours", field.name)
		}
	}
	return nil
}

// fileReferences are all of k's references that lead to files and never to folders.
func fileReferences(k *types.Kustomization) []string {
	refs := slices.Concat(k.Crds, k.Configurations)
	for _, patch := range slices.Concat(k.Patches, k.PatchesJson6902) { //nolint:staticcheck // users may have it
		refs = append(refs, patch.Path)
	}
	for _, patch := range k.PatchesStrategicMerge { //nolint:staticcheck // users may have it
		if !strings.Contains(string(patch), "\n") {
			refs = append(refs, string(patch))
		}
	}
	for _, replacement := range k.Replacements {
		refs = append(refs, replacement.Path)
	}
	var sources []types.KvPairSources
	for _, generator := range k.ConfigMapGenerator {
		sources = append(sources, generator.KvPairSources)
	}
	for _, generator := range k.SecretGenerator {
		sources = append(sources, generator.KvPairSources)
	}
	for _, source := range sources {
		refs = append(refs, source.EnvSources...)
		for _, file := range source.FileSources {
			if _, after, named := strings.Cut(file, "="); named {
				file = after
			}
			refs = append(refs, file)
		}
	}
	return slices.DeleteFunc(refs, func(ref string) bool { return ref == "" })
}

// follow reads what a resource or component is: a file, or a folder with a kustomization.
func (r *reader) follow(dir, ref string) error {
	name, err := r.local(dir, ref)
	if err != nil {
		return err
	}
	mode, err := r.src.mode(name)
	if err != nil {
		return r.unreadable(dir, ref, err)
	}
	if !mode.IsDir() {
		return r.file(name)
	}
	if r.done[name] {
		return nil
	}
	_, err = r.folder(name)
	return err
}

// local is where a reference leads to within src. kustomize takes for remote, folders on the disk or not, whatever looks like it.
func (r *reader) local(dir, ref string) (string, error) {
	if strings.ContainsAny(ref, ":@?\\") || strings.Contains(ref, "//") || strings.Contains(strings.ToLower(ref), "github.com") {
		return "", r.wrong(dir, "nothing is fetched: save it beside the kustomization and name the file; leave the manifests themselves out, they come first", "%q is not a local path", ref)
	}
	name := path.Join(dir, ref)
	if path.IsAbs(ref) || !fs.ValidPath(name) {
		return "", r.wrong(dir, "copy the file beside the kustomization, and name it from there", "%q leads out of the directory", ref)
	}
	return name, nil
}

func (r *reader) file(name string) error {
	if _, read := r.files[name]; read {
		return nil
	}
	mode, err := r.src.mode(name)
	if err != nil {
		return r.unreadable(path.Dir(name), path.Base(name), err)
	}
	if !mode.IsRegular() {
		return r.wrong(name, "name a file", "it is no file")
	}
	text, err := r.src.read(name)
	if err != nil {
		return r.unreadable(path.Dir(name), path.Base(name), err)
	}
	if r.size += len(text); r.size > maxUser {
		return r.wrong(name, "leave out what is large, for instance files of a configMapGenerator", "with it the kustomization has more than %d KiB, the most that an install keeps of it", maxUser>>10)
	}
	if !utf8.Valid(text) {
		return r.wrong(name, "make it UTF-8, or leave it out", "it is no text")
	}
	r.files[name] = string(text)
	return nil
}

func (r *reader) unreadable(dir, ref string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return r.wrong(dir, "kustomizations of yours may name only what lies in their directory", "there is no %s", ref)
	}
	return r.wrong(dir, "kustomizations of yours may name only what lies in their directory, and what you may read", "%s: %v", ref, err)
}

func (r *reader) wrong(object, hint, format string, a ...any) error {
	return &failure.Error{Class: failure.Invalid, Reason: "Kustomization", Object: object, Message: fmt.Sprintf(format, a...), Hint: hint}
}
