package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func plugin(t *testing.T) *Plugin {
	t.Helper()
	text, err := os.ReadFile("../../krew.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheManifestIsValidAndStaysSoWhenFilled(t *testing.T) {
	p := plugin(t)
	if wrong := p.validate(targets()); len(wrong) > 0 {
		t.Errorf("krew.yaml: %v", wrong)
	}
	sums := map[target]string{}
	for _, target := range targets() {
		sums[target] = strings.Repeat("ab", 32)
	}
	p.fill("v1.2.3-4-gabcdef", sums)
	if wrong := p.validate(targets()); len(wrong) > 0 {
		t.Errorf("filled: %v", wrong)
	}
	if got, want := p.Spec.Platforms[4].URI, releases+"v1.2.3-4-gabcdef/kubectl-mlflow_v1.2.3-4-gabcdef_windows_amd64.zip"; got != want {
		t.Errorf("uri is %s, want %s", got, want)
	}
}

func TestValidateFinds(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Plugin)
		want  string
	}{
		"version without v":  {func(p *Plugin) { p.Spec.Version = "1.0.0" }, "leading v"},
		"capital checksum":   {func(p *Plugin) { p.Spec.Platforms[0].SHA256 = strings.Repeat("AB", 32) }, "lower-case"},
		"platform twice":     {func(p *Plugin) { p.Spec.Platforms[0].Selector = p.Spec.Platforms[1].Selector }, "each pair once"},
		"platform missing":   {func(p *Plugin) { p.Spec.Platforms = p.Spec.Platforms[1:] }, "lacks darwin/amd64"},
		"no licence":         {func(p *Plugin) { p.Spec.Platforms[2].Files = p.Spec.Platforms[2].Files[:1] }, "files lack LICENSE"},
		"exe on linux":       {func(p *Plugin) { p.Spec.Platforms[2].Bin = "kubectl-mlflow.exe" }, "bin is"},
		"other version's":    {func(p *Plugin) { p.Spec.Version = "v9.9.9" }, "is not of version"},
		"short as a novel":   {func(p *Plugin) { p.Spec.ShortDescription = strings.Repeat("x", 71) }, "shortDescription"},
		"named as its index": {func(p *Plugin) { p.Metadata.Name = "krew" }, "metadata.name"},
	} {
		t.Run(name, func(t *testing.T) {
			p := plugin(t)
			c.spoil(p)
			if wrong := strings.Join(p.validate(targets()), "\n"); !strings.Contains(wrong, c.want) {
				t.Errorf("validate says %q, want something with %q", wrong, c.want)
			}
		})
	}
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	if _, err := parse([]byte("spec:\n  shortDesc: x\n")); err == nil {
		t.Error("a misspelt field was accepted")
	}
}

func TestPackIsReproducibleAndReadable(t *testing.T) {
	members := []member{{"LICENSE", 0o644, []byte("free")}, {"kubectl-mlflow", 0o755, []byte("binary")}}
	for _, name := range []string{"a.tar.gz", "a.zip"} {
		one, err := pack(name, members)
		if err != nil {
			t.Fatal(err)
		}
		two, err := pack(name, members)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, two) {
			t.Errorf("%s: two archives of the same files differ", name)
		}
	}
	compressed, err := pack("a.tar.gz", members)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	for r, i := tar.NewReader(z), 0; ; i++ {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			if i != 2 {
				t.Errorf("%d files in the .tar.gz", i)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil || string(content) != string(members[i].content) || header.Mode != int64(members[i].mode) {
			t.Errorf("%s: %q, mode %o, %v", header.Name, content, header.Mode, err)
		}
	}
	if compressed, err = pack("a.zip", members); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(compressed), int64(len(compressed)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.File) != 2 || r.File[1].Name != "kubectl-mlflow" || r.File[1].Mode().Perm() != 0o755 {
		t.Errorf("the .zip holds %v", r.File)
	}
}

// TestGoreleaserBuildsTheSame holds .goreleaser.yaml against what make dist builds with.
func TestGoreleaserBuildsTheSame(t *testing.T) {
	text, err := os.ReadFile("../../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Builds []struct {
			Tags, Flags, Ldflags, Targets []string
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	b := config.Builds[0]
	if line := "\nTAGS := " + strings.Join(b.Tags, ",") + "\n"; !strings.Contains(string(makefile), line) {
		t.Errorf("the Makefile lacks %q", line)
	}
	ours := strings.Join(arguments(build{version: "{{ .Tag }}"}, "x"), " ")
	for _, part := range append(b.Flags, b.Ldflags...) {
		if !strings.Contains(ours, part) {
			t.Errorf("make dist builds without %q: %s", part, ours)
		}
	}
	var named []string
	for _, name := range b.Targets {
		system, rest, _ := strings.Cut(name, "_")
		architecture, _, _ := strings.Cut(rest, "_")
		named = append(named, system+"/"+architecture)
	}
	if want := fmt.Sprint(targets()); fmt.Sprint(named) != want {
		t.Errorf("goreleaser builds for %v, make dist for %s", named, want)
	}
}
