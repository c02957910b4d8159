package artifacts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/images"
)

// tree is a layer's recipe: a script of package images, which fills a folder.
type tree struct {
	name  string
	usual time.Duration
	// script is its file's name; "" is the tree's own.
	script string
	// below is the tree that the script gets as its first argument, and upon which the layer lies.
	below string
	// part: the script fills in only what is new, else it begins with a copy of the tree below.
	part bool
	// root is the tree that the script gets after the folder.
	root string
	// args follow.
	args []string
	// recipe is what else decides what comes of it.
	recipe []string
}

// The versions of MLflow that there are images of. The earlier one has an earlier schema.
const (
	mlflowVersion        = "3.17.2"
	earlierMLflowVersion = "3.16.1"
)

// mlflowRequirements are what the MLflow image holds, of what the original's extras are. The rest is what these ask for.
func mlflowRequirements(version string) []string {
	return []string{
		"mlflow[auth,db]==" + version, "psycopg2-binary==2.9.13", "Flask-WTF==1.3.0",
		"google-cloud-storage==3.17.1", "boto3==1.44.5", "prometheus-flask-exporter==0.23.2",
	}
}

// pythonRequirements are what the Python image brings along.
func pythonRequirements() []string {
	return []string{"pip==24.0", "setuptools==79.0.1", "wheel==0.45.1"}
}

// trees makes the root file systems that the images of the list are layered from, by name.
func (s *store) trees(ctx context.Context, list []images.Image, tools wheels) (map[string]images.Tree, error) {
	certificates, err := certificates()
	if err != nil {
		return nil, err
	}
	cache := s.wheelCache()
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // public packages
		return nil, err
	}
	postgres, err := images.Script("docker-entrypoint.sh")
	if err != nil {
		return nil, err
	}
	temp, err := s.temp("recipes")
	if err != nil {
		return nil, err
	}
	entrypoint := filepath.Join(temp, "docker-entrypoint.sh")
	if err := os.WriteFile(entrypoint, []byte(postgres), 0o600); err != nil {
		return nil, err
	}
	uv, install := []string{"uv " + uvVersion}, []string{tools.uv, cache}
	mlflow, earlier := mlflowRequirements(mlflowVersion), mlflowRequirements(earlierMLflowVersion)
	recipes := []tree{
		{name: "debian", usual: 30 * time.Second, args: []string{certificates.file}, recipe: []string{release, certificates.hash}},
		{name: "python", usual: 10 * time.Second, below: "debian", args: append(install, pythonRequirements()...), recipe: append(uv, pythonRequirements()...)},
		{name: "mlflow", usual: 40 * time.Second, below: "python", part: true, root: "python", args: append(install, mlflow...), recipe: append(uv, mlflow...)},
		{
			name: "mlflow-earlier", usual: 30 * time.Second, script: "mlflow", below: "mlflow", root: "python",
			args: append(install, earlier...), recipe: append(uv, earlier...),
		},
		{name: "postgres", usual: 5 * time.Second, below: "debian", args: []string{entrypoint}, recipe: []string{postgres}},
		{name: "busybox", usual: 2 * time.Second, recipe: []string{release}},
		{name: "static", args: []string{certificates.file}, recipe: []string{certificates.hash}},
	}
	needed := neededTrees(list, recipes)
	made := map[string]images.Tree{}
	for _, recipe := range recipes {
		if !needed[recipe.name] {
			continue
		}
		if made[recipe.name], err = s.tree(ctx, recipe, made[recipe.below].Folder, made[recipe.root].Folder); err != nil {
			return nil, err
		}
	}
	if needed["envoy"] {
		envoy, err := s.programTree(ctx, tools.envoy, "/usr/local/bin/envoy")
		if err != nil {
			return nil, err
		}
		made["envoy"] = images.Tree{Folder: envoy.Folder, Below: made["debian"].Folder, Part: true}
	}
	for _, image := range list {
		for _, layer := range image.Layers {
			if _, ok := made[layer]; !ok {
				return nil, fmt.Errorf("images.yaml, %s: there is no layer %q", image.Name, layer)
			}
		}
	}
	return made, os.RemoveAll(temp)
}

// neededTrees are the layers of the images, and the trees that these are made upon.
func neededTrees(list []images.Image, recipes []tree) map[string]bool {
	needed := map[string]bool{}
	for _, image := range list {
		for _, layer := range image.Layers {
			needed[layer] = true
		}
	}
	for _, recipe := range slices.Backward(recipes) {
		if needed[recipe.name] {
			needed[recipe.below], needed[recipe.root] = true, true
		}
	}
	return needed
}

func (s *store) tree(ctx context.Context, t tree, below, root string) (images.Tree, error) {
	text, err := images.Recipe(cmp.Or(t.script, t.name) + ".sh")
	if err != nil {
		return images.Tree{}, err
	}
	if root != "" {
		t.args = append([]string{root}, t.args...)
	}
	key := keyOf(slices.Concat([]string{text, filepath.Base(below)}, t.recipe)...)
	st := step{usual: t.usual}
	if t.usual > 0 {
		st.name = fmt.Sprintf("root file system of the images: %s", t.name)
	}
	folder, err := s.ensure(ctx, st, "tree-"+t.name, key, func(ctx context.Context, folder string) error {
		return s.recipe(ctx, t, text, below, folder)
	})
	return images.Tree{Folder: folder, Below: below, Part: t.part}, err
}

// recipe runs a recipe's script with mount and process namespaces of its own: whatever ends it, it leaves neither.
func (s *store) recipe(ctx context.Context, t tree, text, below, folder string) error {
	log := "tree-" + t.name
	if err := s.newLog(log); err != nil {
		return err
	}
	temp, err := s.temp(log)
	if err != nil {
		return err
	}
	options, err := s.aptOptions(ctx)
	if err != nil {
		return err
	}
	script, config := filepath.Join(temp, t.name+".sh"), filepath.Join(temp, "apt.conf")
	// What else the machine does when a package is installed is not for another root.
	hermetic := "Dir::Etc::Main \"/dev/null\";\nDir::Etc::Parts \"/dev/null\";\n" + options
	if err := errors.Join(os.WriteFile(script, []byte(text), 0o600), os.WriteFile(config, []byte(hermetic), 0o600)); err != nil {
		return err
	}
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "bash", script}
	if below != "" {
		args = append(args, below)
	}
	args = append(append(args, folder), t.args...)
	env := append(os.Environ(), "TMPDIR="+temp, "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	if t.name == "debian" {
		sources, err := s.sources(ctx)
		if err != nil {
			return err
		}
		if err := os.WriteFile(config, []byte(options), 0o600); err != nil {
			return err
		}
		args = append(append(args, config, release), sources...)
	} else {
		env = append(env, "APT_CONFIG="+config)
	}
	err = s.apt(ctx, log, func() error {
		// A second attempt begins anew, like the first.
		if err := empty(folder); err != nil {
			return err
		}
		cmd := command(ctx, "unshare", args...)
		cmd.Env = env
		return s.run(log, cmd)
	})
	return errors.Join(err, os.RemoveAll(temp))
}

type bundle struct {
	file, hash string
}

// certificates are the authorities that this machine trusts. Inside its network pods may have to trust them, too.
func certificates() (bundle, error) {
	file := os.Getenv("SSL_CERT_FILE")
	if file == "" {
		file = "/etc/ssl/certs/ca-certificates.crt"
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return bundle{}, fmt.Errorf("certificates of this machine: %w", err)
	}
	return bundle{file: file, hash: fmt.Sprintf("%x", sha256.Sum256(text))}, nil
}

// programTree is a tree with one program.
func (s *store) programTree(ctx context.Context, binary, at string) (images.Tree, error) {
	key := keyOf(filepath.Base(filepath.Dir(binary)), at)
	folder, err := s.ensure(ctx, step{}, "program-"+filepath.Base(binary), key, func(_ context.Context, folder string) error {
		to := filepath.Join(folder, filepath.FromSlash(strings.TrimPrefix(at, "/")))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // folders of an image
			return err
		}
		return os.Link(binary, to)
	})
	return images.Tree{Folder: folder}, err
}
