package docker

import (
	"archive/tar"
	"context"
	_ "embed" // for install.py
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/uv"
)

//go:embed install.py
var installer string

// dockerfile has no "# syntax" line, for which the engine would fetch a frontend. %s is the base image. The last stage is what is sent back.
const dockerfile = `FROM %s AS build
USER root
RUN --mount=type=bind,target=/context --mount=type=secret,id=index,target=/run/secrets/index,required=true ` +
	`--mount=type=cache,id=kubectl-mlflow,target=/var/cache/kubectl-mlflow ["python3", "/context/install.py"]
FROM scratch
COPY --from=build /out /
`

// plan is what install.py is told.
type plan struct {
	Apt       []string `json:"apt"`
	Git       bool     `json:"git"`
	UV        string   `json:"uv"` // requirement
	Arguments []string `json:"arguments"`
	Bytecode  bytecode `json:"bytecode"`
}

type bytecode struct {
	Directory string `json:"directory"`
	Shards    int    `json:"shards"`
}

// writeContext writes into dir what the build is made of.
func writeContext(ctx context.Context, dir string, e image.Environment, launcher fs.FS) error {
	arguments, err := uv.Wanted(ctx, filepath.Join(dir, "model"), e)
	if err != nil {
		return err
	}
	p := plan{Apt: slices.Concat([]string{}, e.Apt), UV: uv.Pinned(), Arguments: arguments, Bytecode: bytecode{image.EnvironmentDir, uv.Shards}}
	for _, line := range slices.Concat(e.Requirements, e.Constraints) {
		p.Git = p.Git || strings.Contains(line, "git+")
	}
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write the build's plan: %w", err)
	}
	for name, content := range map[string]string{
		"Dockerfile": fmt.Sprintf(dockerfile, e.Base), "install.py": installer, "compile.py": uv.CompileScript(), "plan.json": string(text),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write the build's context: %w", err)
		}
	}
	if launcher == nil {
		return nil
	}
	if err := os.CopyFS(filepath.Join(dir, "launcher"), launcher); err != nil {
		return fmt.Errorf("write the launcher: %w", err)
	}
	return nil
}

// secret is what install.py gets as a mounted file, which is in no layer.
func secret(e image.Environment) ([]byte, error) {
	variables, cas, err := uv.Elsewhere(e)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Variables map[string]string `json:"variables"`
		CAs       []byte            `json:"cas"`
	}{variables, cas})
}

// sendContext writes dir as an archive, without times and owners, so that the engine knows again what it has built.
func sendContext(dir string, to io.Writer) error {
	archive := tar.NewWriter(to)
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size()}
		if d.IsDir() {
			header.Name, header.Typeflag, header.Mode, header.Size = name+"/", tar.TypeDir, 0o755, 0
		}
		if err := archive.WriteHeader(header); err != nil || d.IsDir() {
			return err
		}
		in, err := root.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(archive, in)
		return errors.Join(err, in.Close())
	})
	return errors.Join(err, archive.Close())
}

// systemArchive is the file of system packages in what comes back.
const systemArchive = "system.tar"

// unpack writes the packages that come back below dir, and hands the archive of system packages, where there is one, to system.
func unpack(from io.Reader, dir string, system func(io.Reader) error) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	archive := tar.NewReader(from)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.FromSlash(strings.TrimSuffix(strings.TrimPrefix(header.Name, "./"), "/"))
		switch {
		case name == systemArchive && header.Typeflag == tar.TypeReg:
			err = system(archive)
		case header.Typeflag == tar.TypeDir && (name == "" || name == "."):
		case header.Typeflag == tar.TypeDir:
			err = root.MkdirAll(name, 0o700)
		case header.Typeflag == tar.TypeReg:
			err = write(root, name, fs.FileMode(header.Mode).Perm()|0o600, archive) //nolint:gosec // nine bits of it
		default:
			err = fmt.Errorf("%s is neither a file nor a directory", header.Name)
		}
		if err != nil {
			return err
		}
	}
}

func write(root *os.Root, name string, mode fs.FileMode, in io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
