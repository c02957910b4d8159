// Command dist makes what a release consists of: an archive for each platform with the binary and the licence,
// checksums.txt, and the krew manifest with the addresses and checksums of the archives.
//
//	go run ./hack/dist -version v0.1.0 -out dist
//	go run ./hack/dist -check krew.yaml
//
// Two runs over the same tree give the same bytes.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
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

func targets() []target {
	return []target{{"darwin", "amd64"}, {"darwin", "arm64"}, {"linux", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"}}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	version := flags.String("version", "", "version of the release, with a leading v")
	out := flags.String("out", "dist", "folder for the results")
	check := flags.String("check", "", "only check this krew manifest")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *check != "" {
		return checkFile(*check)
	}
	sums := map[target]string{}
	if err := os.MkdirAll(filepath.Join(*out, "krew"), 0o750); err != nil {
		return err
	}
	var list strings.Builder
	for i, t := range targets() {
		fmt.Fprintf(os.Stderr, "[%d/%d] %s\n", i+1, len(targets()), t)
		name := t.archive(*version)
		archive, err := release(ctx, t, *version)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		if err := os.WriteFile(filepath.Join(*out, name), archive, 0o600); err != nil {
			return err
		}
		sum := sha256.Sum256(archive)
		sums[t] = hex.EncodeToString(sum[:])
		fmt.Fprintf(&list, "%s  %s\n", sums[t], name)
	}
	if err := os.WriteFile(filepath.Join(*out, "checksums.txt"), []byte(list.String()), 0o600); err != nil {
		return err
	}
	return writeManifest(filepath.Join(*out, "krew", "mlflow.yaml"), *version, sums)
}

// release builds the program for t and packs it with the licence.
func release(ctx context.Context, t target, version string) ([]byte, error) {
	folder, err := os.MkdirTemp("", "dist")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	binary := filepath.Join(folder, t.binary())
	//nolint:gosec // the version is given by whoever runs this
	build := exec.CommandContext(ctx, "go", "build", "-tags", "kustomize_disable_go_plugin_support,grpcnotrace", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+version, "-o", binary, "./cmd/"+program)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("go build: %w", err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	licence, err := os.ReadFile("LICENSE")
	if err != nil {
		return nil, err
	}
	return pack(t.archive(version), []member{{"LICENSE", 0o644, licence}, {t.binary(), 0o755, content}})
}

// writeManifest fills the template's version, addresses and checksums in.
func writeManifest(file, version string, sums map[target]string) error {
	text, err := os.ReadFile(template)
	if err != nil {
		return err
	}
	p, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", template, err)
	}
	p.fill(version, sums)
	if wrong := p.validate(); len(wrong) > 0 {
		return fmt.Errorf("%s: %s", file, strings.Join(wrong, "; "))
	}
	if text, err = yaml.Marshal(p); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

func (p *Plugin) fill(version string, sums map[target]string) {
	p.Spec.Version = version
	for i := range p.Spec.Platforms {
		platform := &p.Spec.Platforms[i]
		t := target{platform.Selector.MatchLabels["os"], platform.Selector.MatchLabels["arch"]}
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
	wrong := p.validate()
	errs := make([]error, len(wrong))
	for i, w := range wrong {
		errs[i] = fmt.Errorf("%s: %s", file, w)
	}
	return errors.Join(errs...)
}
