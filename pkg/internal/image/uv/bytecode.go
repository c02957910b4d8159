package uv

import (
	"context"
	_ "embed" // for compile.py
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
)

//go:embed compile.py
var compiler string

const (
	// Shards is how many interpreters compile. It is fixed: what is compiled together is part of what comes out.
	Shards = 4
	// importing is how long the server's imports may take.
	importing = 2 * time.Minute
)

// compile writes the bytecode of what the server imports, so that a pod does not compile it at every start. It returns a sentence on
// what it did. Bytecode belongs to one version of Python: without an interpreter of it here there is none, and pods start slower.
func (b *Builder) compile(ctx context.Context, uv, dir, target string, e image.Environment) (note string, err error) {
	version := image.MajorMinor(e.Python)
	out, err := run(ctx, dir, os.Environ(), nil, uv, "python", "find", "--no-python-downloads", "--no-project", version)
	if ctx.Err() != nil {
		return "", fmt.Errorf("compile bytecode: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Sprintf("packing without bytecode, for want of Python %s here: pods start slower", version), nil
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	python := lines[len(lines)-1]
	files, traced, err := b.imported(ctx, python, dir, target, e)
	if err != nil {
		return "", err
	}
	if !traced {
		if files, err = sources(target); err != nil {
			return "", err
		}
	}
	g, compiling := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for shard := range Shards {
		var part []string
		for i := shard; i < len(files); i += Shards {
			part = append(part, files[i])
		}
		g.Go(func() error {
			out, err := run(compiling, dir, pythonEnvironment(dir), []byte(strings.Join(part, "\n")),
				python, "-s", "-S", "-c", compiler, target, image.EnvironmentDir)
			if err != nil {
				return fmt.Errorf("compile bytecode: %w: %s", err, strings.TrimSpace(out))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	if !traced {
		return "packing, with bytecode of all packages", nil
	}
	return "packing, with bytecode of what the server imports", nil
}

// imported lists the sources below target that the server imports, by importing them. That takes this machine to be of the image's
// platform; ok is false where it is not, or where something cannot be imported here.
func (b *Builder) imported(ctx context.Context, python, dir, target string, e image.Environment) (files []string, ok bool, err error) {
	if b.Launcher == nil || e.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		return nil, false, nil
	}
	launcher := filepath.Join(dir, "launcher")
	if err := os.CopyFS(launcher, b.Launcher); err != nil {
		return nil, false, fmt.Errorf("write the launcher: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, importing)
	defer cancel()
	env := append(pythonEnvironment(dir), "PYTHONPATH="+target)
	out, err := run(limited, dir, env, nil, python, "-s", filepath.Join(launcher, "launcher.py"), "--list-imports")
	if ctx.Err() != nil {
		return nil, false, fmt.Errorf("list the server's imports: %w", ctx.Err())
	}
	if err != nil {
		return nil, false, nil //nolint:nilerr // not imported here is not a failure: then all is compiled
	}
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), target+string(filepath.Separator)); ok && strings.HasSuffix(name, ".py") {
			files = append(files, filepath.ToSlash(name))
		}
	}
	slices.Sort(files)
	return slices.Compact(files), len(files) > 0, nil
}

// pythonEnvironment keeps the user's credentials and settings away from the packages' code.
func pythonEnvironment(dir string) []string {
	return []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH"), "PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE=1"}
}

// sources lists all Python files below dir.
func sources(dir string) (files []string, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(name, ".py") {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the environment's sources: %w", err)
	}
	return files, nil
}

// CompileScript is a Python program that compiles, for a builder elsewhere, as this one does with Shards of it.
func CompileScript() string { return compiler }
