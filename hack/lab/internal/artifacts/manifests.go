package artifacts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/images"
)

// The modules that hold manifests. They are those that components/go.mod pins.
const (
	serving    = "knative.dev/serving"
	networking = "knative.dev/networking"
	caching    = "knative.dev/caching"
	kourier    = "knative.dev/net-kourier"
	localPath  = "github.com/rancher/local-path-provisioner"
)

// manifest is a file in Set.Manifests and what it is made of: folders and files of modules, in the order in which they are applied.
type manifest struct {
	name    string
	sources []source
	// keep says which objects of the sources are in it.
	keep func(document string) bool
}

type source struct {
	module, path string
}

// manifestFiles lists them. Serving links the definitions of networking and caching into its own folder,
// and links are lost in modules, so they are taken from where they are.
func manifestFiles() []manifest {
	definition := regexp.MustCompile(`(?m)^kind: CustomResourceDefinition$`).MatchString
	all := func(string) bool { return true }
	return []manifest{
		{"knative-crds.yaml", []source{{serving, "config/core/300-resources"}, {networking, "config"}, {caching, "config"}}, definition},
		{"knative-serving.yaml", []source{
			{serving, "config/core/100-namespace.yaml"},
			{serving, "config/core/200-serviceaccount.yaml"},
			{serving, "config/core/200-roles"},
			{serving, "config/core/configmaps"},
			{networking, "config/config-network.yaml"},
			{serving, "config/core/webhooks"},
			{serving, "config/core/deployments"},
			{serving, "config/core/300-knativecertificate.yaml"},
			{serving, "config/core/999-cache.yaml"},
		}, all},
		{"kourier.yaml", []source{{kourier, "config"}}, all},
		{"local-path.yaml", []source{{localPath, "deploy/local-path-storage.yaml"}}, all},
	}
}

// manifests returns a folder with the manifests of what runs in the cluster, images under the names in the list.
func (c checkout) manifests(ctx context.Context, s *store, list []images.Image) (string, error) {
	files := manifestFiles()
	recipe := []string{c.components.text, development}
	for _, file := range files {
		recipe = append(recipe, fmt.Sprint(file.name, file.sources))
	}
	for _, image := range list {
		recipe = append(recipe, image.Name, strings.Join(image.Sources, " "))
	}
	st := step{name: "collect manifests of Knative, Kourier and the volume provisioner", usual: 10 * time.Second}
	return s.ensure(ctx, st, "manifests", keyOf(recipe...), func(ctx context.Context, folder string) error {
		if err := s.newLog("manifests"); err != nil {
			return err
		}
		modules, err := c.modules(ctx, s)
		if err != nil {
			return err
		}
		names := imageNames(list)
		for _, file := range files {
			text, err := file.collect(modules, names)
			if err != nil {
				return fmt.Errorf("%s: %w", file.name, err)
			}
			if text, err = released(text, modules[serving].Version); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(folder, file.name), []byte(text), 0o644); err != nil { //nolint:gosec // no secrets
				return err
			}
		}
		return nil
	})
}

// download is a Go module as `go mod download -json` tells of it.
type download struct{ Path, Version, Dir string }

// modules returns the modules that hold manifests.
func (c checkout) modules(ctx context.Context, s *store) (map[string]download, error) {
	cmd := command(ctx, "go", "mod", "download", "-json", serving, networking, caching, kourier, localPath)
	cmd.Dir = c.components.folder
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := s.output("manifests", cmd)
	if err != nil {
		return nil, err
	}
	modules := map[string]download{}
	for decoder := json.NewDecoder(strings.NewReader(out)); ; {
		var m download
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			return modules, nil
		} else if err != nil {
			return nil, fmt.Errorf("go mod download: %w", err)
		}
		modules[m.Path] = m
	}
}

func (m manifest) collect(modules map[string]download, names map[string]string) (string, error) {
	var out strings.Builder
	for _, source := range m.sources {
		files, err := yamlFiles(filepath.Join(modules[source.module].Dir, filepath.FromSlash(source.path)))
		if err != nil {
			return "", err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			for _, document := range documents(string(text)) {
				if !m.keep(document) {
					continue
				}
				document, err = rewriteImages(document, names)
				if err != nil {
					return "", fmt.Errorf("%s of %s: %w", path.Join(source.path, filepath.Base(file)), source.module, err)
				}
				out.WriteString("---\n" + document + "\n")
			}
		}
	}
	return out.String(), nil
}

// yamlFiles are the files of a folder in the order of their names, which is that in which they are meant to be applied; or the file.
func yamlFiles(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	files, err := filepath.Glob(filepath.Join(name, "*.yaml"))
	slices.Sort(files)
	return files, err
}

// documents splits a YAML stream and leaves out what holds nothing but comments.
func documents(text string) []string {
	var list []string
	for _, document := range regexp.MustCompile(`(?m)^---.*$`).Split(text, -1) {
		if regexp.MustCompile(`(?m)^[^#\s]`).MatchString(document) {
			list = append(list, strings.TrimSpace(document))
		}
	}
	return list
}

// imageNames maps every spelling of an image in the list to its name.
func imageNames(list []images.Image) map[string]string {
	names := map[string]string{}
	for _, image := range list {
		names[image.Name] = image.Name
		for _, source := range image.Sources {
			names[source] = image.Name
		}
	}
	return names
}

// rewriteImages puts the names of stand-ins in place of the images that a manifest names. One that has no stand-in is an error:
// the node could never pull it.
func rewriteImages(document string, names map[string]string) (string, error) {
	var unknown []error
	field := regexp.MustCompile(`(?m)^(\s*(?:- )?(?:image|queue-sidecar-image): )(\S+)$`)
	out := field.ReplaceAllStringFunc(document, func(line string) string {
		parts := field.FindStringSubmatch(line)
		image := strings.Trim(parts[2], `"'`)
		name, ok := names[image]
		if !ok {
			unknown = append(unknown, fmt.Errorf("image %s is not in images.yaml", image))
		}
		return parts[1] + name
	})
	return out, errors.Join(unknown...)
}

// development is the label of what has not been released.
const development = "app.kubernetes.io/version: devel"

// released labels the objects with Knative's version, as its releases do. Version 1.0 is the module's v0.27.
func released(text, module string) (string, error) {
	var minor, patch int
	if _, err := fmt.Sscanf(module, "v0.%d.%d", &minor, &patch); err != nil {
		return "", fmt.Errorf("version %s of %s: %w", module, serving, err)
	}
	return strings.ReplaceAll(text, development, fmt.Sprintf(`app.kubernetes.io/version: "1.%d.%d"`, minor-27, patch)), nil
}
