// Command dist makes what a release consists of: an archive for each platform with the binary, the licence and the script
// of the completion, checksums.txt, and the krew manifest with the addresses and checksums of the archives.
//
//	go run ./hack/dist -version v0.1.0 -tags TAGS -out dist
//	go run ./hack/dist -version v0.1.0 -checksums dist/checksums.txt -out dist
//	go run ./hack/dist -check krew.yaml
//
// Two runs over the same tree give the same bytes. The second form makes the manifest alone, of archives that are there.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	program  = "kubectl-mlflow"
	releases = "https://github.com/kubectl-mlflow/kubectl-mlflow/releases/download/"
	template = "krew.yaml"
)

// target is a platform that we build for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

func (t target) binary() string {
	if t.os == "windows" {
		return program + ".exe"
	}
	return program
}

func (t target) archive(version string) string {
	ending := ".tar.gz"
	if t.os == "windows" {
		ending = ".zip"
	}
	return strings.Join([]string{program, version, t.os, t.arch}, "_") + ending
}

// completion is the script through which kubectl completes, where nobody made the link.
func (t target) completion() string {
	if t.os == "windows" {
		return "kubectl_complete-mlflow.cmd"
	}
	return "kubectl_complete-mlflow"
}

func targets() []target {
	return []target{{"darwin", "amd64"}, {"darwin", "arm64"}, {"linux", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"}}
}

// chosen are the targets of a comma-separated list, all where it is empty.
func chosen(list string) ([]target, error) {
	if list == "" {
		return targets(), nil
	}
	var out []target
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(targets(), func(t target) bool { return t.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("no platform %q: there are %v", name, targets())
		}
		out = append(out, targets()[i])
	}
	return out, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := distribute(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func distribute(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	b := build{}
	flags.StringVar(&b.version, "version", "", "version of the release, with a leading v")
	flags.StringVar(&b.tags, "tags", "", "build tags of the program")
	flags.StringVar(&b.out, "out", "dist", "folder for the results")
	platforms := flags.String("platforms", "", "build these alone, for instance linux/amd64,linux/arm64")
	checksums := flags.String("checksums", "", "build nothing: write the krew manifest of the archives in this file")
	check := flags.String("check", "", "only check this krew manifest")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *check != "" {
		return checkFile(*check)
	}
	list, err := chosen(*platforms)
	if err != nil {
		return err
	}
	if *checksums == "" {
		*checksums = filepath.Join(b.out, "checksums.txt")
		if err := b.archives(ctx, list, *checksums); err != nil {
			return err
		}
	}
	sums, err := b.sums(list, *checksums)
	if err != nil {
		return err
	}
	return b.manifest(sums)
}

// build is one release in the making.
type build struct{ version, tags, out string }

// archives builds for each target, and lists the archives with their sums in a file.
func (b build) archives(ctx context.Context, list []target, checksums string) error {
	if err := os.MkdirAll(b.out, 0o750); err != nil {
		return err
	}
	var lines strings.Builder
	for i, t := range list {
		fmt.Fprintf(os.Stderr, "[%d/%d] %s\n", i+1, len(list), t)
		archive, err := b.archive(ctx, t)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		name := t.archive(b.version)
		if err := os.WriteFile(filepath.Join(b.out, name), archive, 0o600); err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(archive), name)
	}
	return os.WriteFile(checksums, []byte(lines.String()), 0o600)
}

// archive builds the program for t and packs it with what belongs to it.
func (b build) archive(ctx context.Context, t target) ([]byte, error) {
	folder, err := os.MkdirTemp("", "dist")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	binary := filepath.Join(folder, t.binary())
	compile := exec.CommandContext(ctx, "go", arguments(b, binary)...) //nolint:gosec // version and tags are given by whoever runs this
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOOS="+t.os, "GOARCH="+t.arch)
	compile.Stdout, compile.Stderr = os.Stderr, os.Stderr
	if err := compile.Run(); err != nil {
		return nil, fmt.Errorf("go build: %w", err)
	}
	var members []member
	for _, m := range []struct {
		name, file string
		mode       fs.FileMode
	}{
		{"LICENSE", "LICENSE", 0o644},
		{t.binary(), binary, 0o755},
		{t.completion(), "pkg/cmd/completion/" + t.completion(), 0o755},
	} {
		content, err := os.ReadFile(m.file)
		if err != nil {
			return nil, err
		}
		members = append(members, member{m.name, m.mode, content})
	}
	return pack(t.archive(b.version), members)
}

// arguments are those of go, for a binary that holds nothing of when and where it was built.
func arguments(b build, binary string) []string {
	return []string{"build", "-tags", b.tags, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version=" + b.version, "-o", binary, "./cmd/" + program}
}

// sums reads the archives' checksums.
func (b build) sums(list []target, file string) (map[target]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	byName := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 {
			byName[fields[1]] = fields[0]
		}
	}
	sums := map[target]string{}
	for _, t := range list {
		sum, ok := byName[t.archive(b.version)]
		if !ok {
			return nil, fmt.Errorf("%s names no %s", file, t.archive(b.version))
		}
		sums[t] = sum
	}
	return sums, nil
}

// manifest fills version, addresses and checksums into krew.yaml, and writes it under the name that krew's index wants.
func (b build) manifest(sums map[target]string) error {
	text, err := os.ReadFile(template)
	if err != nil {
		return err
	}
	p, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", template, err)
	}
	p.fill(b.version, sums)
	file := filepath.Join(b.out, "krew", "mlflow.yaml")
	if wrong := p.validate(slices.Collect(maps.Keys(sums))); len(wrong) > 0 {
		return fmt.Errorf("%s: %s", file, strings.Join(wrong, "; "))
	}
	if text, err = yaml.Marshal(p); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// fill makes p the manifest of the archives that have sums.
func (p *Plugin) fill(version string, sums map[target]string) {
	p.Spec.Version = version
	p.Spec.Platforms = slices.DeleteFunc(p.Spec.Platforms, func(platform Platform) bool { return sums[platform.target()] == "" })
	for i := range p.Spec.Platforms {
		platform := &p.Spec.Platforms[i]
		t := platform.target()
		platform.URI = releases + version + "/" + t.archive(version)
		platform.SHA256 = sums[t]
	}
}

func checkFile(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	p, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	wrong := p.validate(targets())
	errs := make([]error, len(wrong))
	for i, w := range wrong {
		errs[i] = fmt.Errorf("%s: %s", file, w)
	}
	return errors.Join(errs...)
}
