package uv

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

func environment() image.Environment {
	return image.Environment{Platform: "linux/amd64", Python: "3.11.7", Requirements: []string{"mlflow==3.17.2"}}
}

// pathWith puts a program named uv on PATH, which answers as script says.
func pathWith(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "uv"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

func TestCheckTakesWheelsOfAnIndex(t *testing.T) {
	pathWith(t, "echo 'uv 0.13.9 (x86_64-unknown-linux-gnu)'")
	for _, line := range []string{
		"mlflow==3.17.2", "mlflow[extras]>=3 ; python_version < '3.13'", "--extra-index-url https://index.example.com/simple",
		"torch @ https://example.com/torch-2.9-cp311-none-any.whl", "https://example.com/torch-2.9-cp311-none-any.whl#sha256=aa",
		"wheels/mine-1.0-py3-none-any.whl", "./code/mine-1.0-py3-none-any.whl[fast] ; python_version < '3.13'", "--find-links https://example.com/wheels", "-f wheels",
		"--extra-index-url https://${INDEX_USER}:${PIP_PASSWORD}@index.example.com/simple",
	} {
		e := environment()
		e.Requirements = append(e.Requirements, line)
		if err := (&Builder{}).Check(t.Context(), e); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestCheckRefusesWhatUvCannotBuild(t *testing.T) {
	pathWith(t, "echo 'uv 0.13.9 (x86_64-unknown-linux-gnu)'")
	for what, change := range map[string]func(*image.Environment){
		"git":           func(e *image.Environment) { e.Requirements = []string{"mlflow @ git+https://github.com/mlflow/mlflow"} },
		"-r":            func(e *image.Environment) { e.Requirements = []string{"-r /etc/passwd"} },
		"--requirement": func(e *image.Environment) { e.Requirements = []string{"--requirement=more.txt"} },
		"code/":         func(e *image.Environment) { e.Requirements = []string{"code/mine"} },
		"../":           func(e *image.Environment) { e.Requirements = []string{"../mine-1.0-py3-none-any.whl"} },
		"tar.gz":        func(e *image.Environment) { e.Requirements = []string{"mine @ https://example.com/mine-1.0.tar.gz"} },
		"zip":           func(e *image.Environment) { e.Requirements = []string{"https://bob:hunter2@example.com/mine.zip"} },
		"file:":         func(e *image.Environment) { e.Requirements = []string{"mine @ file:///home/bob/mine.whl"} },
		"-e":            func(e *image.Environment) { e.Constraints = []string{"-e ."} },
		"-f ../wheels":  func(e *image.Environment) { e.Requirements = []string{"-f ../wheels"} },
		"--find-links=": func(e *image.Environment) { e.Requirements = []string{"--find-links=/opt/wheels"} },
		"variable AWS_SECRET_ACCESS_KEY": func(e *image.Environment) {
			e.Requirements = []string{"--index-url https://index.example.com/${AWS_SECRET_ACCESS_KEY}"}
		},
		"libgomp1":    func(e *image.Environment) { e.Apt = []string{"libgomp1"} },
		"linux/s390x": func(e *image.Environment) { e.Platform = "linux/s390x" },
	} {
		e := environment()
		change(&e)
		err := (&Builder{}).Check(t.Context(), e)
		if failure.ClassOf(err) != failure.Diagnosed || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want failure.Diagnosed that names it", what, err)
		}
	}
}

func TestTheModelsOwnWheelsMayAskForANewerCLibrary(t *testing.T) {
	for _, c := range []struct {
		platform string
		wheels   []string
		want     string
	}{
		{"linux/amd64", nil, "x86_64-manylinux_2_28"},
		{"linux/arm64", []string{"wheels/mine-1.0-py3-none-any.whl"}, "aarch64-manylinux_2_28"},
		{"linux/amd64", []string{"wheels/a-1-cp311-abi3-manylinux_2_34_x86_64.whl", "wheels/b-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"}, "x86_64-manylinux_2_34"},
		{"linux/amd64", []string{"wheels/a-1-cp311-cp311-manylinux_2_12_x86_64.manylinux_2_36_x86_64.whl"}, "x86_64-manylinux_2_28"},
		{"linux/amd64", []string{"wheels/a-1-cp311-cp311-manylinux_2_29_x86_64.whl"}, "x86_64-manylinux_2_31"},
	} {
		var wheels []model.Wheel
		for _, path := range c.wheels {
			wheels = append(wheels, model.Wheel{Path: path})
		}
		if got, err := pythonPlatform(c.platform, wheels); err != nil || got != c.want {
			t.Errorf("%s with %q: %q, %v, want %q", c.platform, c.wheels, got, err, c.want)
		}
	}
}

func TestAnOldUvIsNotUsed(t *testing.T) {
	for out, want := range map[string]bool{
		"uv 0.13.9 (x86_64-unknown-linux-gnu)": true, "uv 0.7.0": true, "uv 1.0.0": true,
		"uv 0.6.17": false, "uv-but-not": false, "": false,
	} {
		if newEnough(out) != want {
			t.Errorf("newEnough(%q) = %v", out, !want)
		}
	}
}

// What uv 0.13.9 wrote, and what is told of it.
func TestUvsTalkInOneSentence(t *testing.T) {
	for _, c := range []struct{ name, out, reason, message string }{
		{"no wheel", "error: No solution found when resolving dependencies\n  cause: Because numpy==1.21.0 has no usable wheels and you require numpy==1.21.0, we can conclude that your requirements are unsatisfiable.\n\nhint: Wheels are required for `numpy` because building from source is disabled",
			"NoWheel", "numpy==1.21.0 has no wheel for Python 3.11 on linux/amd64"},
		{"no wheel for what a package needs", "error: No solution found when resolving dependencies\n  cause: Because fire==0.4.0 has no usable wheels and needs==1.0 depends on fire==0.4.0, we can conclude that needs==1.0 cannot be used.\n         And because only needs==1.0 is available and you require needs, we can conclude that your requirements are unsatisfiable.\n\nhint: Wheels are required for `fire` because building from source is disabled for all packages (i.e., with `--no-build`)",
			"NoWheel", "fire==0.4.0 has no wheel for Python 3.11 on linux/amd64, and needs==1.0 needs it"},
		{"no wheel in a range", "  cause: Because fire<=0.4.0 has no usable wheels and only the following versions of fire are available:\n             fire<=0.4.0\n             fire>=0.5\n         we can conclude that fire<0.5 cannot be used.\n         And because any==1.0 depends on fire<0.5, we can conclude that any==1.0 cannot be used.\n",
			"NoWheel", "fire<=0.4.0 has no wheel for Python 3.11 on linux/amd64, and any==1.0 needs it"},
		{"wheels for other Pythons", "  cause: Because torch==1.2.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require torch==1.2.0, we can conclude that your requirements are unsatisfiable.\n\nhint: You require CPython 3.11 (`cp311`), but we only found wheels for `torch` (v1.2.0) with the following Python ABI tags: `cp27m`, `cp36m`, `cp37m`",
			"NoWheel", "torch==1.2.0 has no wheel for Python 3.11 on linux/amd64; there is one for cp27m, cp36m, cp37m"},
		{"wheels for other platforms", "  cause: Because pywin32==306 has no wheels with a matching platform tag (e.g., `manylinux_2_28_x86_64`) and you require pywin32==306, we can conclude that your requirements are unsatisfiable.\n\nhint: Wheels are available for `pywin32` (v306) on the following platforms: `win32`, `win_amd64`, `win_arm64`",
			"NoWheel", "pywin32==306 has no wheel for Python 3.11 on linux/amd64; there is one for win32, win_amd64, win_arm64"},
		{"the model's own wheel", "error: Failed to determine installation plan\n  cause: A path (wheels/plat-1.0-cp311-cp311-macosx_11_0_arm64.whl) dependency is incompatible with the current platform\n\nhint: The wheel is compatible with macOS (`macosx_11_0_arm64`), but you're on Linux (`manylinux_2_28_x86_64`)",
			"NoWheel", "the wheel wheels/plat-1.0-cp311-cp311-macosx_11_0_arm64.whl is not for Python 3.11 on linux/amd64; there is one for macosx_11_0_arm64"},
		{"no package", "error: No solution found when resolving dependencies\n  cause: Because nosuch was not found in the package registry and you require nosuch==1, we can conclude that your requirements are unsatisfiable.",
			"PackageNotFound", "the Python package index has no package nosuch"},
		{"no version", "  cause: Because there is no version of mlflow==99.0 and you require mlflow==99.0, we can conclude that your requirements are unsatisfiable.",
			"PackageNotFound", "no version mlflow==99.0"},
		{"401", "  cause: Because numpy was not found in the package registry and you require numpy, we can conclude that your requirements are unsatisfiable.\n\nhint: An index URL (http://bob:hunter2@index.example.com/simple) could not be queried due to a lack of valid authentication credentials (401 Unauthorized)",
			"PackageIndexUnauthorized", "did not accept the credentials"},
		{"another hash", "error: Failed to download `numpy==2.1.0`\n  cause: Hash mismatch for `numpy==2.1.0`\n\n         Expected:\n           sha256:2e9f",
			"HashMismatch", "numpy==2.1.0 is not what the model's requirements give the hash of"},
		{"another index has it", "  cause: Because there is no version of mine==1.0 and you require mine==1.0, we can conclude that your requirements are unsatisfiable.\n\nhint: `mine` was found on https://bob:hunter2@index.example.com/simple, but not at the requested version (mine==1.0). A compatible version may be available on a subsequent index",
			"PackageIndexOrder", "mine==1.0 is not in the first package index that has such a package"},
		{"certificate", "error: Failed to fetch: https://index.example.com/simple/mine/\n  cause: invalid peer certificate: UnknownIssuer",
			"PackageIndexCertificate", "is not trusted here"},
		{"conflict", "error: No solution found when resolving dependencies\n  cause: Because a==1 depends on b<2 and you require b==3, we can conclude that your requirements are unsatisfiable.",
			"RequirementsConflict", "exclude each other"},
		{"unreachable", "error: Request failed after 3 retries in 9.3s\n  cause: Failed to fetch: http://127.0.0.1:9/simple/numpy/",
			"PackageIndexUnreachable", "does not answer"},
		{"PyTorch unreachable", "error: Failed to fetch: https://download.pytorch.org/whl/cpu/torch/\n  cause: dns error",
			"PackageIndexUnreachable", "download.pytorch.org, does not answer"},
		{"no Python", "error: No interpreter found for Python 3.11 in virtual environments, managed installations, or search path",
			"PythonMissing", "found none"},
		{"not a requirement", "error: Couldn't parse requirement in `r.txt` at position 0", "RequirementInvalid", "is not one"},
		{"disk full", "error: failed to write: No space left on device (os error 28)", "DiskFull", "full"},
		{"else", "error: something new", "EnvironmentFailed", "could not install"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, ok := errors.AsType[*failure.Error](Explain(t.Context(), errors.New("exit status 1"), c.out, environment()))
			if !ok || e.Class != failure.Diagnosed || e.Reason != c.reason || !strings.Contains(e.Message, c.message) {
				t.Fatalf("got %+v", e)
			}
			if e.Hint == "" || len(e.Evidence) == 0 || strings.Contains(fmt.Sprint(e), "hunter2") {
				t.Errorf("hint %q, evidence %q", e.Hint, e.Evidence)
			}
		})
	}
}

func TestInstallGivesUvArgumentsAndNoSecrets(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("PIP_CONFIG_FILE", filepath.Join(dir, "pip.conf"))
	t.Setenv("XDG_CONFIG_HOME", dir)
	conf := "[global]\nindex-url = https://bob:hunter2@index.example.com/simple\n"
	if err := os.WriteFile(filepath.Join(dir, "pip.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	pathWith(t, `exec 2>&1; echo "$@" > args; echo "$UV_DEFAULT_INDEX" > index; echo "$UV_TORCH_BACKEND" > backend; cat requirements.txt > sent; cat wheels/*.whl > wheels.txt`)
	uv := filepath.Join(strings.Split(os.Getenv("PATH"), ":")[0], "uv")
	e := environment()
	e.Constraints, e.TorchBackend = []string{"pandas<4"}, "cu126"
	t.Setenv("UV_TORCH_BACKEND", "cpu")
	e.Wheels = []model.Wheel{{Path: "wheels/mine-1.0-py3-none-any.whl", SHA256: sum("a wheel"), Open: open("a wheel")}}
	if err := install(t.Context(), uv, dir, filepath.Join(dir, "env"), e, "3.11.9"); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "model")
	args := read(t, work, "args")
	for _, want := range []string{
		"--only-binary :all:", "--python-version 3.11.9", "--python-platform x86_64-manylinux_2_28", "--target " + dir + "/env", "--constraints", "--torch-backend cu126",
	} {
		if !strings.Contains(args, want) {
			t.Errorf("%q lacks %q", args, want)
		}
	}
	if strings.Contains(args, "hunter2") {
		t.Errorf("a password among the arguments: %q", args)
	}
	if got := read(t, work, "index"); got != "https://bob:hunter2@index.example.com/simple\n" {
		t.Errorf("uv was told of the index %q", got)
	}
	if got := read(t, work, "wheels.txt"); got != "a wheel" {
		t.Errorf("the model's wheel reached uv as %q", got)
	}
	if got := read(t, work, "backend"); got != "\n" {
		t.Errorf("UV_TORCH_BACKEND reached uv: %q", got)
	}
	if got := read(t, work, "sent"); got != "mlflow==3.17.2\n" {
		t.Errorf("requirements %q", got)
	}
}

func sum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func open(text string) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

func TestAWheelIsTheOneThatWasCounted(t *testing.T) {
	for what, w := range map[string]model.Wheel{
		"it has sha256": {Path: "wheels/mine-1.0-py3-none-any.whl", SHA256: sum("a wheel"), Open: open("another wheel")},
		"escapes":       {Path: "../mine-1.0-py3-none-any.whl", SHA256: sum("a wheel"), Open: open("a wheel")},
	} {
		dir := t.TempDir()
		err := writeWheels(t.Context(), filepath.Join(dir, "model"), []model.Wheel{w})
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v, want an error with %q", w.Path, err, what)
		}
		if _, err := os.Stat(filepath.Join(dir, "mine-1.0-py3-none-any.whl")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("written outside of its directory: %v", err)
		}
	}
}

func TestInstallEndsWithItsContext(t *testing.T) {
	pathWith(t, "exec sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := install(ctx, filepath.Join(strings.Split(os.Getenv("PATH"), ":")[0], "uv"), t.TempDir(), t.TempDir(), environment(), "3.11")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestParseSettings(t *testing.T) {
	pip := parse([]byte("# mine\n[global]\nindex_url = https://one.example.com/simple\nextra-index-url =\n    https://two.example.com\n    https://three.example.com\ncert=/etc/ca.pem\n[list]\nformat = columns\n"))
	want := map[string]string{
		"index-url": "https://one.example.com/simple", "extra-index-url": "https://two.example.com https://three.example.com", "cert": "/etc/ca.pem",
	}
	for k, v := range want {
		if pip[k] != v {
			t.Errorf("%s is %q, want %q", k, pip[k], v)
		}
	}
	uv := parse([]byte("[[index]]\nname = \"extra\"\nurl = \"https://extra.example.com\"\n\n[[index]]\nurl = \"https://main.example.com\"\ndefault = true\n"))
	if uv["url"] != "https://main.example.com" {
		t.Errorf("uv's default index is %q", uv["url"])
	}
}

func TestUvsOwnSettingsWin(t *testing.T) {
	s := settings{uvIndex: "https://uv.example.com", pipIndex: "https://pip.example.com", pipExtra: "https://extra.example.com"}
	if env := s.environment(nil); slices.ContainsFunc(env, func(v string) bool { return strings.Contains(v, "pip.example.com") }) {
		t.Errorf("pip's index reaches uv, which has its own: %v", env)
	}
	if s.defaultIndex() != "https://uv.example.com" || (settings{}).defaultIndex() != publicIndex {
		t.Error("the wrong index")
	}
}

// index serves one wheel, on its page of a package index as JSON or as HTML, from a host of its own.
func index(t *testing.T, asJSON bool, content []byte) (page string, fileAuth *[]string) {
	t.Helper()
	fileAuth = &[]string{}
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*fileAuth = append(*fileAuth, r.Header.Get("Authorization"))
		if _, err := w.Write(content); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(files.Close)
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "bob" || password != "hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path != "/simple/uv/" {
			http.NotFound(w, r)
			return
		}
		link := files.URL + "/packages/uv.whl"
		if asJSON {
			w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
			if err := json.NewEncoder(w).Encode(map[string]any{"files": []map[string]string{{"filename": "uv.whl", "url": link}}}); err != nil {
				t.Error(err)
			}
			return
		}
		w.Header().Set("Content-Type", "text/html")
		if _, err := fmt.Fprintf(w, `<a href="other.whl">other.whl</a><a href="%s#sha256=abc">uv.whl</a>`, link); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(pages.Close)
	u, err := url.Parse(pages.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.Path = url.UserPassword("bob", "hunter2"), "/simple"
	return u.String(), fileAuth
}

func TestTheWheelOfUvComesFromTheUsersIndex(t *testing.T) {
	content := []byte("a wheel")
	sum := sha256.Sum256(content)
	for _, asJSON := range []bool{true, false} {
		page, auth := index(t, asJSON, content)
		got, err := download(t.Context(), http.DefaultClient, page, wheel{"uv.whl", hex.EncodeToString(sum[:])})
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("JSON %v: got %q, %v", asJSON, got, err)
		}
		if !slices.Equal(*auth, []string{""}) {
			t.Errorf("JSON %v: the index's credentials went to another host: %q", asJSON, *auth)
		}
	}
}

func TestAnotherWheelIsNotTaken(t *testing.T) {
	page, _ := index(t, true, []byte("another wheel"))
	_, err := download(t.Context(), http.DefaultClient, page, wheel{"uv.whl", strings.Repeat("0", 64)})
	if err == nil || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("got %v", err)
	}
	_, err = download(t.Context(), http.DefaultClient, page, wheel{"uv-for-another-platform.whl", ""})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestEveryPlatformHasItsWheel(t *testing.T) {
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"} {
		system, arch, _ := strings.Cut(platform, "/")
		w, ok := pinnedWheel(system, arch)
		if !ok || len(w.sha256) != 64 || !strings.HasPrefix(w.file, "uv-"+pinned+"-py3-none-") {
			t.Errorf("%s: %+v, %v", platform, w, ok)
		}
	}
	if _, ok := pinnedWheel("plan9", "amd64"); ok {
		t.Error("there is no uv for plan9")
	}
}

func TestUnpackWritesTheProgramAlone(t *testing.T) {
	var content bytes.Buffer
	w := zip.NewWriter(&content)
	for name, text := range map[string]string{"uv-" + pinned + ".data/scripts/uv": "program", "../../evil": "evil"} {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unpack(content.Bytes(), filepath.Join(dir, "uv"), "uv"); err != nil {
		t.Fatal(err)
	}
	var found []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, name)
		}
		return err
	})
	if err != nil || !slices.Equal(found, []string{"uv/uv"}) || read(t, dir, "uv/uv") != "program" {
		t.Errorf("unpacked %v, %v", found, err)
	}
}

func TestGroupsAndWhatIsTakenOutOfThem(t *testing.T) {
	dir := t.TempDir()
	big := strings.Repeat("x", ownFrom)
	for name, content := range map[string]string{
		".lock":                          "",
		"scipy/core.so":                  big,
		"scipy.libs/libopenblas.so":      "openblas",
		"six.py":                         "six",
		"bin/mlflow":                     "#!/home/bob/.venv/bin/python\nimport sys\n",
		"bin/long":                       "#!/bin/sh\n'''exec' \"/home/bob/very long/python\" \"$0\" \"$@\"\n' '''\nimport sys\n",
		"mlflow-3.17.2.dist-info/RECORD": "bin/mlflow,sha256=abc,313\nmlflow/__init__.py,sha256=def,1\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	groups, err := group(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names [][]string
	contents := map[string]string{}
	for _, g := range groups {
		var of []string
		for _, f := range g {
			of = append(of, f.Path)
			in, err := f.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(in)
			if err != nil || int64(len(content)) != f.Size {
				t.Errorf("%s: %d bytes, announced %d, %v", f.Path, len(content), f.Size, err)
			}
			contents[f.Path] = string(content)
			if err := in.Close(); err != nil {
				t.Error(err)
			}
		}
		slices.Sort(of)
		names = append(names, of)
	}
	if len(names) != 2 || !slices.Equal(names[0], []string{"scipy.libs/libopenblas.so", "scipy/core.so"}) {
		t.Errorf("layers %v", names)
	}
	if _, ok := contents[".lock"]; ok {
		t.Error("uv's lock is no part of the environment")
	}
	for name, want := range map[string]string{
		"bin/mlflow":                     "#!/usr/bin/env python\nimport sys\n",
		"bin/long":                       "#!/usr/bin/env python\nimport sys\n",
		"mlflow-3.17.2.dist-info/RECORD": "bin/mlflow,,\nmlflow/__init__.py,sha256=def,1\n",
	} {
		if contents[name] != want {
			t.Errorf("%s is %q, want %q", name, contents[name], want)
		}
	}
}

func TestNoInterpreterNoBytecode(t *testing.T) {
	pathWith(t, "echo 'error: No interpreter found' >&2; exit 2")
	uv := filepath.Join(strings.Split(os.Getenv("PATH"), ":")[0], "uv")
	note, err := (&Builder{Launcher: fstest.MapFS{}}).compile(t.Context(), uv, t.TempDir(), t.TempDir(), environment())
	if err != nil || !strings.Contains(note, "without bytecode") || !strings.Contains(note, "3.11") {
		t.Errorf("got %q, %v", note, err)
	}
}
