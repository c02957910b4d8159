package uv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

// install unpacks the wheels of e's requirements into target. python is the full version that they are chosen for. uv needs some
// Python interpreter on this machine, of any version; where it finds none it fetches one.
func install(ctx context.Context, uv, dir, target string, e image.Environment, python string) error {
	platform, err := pythonPlatform(e.Platform, e.Wheels)
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "model")
	wanted, err := Wanted(ctx, dir, e)
	if err != nil {
		return err
	}
	args := append([]string{
		"pip", "install", "--color", "never", "--no-progress",
		"--target", target, "--python-version", python, "--python-platform", platform, "--only-binary", ":all:",
	}, wanted...)
	settings, err := readSettings()
	if err != nil {
		return err
	}
	out, err := run(ctx, dir, settings.environment(os.Environ()), nil, uv, args...)
	if err != nil {
		return Explain(ctx, err, out, e)
	}
	return nil
}

// Wanted writes what e asks for into dir, which uv is to work in, and returns the arguments of `uv pip install` that name it. The model's
// own wheels lie where its requirements name them, beside the requirements.
func Wanted(ctx context.Context, dir string, e image.Environment) (args []string, err error) {
	if e.TorchBackend != "" && e.TorchBackend != image.TorchNone {
		args = append(args, "--torch-backend", e.TorchBackend)
	}
	if err := writeWheels(ctx, dir, e.Wheels); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		option, file string
		lines        []string
	}{{"--requirements", "requirements.txt", e.Requirements}, {"--constraints", "constraints.txt", e.Constraints}} {
		if len(list.lines) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, list.file), []byte(strings.Join(list.lines, "\n")+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("write the requirements: %w", err)
		}
		args = append(args, list.option, list.file)
	}
	return args, nil
}

// writeWheels writes each wheel to its path below dir, and cannot write elsewhere.
func writeWheels(ctx context.Context, dir string, wheels []model.Wheel) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a directory for the model's wheels: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the directory for the model's wheels: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, w := range wheels {
		if err := writeWheel(ctx, root, w); err != nil {
			return fmt.Errorf("the model's wheel %s: %w", w.Path, err)
		}
	}
	return nil
}

func writeWheel(ctx context.Context, root *os.Root, w model.Wheel) (err error) {
	if err := root.MkdirAll(path.Dir(w.Path), 0o700); err != nil {
		return err
	}
	in, err := w.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := root.OpenFile(w.Path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, sum), in)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	// The environment is known by the digest from before: another wheel must not come under its name.
	if got := hex.EncodeToString(sum.Sum(nil)); got != w.SHA256 {
		return fmt.Errorf("it has sha256 %s, want %s: it changed, or did not arrive whole", got, w.SHA256)
	}
	return nil
}

// run returns what the program wrote to both streams; in is its standard input.
func run(ctx context.Context, dir string, env []string, in []byte, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...) // #nosec G204 G702 -- uv, or an interpreter that uv named
	cmd.Dir, cmd.Env, cmd.Stdin = dir, env, bytes.NewReader(in)
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// evidence is how many of uv's last lines a failure carries.
const evidence = 15

// verdict is one thing that uv says, in our words.
type verdict struct {
	pattern               *regexp.Regexp
	reason, message, hint string // $1 is the pattern's first group
}

func verdicts(e image.Environment) []verdict {
	at := fmt.Sprintf("Python %s on %s", image.MajorMinor(e.Python), e.Platform)
	const relog = "change the requirement and log the model again"
	compile := func(pattern, reason, message, hint string) verdict {
		return verdict{regexp.MustCompile(pattern), reason, message, hint}
	}
	return []verdict{
		compile(`(?i)(?:401|unauthorized)`, "PackageIndexUnauthorized", "the Python package index did not accept the credentials for it",
			"check the index's URL and its user in UV_DEFAULT_INDEX, PIP_INDEX_URL, pip.conf or ~/.netrc"),
		compile(`(?i)(?:403|forbidden)`, "PackageIndexForbidden", "the Python package index does not allow to read from it",
			"check the index's URL and its user in UV_DEFAULT_INDEX, PIP_INDEX_URL, pip.conf or ~/.netrc"),
		compile(`(?i)invalid peer certificate|unknownissuer`, "PackageIndexCertificate", "the certificate of the Python package index is not trusted here",
			"name the file with its CA in SSL_CERT_FILE, PIP_CERT or pip.conf"),
		compile(`(?i)no interpreter found|python-build-standalone`, "PythonMissing", "uv needs a Python interpreter, of any version, and found none",
			"install Python 3"),
		compile(`(?i)no space left on device`, "DiskFull", "the disk is full", "make room in the cache directory"),
		compile(`Hash mismatch for .([\w.=+!-]+)`, "HashMismatch", "$1 is not what the model's requirements give the hash of",
			"find out who changed it: an index that has another file by that name is not to be trusted"),
		compile(`was found on \S+, but not at the requested version \(([^)]*)\)`, "PackageIndexOrder",
			"$1 is not in the first package index that has such a package", "name the index that has it first: "+
				"uv looks in no other, as a stranger's package may have the same name; UV_INDEX_STRATEGY=unsafe-best-match looks in all"),
		compile(`(\S+) was not found in the (?:package registry|provided)`, "PackageNotFound", "the Python package index has no package $1",
			"check its spelling, or name the index that has it in UV_INDEX or PIP_EXTRA_INDEX_URL"),
		compile(`[Tt]here (?:is|are) no versions? of (\S+)`, "PackageNotFound", "the Python package index has no version $1 for "+at, relog),
		compile("Failed to (?:download and )?build `([^`]+)`", "BuildFailed", "$1 could not be built of its source code",
			"see its last lines: a library that it needs is one of Debian's packages with -dev in its name, for --apt; or log the model again with a version that has a wheel"),
		compile(`(?i)couldn't parse requirement|failed to parse`, "RequirementInvalid", "a requirement of the model is not one", relog),
		compile(`(?i)failed to fetch: \S*download\.pytorch\.org`, "PackageIndexUnreachable", "PyTorch's own package index, download.pytorch.org, does not answer",
			"check the network and HTTPS_PROXY; --torch-backend none takes PyTorch from your package index, which may have it with CUDA alone"),
		compile(`(?i)unsatisfiable|no solution found`, "RequirementsConflict", "the model's requirements exclude each other for "+at, relog),
		compile(`(?i)failed to fetch|error sending request|dns error|timed out`, "PackageIndexUnreachable", "the Python package index does not answer",
			"check the network, HTTPS_PROXY, and the index's URL in UV_DEFAULT_INDEX, PIP_INDEX_URL or pip.conf"),
	}
}

// Explain turns uv's talk into one sentence, and keeps its last lines.
func Explain(ctx context.Context, err error, out string, e image.Environment) error {
	if ctx.Err() != nil {
		return fmt.Errorf("uv: %w", ctx.Err())
	}
	lines := strings.Split(strings.TrimSpace(redact(out)), "\n")
	failed := &failure.Error{
		Class:    failure.Diagnosed,
		Reason:   "EnvironmentFailed",
		Message:  "uv could not install the model's requirements",
		Hint:     "see its last lines",
		Evidence: lines[max(0, len(lines)-evidence):],
		Err:      err,
	}
	if n, ok := findNoWheel(out); ok {
		failed.Reason, failed.Message, failed.Hint = "NoWheel", redact(n.message(e)), n.hint(e)
		return failed
	}
	for _, v := range verdicts(e) {
		if found := v.pattern.FindStringSubmatchIndex(out); found != nil {
			failed.Reason, failed.Hint = v.reason, v.hint
			failed.Message = redact(string(v.pattern.ExpandString(nil, v.message, out, found)))
			break
		}
	}
	return failed
}

// redact takes credentials out of URLs.
func redact(text string) string {
	return regexp.MustCompile(`://[^/@\s]*@`).ReplaceAllString(text, "://")
}
