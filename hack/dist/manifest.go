package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Plugin is krew's manifest, as far as this plugin uses it: krew's pkg/index/types.go, version v1alpha2.
type Plugin struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata names the plugin.
type Metadata struct {
	Name string `json:"name"`
}

// Spec says what the plugin is and where it is found.
type Spec struct {
	Version          string     `json:"version"`
	Homepage         string     `json:"homepage"`
	ShortDescription string     `json:"shortDescription"`
	Description      string     `json:"description"`
	Caveats          string     `json:"caveats,omitempty"`
	Platforms        []Platform `json:"platforms"`
}

// Platform is one archive.
type Platform struct {
	Selector Selector `json:"selector"`
	URI      string   `json:"uri"`
	SHA256   string   `json:"sha256"`
	Bin      string   `json:"bin"`
	Files    []File   `json:"files"`
}

func (p Platform) target() target {
	return target{p.Selector.MatchLabels["os"], p.Selector.MatchLabels["arch"]}
}

// Selector chooses a platform by the labels os and arch.
type Selector struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

// File is what is taken out of the archive.
type File struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func parse(text []byte) (*Plugin, error) {
	p := &Plugin{}
	if err := yaml.UnmarshalStrict(text, p); err != nil {
		return nil, err
	}
	return p, nil
}

// validate holds p against krew's rules (validate-krew-manifest), and against ours: every platform of want, and the
// licence in each.
func (p *Plugin) validate(want []target) []string {
	var wrong []string
	must := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	must(p.APIVersion == "krew.googlecontainertools.github.com/v1alpha2", "apiVersion is %q", p.APIVersion)
	must(p.Kind == "Plugin", "kind is %q", p.Kind)
	must(p.Metadata.Name == "mlflow", "metadata.name is %q", p.Metadata.Name)
	must(semantic().MatchString(p.Spec.Version), "spec.version %q is not a semantic version with a leading v", p.Spec.Version)
	must(strings.HasPrefix(p.Spec.Homepage, "https://"), "spec.homepage is %q", p.Spec.Homepage)
	must(p.Spec.ShortDescription != "" && len(p.Spec.ShortDescription) <= 70, "spec.shortDescription has %d characters, want 1 to 70", len(p.Spec.ShortDescription))
	must(!strings.HasSuffix(p.Spec.ShortDescription, "."), "spec.shortDescription ends with a full stop")
	for _, text := range []string{p.Spec.Description, p.Spec.Caveats} {
		for line := range strings.SplitSeq(text, "\n") {
			must(len(line) <= 80, "a line is longer than 80 characters: %s", line)
		}
	}
	seen := map[string]bool{}
	for i, platform := range p.Spec.Platforms {
		at := fmt.Sprintf("spec.platforms[%d]", i)
		labels := platform.Selector.MatchLabels
		name := labels["os"] + "/" + labels["arch"]
		must(len(labels) == 2 && !seen[name], "%s: selector %v is not one os and one arch, each pair once", at, labels)
		seen[name] = true
		must(checksum().MatchString(platform.SHA256), "%s: sha256 %q is not 64 lower-case hexadecimal digits", at, platform.SHA256)
		must(strings.HasPrefix(platform.URI, "https://") && (strings.HasSuffix(platform.URI, ".tar.gz") || strings.HasSuffix(platform.URI, ".zip")), "%s: uri %q", at, platform.URI)
		must(strings.Contains(platform.URI, "/"+p.Spec.Version+"/"), "%s: uri %q is not of version %s", at, platform.URI, p.Spec.Version)
		must(strings.HasSuffix(platform.Bin, ".exe") == (labels["os"] == "windows"), "%s: bin is %q", at, platform.Bin)
		for _, file := range []string{platform.Bin, "LICENSE"} {
			must(slices.Contains(platform.Files, File{From: file, To: "."}), "%s: files lack %s", at, file)
		}
	}
	for _, t := range want {
		must(seen[t.String()], "spec.platforms lacks %s", t)
	}
	return wrong
}

func semantic() *regexp.Regexp {
	return regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)
}

func checksum() *regexp.Regexp { return regexp.MustCompile(`^[a-f0-9]{64}$`) }
