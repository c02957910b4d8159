//go:build release

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const (
	testVersion = "v0.0.0-test"
	most        = 36_000_000 // bytes of a binary
)

// here is the platform that the tests run on.
func here() target { return target{runtime.GOOS, runtime.GOARCH} }

// TestRelease makes the release of this platform twice, and installs it the way krew does, under kubectls that users have.
func TestRelease(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	out := makeDist(t, root)
	t.Run("equal bytes from another folder", func(t *testing.T) { equal(t, out, makeDist(t, export(t, root))) })
	t.Run("small", func(t *testing.T) { small(t, filepath.Join(out, here().archive(testVersion))) })

	bin := t.TempDir()
	run(t, os.Environ(), "go", "build", "-C", filepath.Join(root, "hack/krew"), "-trimpath", "-o", bin+"/", "tool")
	k := krew{bin: bin, manifest: filepath.Join(out, "krew/mlflow.yaml"), archive: filepath.Join(out, here().archive(testVersion))}
	t.Run("krew takes the manifest", func(t *testing.T) {
		run(t, os.Environ(), filepath.Join(bin, "validate-krew-manifest"), "-manifest", k.manifest, "-skip-install")
	})
	t.Run("krew refuses another archive", k.refuses)
	kubectls := filepath.Join(cache(t), "kubectls")
	run(t, os.Environ(), python(t), "kubectls.py", kubectls)
	for _, age := range []string{"oldest", "newest"} {
		t.Run("installed under the "+age+" kubectl", func(t *testing.T) { k.installs(t, filepath.Join(kubectls, age)) })
	}
}

// makeDist runs make as whoever releases does.
func makeDist(t *testing.T, tree string) string {
	t.Helper()
	out := t.TempDir()
	run(t, os.Environ(), "make", "-C", tree, "dist", "VERSION="+testVersion, "PLATFORMS="+here().String(), "DIST="+out)
	return out
}

// export copies what git knows of the tree, or would.
func export(t *testing.T, root string) string {
	t.Helper()
	to := t.TempDir()
	list := run(t, os.Environ(), "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.Trim(list, "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and not yet from the index
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(to, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func equal(t *testing.T, one, other string) {
	t.Helper()
	for _, name := range []string{here().archive(testVersion), "checksums.txt", "krew/mlflow.yaml"} {
		a, err := os.ReadFile(filepath.Join(one, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s: two builds of one tree differ", name)
		}
	}
}

func small(t *testing.T, archive string) {
	t.Helper()
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for r := tar.NewReader(z); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names[header.Name] = true
		if header.Size > most {
			t.Errorf("%s has %d bytes, want at most %d: go tool nm -size tells what came in", header.Name, header.Size, most)
		}
	}
	for _, name := range []string{here().binary(), "LICENSE", here().completion()} {
		if !names[name] {
			t.Errorf("the archive lacks %s: %v", name, names)
		}
	}
}

// krew is krew itself, and what it is to install.
type krew struct{ bin, manifest, archive string }

// install runs krew in a home of its own, and returns that home's environment.
func (k krew) install(t *testing.T, path, archive string) ([]string, error) {
	t.Helper()
	home := t.TempDir()
	env := []string{"HOME=" + home, "KREW_ROOT=" + home + "/krew", "KREW_NO_UPGRADE_CHECK=1", "PATH=" + strings.Join([]string{home + "/krew/bin", path, "/usr/bin", "/bin"}, ":")}
	cmd := exec.CommandContext(t.Context(), filepath.Join(k.bin, "krew"), "install", "--manifest="+k.manifest, "--archive="+archive)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	t.Logf("krew install: %v\n%s", err, out)
	return env, err
}

func (k krew) refuses(t *testing.T) {
	content, err := os.ReadFile(k.archive)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	other := filepath.Join(t.TempDir(), filepath.Base(k.archive))
	if err := os.WriteFile(other, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.install(t, k.bin, other); err == nil {
		t.Error("krew installed an archive whose checksum is not the manifest's")
	}
}

func (k krew) installs(t *testing.T, kubectl string) {
	env, err := k.install(t, kubectl, k.archive)
	if err != nil {
		t.Fatal("krew does not install it")
	}
	program := filepath.Join(kubectl, "kubectl")
	if out := run(t, env, program, "mlflow", "version"); !strings.Contains(out, testVersion) {
		t.Errorf("kubectl mlflow version: %s", out)
	}
	run(t, env, program, "mlflow", "completion", "install")
	if out := run(t, env, program, "__complete", "mlflow", "deployments", "li"); !strings.HasPrefix(out, "list\t") {
		t.Errorf("kubectl mlflow deployments li<TAB>: %s", out)
	}
	if out := run(t, env, program, "plugin", "list"); !strings.Contains(out, "kubectl-mlflow") || strings.Contains(out, "warning") {
		t.Errorf("kubectl plugin list: %s", out)
	}
}

// TestOtherPlatforms looks at what is only compiled there.
func TestOtherPlatforms(t *testing.T) {
	for _, platform := range []target{{"darwin", "arm64"}, {"windows", "amd64"}} {
		t.Run(platform.String(), func(t *testing.T) {
			env := append(os.Environ(), "CGO_ENABLED=0", "GOOS="+platform.os, "GOARCH="+platform.arch)
			run(t, env, "go", "-C", "../..", "vet", "-tags", "kustomize_disable_go_plugin_support,grpcnotrace", "./cmd/...", "./pkg/...")
		})
	}
}

// run returns what a command printed, which has to succeed.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = env
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String() + errOut.String()
}

func cache(t *testing.T) string {
	t.Helper()
	folder, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "kubectl-mlflow")
}

// python is one that has pip. The first in the PATH need not be Debian's, which the lab gives a pip.
func python(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), python, "-m", "pip", "--version").Run() == nil {
			return python
		}
	}
	t.Fatal("no python3 with pip: kubectl comes from PyPI")
	return ""
}
