package artifacts

import (
	"archive/zip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/images"
)

func list(t *testing.T) ([]images.Image, string) {
	t.Helper()
	src, err := findCheckout()
	if err != nil {
		t.Fatal(err)
	}
	list, err := images.Read(src.images())
	if err != nil {
		t.Fatal(err)
	}
	return list, src.folder
}

func TestEveryProgramForPodsIsInAnImage(t *testing.T) {
	list, _ := list(t)
	var compiled, packed []string
	for _, p := range podPrograms() {
		compiled = append(compiled, p.name)
	}
	for _, programs := range addonPrograms() {
		for _, p := range programs {
			compiled = append(compiled, p.name)
		}
	}
	for _, image := range list {
		if image.Program != nil {
			packed = append(packed, image.Program.Name)
		}
	}
	slices.Sort(compiled)
	slices.Sort(packed)
	if !slices.Equal(compiled, packed) {
		t.Errorf("compiled %q, in images.yaml %q", compiled, packed)
	}
}

// The tags are the versions of what is in the images.
func TestVersionsOfImagesAreThoseThatAreBuilt(t *testing.T) {
	list, folder := list(t)
	var text []byte
	for _, module := range []string{"components", "addons/google"} {
		more, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(module), "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, more...)
	}
	version := func(module string) string {
		found := regexp.MustCompile(`(?m)^(?:require|\t)\s*` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(text)
		if found == nil {
			t.Fatalf("components/go.mod does not require %s", module)
		}
		return string(found[1])
	}
	if got := version("k8s.io/kubernetes"); got != kubernetesVersion {
		t.Errorf("Kubernetes is %s in components/go.mod and says that it is %s", got, kubernetesVersion)
	}
	type key struct{ addon, part string }
	tags := map[key]string{
		{"", "knative.dev/serving/"}:         version("knative.dev/serving"),
		{"", "knative.dev/net-kourier/"}:     version("knative.dev/net-kourier"),
		{"", "coredns/coredns"}:              version("github.com/coredns/coredns"),
		{"", "local-path-provisioner"}:       version("github.com/rancher/local-path-provisioner"),
		{"", "mlflow/mlflow"}:                "v" + mlflowVersion + "-full",
		{"mlflow-earlier", "mlflow/mlflow"}:  "v" + earlierMLflowVersion + "-full",
		{"google", "cloud-sql-proxy"}:        strings.TrimPrefix(version("github.com/GoogleCloudPlatform/cloud-sql-proxy/v2"), "v"),
		{"google", "fsouza/fake-gcs-server"}: strings.TrimPrefix(version("github.com/fsouza/fake-gcs-server"), "v"),
	}
	for of, tag := range tags {
		found := 0
		for _, image := range images.Of(list, of.addon) {
			if strings.Contains(image.Name, of.part) {
				found++
				if !strings.HasSuffix(image.Name, ":"+tag) {
					t.Errorf("%s holds %s", image.Name, tag)
				}
			}
		}
		if found == 0 {
			t.Errorf("no image is named after %s", of.part)
		}
	}
}

func TestAddons(t *testing.T) {
	list, folder := list(t)
	src := checkout{folder: folder}
	for _, image := range list {
		if image.Addon != "" && !slices.Contains(Addons(), image.Addon) {
			t.Errorf("images.yaml, %s: there is no addon %q", image.Name, image.Addon)
		}
	}
	for _, name := range Addons() {
		if len(images.Of(list, name)) == 0 {
			t.Errorf("no image is of addon %s", name)
		}
		text, err := os.ReadFile(src.addonManifests(name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		// All that it runs is there: its own images and those of every lab.
		names := imageNames(append(images.Of(list, ""), images.Of(list, name)...))
		if _, err := rewriteImages(string(text), names); err != nil {
			t.Errorf("addon %s: %v", name, err)
		}
	}
}

// Clean asks for everything without building: what it does not ask for is removed.
func TestPlanAsksForAddonsAndBuildsNothing(t *testing.T) {
	src, err := findCheckout()
	if err != nil {
		t.Fatal(err)
	}
	s := opened(t)
	s.plan = true
	below, err := ensureFull(t.Context(), s, src)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Addons() {
		if _, err := ensureAddon(t.Context(), s, src, name, below); err != nil {
			t.Fatal(err)
		}
	}
	var asked []string
	for name := range s.used.set {
		asked = append(asked, name[:strings.LastIndex(name, "-")])
	}
	for _, name := range []string{"registry", "registry-google", "registry-mlflow-earlier", "tree-mlflow-earlier", "program-cloud-sql-proxy"} {
		if !slices.Contains(asked, name) {
			t.Errorf("%s is not asked for, only %q", name, asked)
		}
	}
	if there, err := s.stale(); err != nil || len(there) > 0 {
		t.Errorf("built: %q, %v", there, err)
	}
	if steps, ok := s.reporter.(*steps); !ok || len(steps.names) > 0 {
		t.Errorf("done: %+v", s.reporter)
	}
}

func TestOnlyTreesThatAreNeededAreMade(t *testing.T) {
	recipes := []tree{{name: "debian"}, {name: "python", below: "debian"}, {name: "mlflow", below: "python"}, {name: "earlier", below: "mlflow", root: "python"}, {name: "static"}}
	for layer, want := range map[string][]string{
		"python":  {"debian", "python"},
		"earlier": {"debian", "earlier", "mlflow", "python"},
		"static":  {"static"},
	} {
		var got []string
		for name := range neededTrees([]images.Image{{Layers: []string{layer}}}, recipes) {
			if name != "" {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("an image with the layer %s needs %q, want %q", layer, got, want)
		}
	}
}

func TestReadmeListsTheImages(t *testing.T) {
	list, folder := list(t)
	text, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range list {
		differs := image.Differs
		if differs == "" {
			differs = "–"
		}
		if line := "| `" + image.Name + "` | " + image.For + " | " + differs + " |\n"; !strings.Contains(string(text), line) {
			t.Errorf("README.md lacks the line\n%s", line)
		}
	}
}

func TestRewriteImages(t *testing.T) {
	names := imageNames([]images.Image{
		{Name: "gcr.io/knative-releases/queue:v1", Sources: []string{"ko://knative.dev/serving/cmd/queue"}},
		{Name: "docker.io/library/busybox:latest", Sources: []string{"busybox"}},
		{Name: "docker.io/envoyproxy/envoy:v1"},
	})
	for _, test := range []struct{ name, in, out, err string }{
		{name: "source", in: "  image: ko://knative.dev/serving/cmd/queue", out: "  image: gcr.io/knative-releases/queue:v1"},
		{name: "list item", in: "      - image: busybox\n", out: "      - image: docker.io/library/busybox:latest\n"},
		{name: "quoted", in: "image: \"busybox\"", out: "image: docker.io/library/busybox:latest"},
		{name: "name already", in: "image: docker.io/envoyproxy/envoy:v1", out: "image: docker.io/envoyproxy/envoy:v1"},
		{name: "sidecar", in: "  queue-sidecar-image: ko://knative.dev/serving/cmd/queue", out: "  queue-sidecar-image: gcr.io/knative-releases/queue:v1"},
		{name: "schema", in: "image:\n  type: string", out: "image:\n  type: string"},
		{name: "another field", in: "podspec-volumes-image: \"disabled\"", out: "podspec-volumes-image: \"disabled\""},
		{name: "unknown", in: "image: nginx", err: "image nginx is not in images.yaml"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := rewriteImages(test.in, names)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %s", err, test.err)
				}
				return
			}
			if err != nil || out != test.out {
				t.Errorf("%q, %v; want %q", out, err, test.out)
			}
		})
	}
}

func TestManifestsAreCollectedInOrder(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"config/200-b.yaml": "# licence\n---\nkind: CustomResourceDefinition\nname: b\n---\nkind: Service\nname: b\n",
		"config/100-a.yaml": "kind: CustomResourceDefinition\nname: a\n",
		"config/notes.txt":  "kind: CustomResourceDefinition\nname: not yaml\n",
		"one.yaml":          "kind: CustomResourceDefinition\nname: one\n",
	} {
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := manifest{
		sources: []source{{"m", "one.yaml"}, {"m", "config"}},
		keep:    func(document string) bool { return strings.Contains(document, "CustomResourceDefinition") },
	}
	got, err := m.collect(map[string]download{"m": {Dir: folder}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "---\nkind: CustomResourceDefinition\nname: one\n---\nkind: CustomResourceDefinition\nname: a\n---\nkind: CustomResourceDefinition\nname: b\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSourceLines(t *testing.T) {
	const targets = `deb [/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian/ bookworm main
deb [/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian/ bookworm main
deb [] http://mirror.example/security/ bookworm-security main
deb [/etc/apt/keyrings/node.gpg] https://node.example/ nodistro main
deb [] http://mirror.example/debian/ bookworm contrib
`
	want := []string{
		"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian/ bookworm main",
		"deb http://mirror.example/security/ bookworm-security main",
	}
	// apt leaves a place empty where no key is named, or names the placeholder.
	for _, unsigned := range []string{"[]", "[$(SIGNED_BY)]"} {
		if got := sourceLines(strings.ReplaceAll(targets, "[]", unsigned)); !slices.Equal(got, want) {
			t.Errorf("unsigned as %s: %q", unsigned, got)
		}
	}
}

func TestDefaultName(t *testing.T) {
	for pkg, want := range map[string]string{
		"go.etcd.io/etcd/server/v3":       "server",
		"k8s.io/kubernetes/cmd/kubelet":   "kubelet",
		"example.com/version":             "version",
		"example.com/tools/v2/cmd/viewer": "viewer",
	} {
		if got := defaultName(pkg); got != want {
			t.Errorf("%s is %s, want %s", pkg, got, want)
		}
	}
}

func TestUnzip(t *testing.T) {
	folder := t.TempDir()
	file, err := os.Create(filepath.Join(folder, "uv-1-py3-none-any.whl"))
	if err != nil {
		t.Fatal(err)
	}
	archive := zip.NewWriter(file)
	for name, text := range map[string]string{"uv-1.data/scripts/uvx": "not it", "uv-1.data/scripts/uv": "program"} {
		entry, err := archive.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := entry.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(folder, "uv")
	if err := unzip(folder, "uv-*.whl", ".data/scripts/uv", to); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(to)
	info, statErr := os.Stat(to)
	if err != nil || statErr != nil || string(text) != "program" || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("%q, %v, %v", text, info, err)
	}
	for _, wrong := range [][2]string{{"envoy-*.whl", "envoy"}, {"uv-*.whl", "/envoy"}} {
		if err := unzip(folder, wrong[0], wrong[1], filepath.Join(folder, "no")); err == nil {
			t.Errorf("%s in %s was found", wrong[1], wrong[0])
		}
	}
}

func TestKnativesObjectsAreLabelledAsThoseOfARelease(t *testing.T) {
	got, err := released("labels:\n  app.kubernetes.io/version: devel\n", "v0.48.1")
	if want := "labels:\n  app.kubernetes.io/version: \"1.21.1\"\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := released("", "latest"); err == nil {
		t.Error("no version is taken for one")
	}
}
