package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Wheel is a wheel that a model brings with it, as mlflow.models.add_libraries_to_model or code_paths put it there.
type Wheel struct {
	Path   string // in the model, slash-separated: wheels/mine-1.0-py3-none-any.whl
	SHA256 string // lower-case hex
	// Open reads it whole.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// readingWheels is how many wheels are read at a time.
const readingWheels = 4

// Wheels finds the wheels in f that m's requirements name, by path or by a directory after --find-links, sorted by path. A wheel whose
// digest the store does not know is read for it. failure.Invalid names a wheel that is not among the model's files.
func Wheels(ctx context.Context, f Files, m *Model) ([]Wheel, error) {
	lines := slices.Concat(m.Requirements, m.Constraints)
	if !slices.ContainsFunc(lines, namesWheels) {
		return nil, nil
	}
	listed, err := f.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the model's files: %w", err)
	}
	named := map[string]bool{}
	for _, line := range lines {
		if name, _, ok := LocalWheel(line); ok {
			if !slices.ContainsFunc(listed, func(file File) bool { return file.Path == name }) {
				return nil, wheelMissing(name)
			}
			named[name] = true
		}
		if dir, ok := LocalLinks(line); ok {
			for _, file := range listed {
				if path.Dir(file.Path) == dir && path.Ext(file.Path) == ".whl" {
					named[file.Path] = true
				}
			}
		}
	}
	var wheels []Wheel
	for _, file := range listed {
		if named[file.Path] {
			wheels = append(wheels, Wheel{Path: file.Path, SHA256: file.SHA256, Open: func(ctx context.Context) (io.ReadCloser, error) {
				return f.Open(ctx, file.Path, 0)
			}})
		}
	}
	g, reading := errgroup.WithContext(ctx)
	g.SetLimit(readingWheels)
	for i := range wheels {
		if wheels[i].SHA256 == "" {
			g.Go(func() (err error) {
				wheels[i].SHA256, err = digest(reading, wheels[i])
				return err
			})
		}
	}
	return wheels, g.Wait()
}

func digest(ctx context.Context, w Wheel) (string, error) {
	in, err := w.Open(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", w.Path, err)
	}
	sum := sha256.New()
	_, err = io.Copy(sum, in)
	if err = errors.Join(err, in.Close()); err != nil {
		return "", fmt.Errorf("%s: %w", w.Path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func wheelMissing(name string) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "WheelMissing",
		Message: fmt.Sprintf("the requirement %s is a wheel that is not among the model's files", name),
		Hint: fmt.Sprintf("log the model again with the wheel in it: code_paths=[%q], pip_requirements=[%q]",
			path.Base(name), "code/"+path.Base(name)),
	}
}

func namesWheels(line string) bool {
	_, _, wheel := LocalWheel(line)
	_, links := LocalLinks(line)
	return wheel || links
}

// wheelLine is a path, no URL, and what stands behind it.
func wheelLine() *regexp.Regexp {
	return regexp.MustCompile(`^([^\s\[;@:\\]+\.whl)($|[\s\[;].*$)`)
}

func linksLine() *regexp.Regexp {
	return regexp.MustCompile(`^(?:--find-links|-f)(?:\s+|\s*=\s*)([^\s:]+)$`)
}

func extrasOf() *regexp.Regexp {
	return regexp.MustCompile(`^\[[^\]]*\]`)
}

// LocalWheel takes the path of a wheel in the model out of a requirement that is one, and what stands behind it (extras, markers,
// hashes). URLs, and paths that lead out of the model, are none.
func LocalWheel(line string) (name, rest string, ok bool) {
	found := wheelLine().FindStringSubmatch(strings.TrimSpace(line))
	if found == nil {
		return "", "", false
	}
	name = path.Clean(found[1])
	return name, found[2], fs.ValidPath(name)
}

// LocalLinks is the directory of the model that a line such as "--find-links wheels" names.
func LocalLinks(line string) (dir string, ok bool) {
	found := linksLine().FindStringSubmatch(strings.TrimSpace(line))
	if found == nil {
		return "", false
	}
	dir = path.Clean(found[1])
	return dir, fs.ValidPath(dir)
}

// Plain is a requirement as an index would have it, mine==1.0 for wheels/mine-1.0-py3-none-any.whl; every other line is as it was.
func Plain(line string) string {
	name, rest, ok := LocalWheel(line)
	if !ok {
		return line
	}
	parts := strings.Split(strings.TrimSuffix(path.Base(name), ".whl"), "-")
	if len(parts) < 2 {
		return line
	}
	extras := extrasOf().FindString(rest)
	return strings.ReplaceAll(parts[0], "_", "-") + extras + "==" + parts[1] + strings.TrimPrefix(rest, extras)
}
