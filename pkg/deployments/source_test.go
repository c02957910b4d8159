package deployments

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
)

type secrets func(r cluster.Ref) (*unstructured.Unstructured, error)

func (f secrets) Get(_ context.Context, r cluster.Ref) (*unstructured.Unstructured, error) {
	return f(r)
}

func TestMLflowWithUsersIsReadAsItsAdminByThoseWhoMay(t *testing.T) {
	secret := func(password string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"data": map[string]any{instance.AdminPasswordKey: base64.StdEncoding.EncodeToString([]byte(password))}}}
	}
	for name, c := range map[string]struct {
		auth string
		get  secrets
		want tracking.Credentials
		ok   bool
	}{
		"no users": {"", func(cluster.Ref) (*unstructured.Unstructured, error) { panic("nothing is to be read") }, tracking.Credentials{}, true},
		"allowed": {"mlflow-auth", func(r cluster.Ref) (*unstructured.Unstructured, error) {
			if r.Namespace != "ml" || r.Name != "mlflow-auth" || r.Kind != "Secret" {
				t.Errorf("read %v", r)
			}
			return secret("s3cret"), nil
		}, tracking.Credentials{Username: "admin", Password: "s3cret"}, true},
		"forbidden": {"mlflow-auth", func(cluster.Ref) (*unstructured.Unstructured, error) {
			return nil, &failure.Error{Class: failure.Forbidden}
		}, tracking.Credentials{}, true},
		"gone": {"mlflow-auth", func(r cluster.Ref) (*unstructured.Unstructured, error) {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, r.Name)
		}, tracking.Credentials{}, true},
		"away": {"mlflow-auth", func(cluster.Ref) (*unstructured.Unstructured, error) {
			return nil, &failure.Error{Class: failure.Diagnosed}
		}, tracking.Credentials{}, false},
	} {
		got, err := asAdmin(t.Context(), c.get, &instance.Instance{Namespace: "ml", AuthSecret: c.auth})
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: user %q, password right %t, %v", name, got.Username, got.Password == c.want.Password, err)
		}
	}
}

// variables is a getenv of a few variables.
func variables(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestAdminOfTheClusterIsWhoHasNoOtherCredentials(t *testing.T) {
	home := t.TempDir()
	path := filepath.Join(home, ".mlflow", "credentials")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("[mlflow]\nmlflow_tracking_username = fred\nmlflow_tracking_password = f1le\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil { //nolint:gosec // which is what is warned of
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env    map[string]string
		server string
		want   string
		warned bool
	}{
		"admin":               {map[string]string{"MLFLOW_WORKSPACE": "team-a"}, "", "admin", false},
		"environment":         {map[string]string{"MLFLOW_TRACKING_USERNAME": "eve", "MLFLOW_TRACKING_PASSWORD": "env", "HOME": home}, "", "eve", false},
		"username alone":      {map[string]string{"MLFLOW_TRACKING_USERNAME": "eve"}, "", "admin", false},
		"not the file":        {map[string]string{"HOME": home, "USERPROFILE": home}, "", "admin", false},
		"file, for a URL":     {map[string]string{"HOME": home, "USERPROFILE": home}, "URL", "fred", runtime.GOOS != "windows"},
		"no admin, for a URL": {nil, "URL", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			var got *http.Request
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
			t.Cleanup(server.Close)
			s := newStage()
			s.dialTo = server.Listener.Addr().String()
			client := s.client()
			client.getenv = variables(c.env)
			client.admin = func(context.Context, *instance.Instance) (tracking.Credentials, error) {
				return tracking.Credentials{Username: "admin", Password: "s3cret"}, nil
			}
			if c.server != "" {
				c.server = server.URL
			}
			_, closer, err := client.connect(t.Context(), Request{TrackingURI: c.server}, step{s})
			if err != nil {
				t.Fatal(err)
			}
			defer closer()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.at.url.JoinPath("health").String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := s.at.transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			if err := response.Body.Close(); err != nil {
				t.Error(err)
			}
			if user, _, _ := got.BasicAuth(); user != c.want || got.Header.Get("X-MLFLOW-WORKSPACE") != c.env["MLFLOW_WORKSPACE"] {
				t.Errorf("%q came, to workspace %q", user, got.Header.Get("X-MLFLOW-WORKSPACE"))
			}
			if warned := slices.Contains(s.said, "Warning: others than you can read "+path+"; to end that: chmod 600 "+path); warned != c.warned {
				t.Errorf("warned: %t; %q", warned, s.said)
			}
		})
	}
}

// A login is for the server that the user has named, and for who has nothing else to show.
func TestWhoNamesAServerBehindAProviderLogsIn(t *testing.T) {
	const user, password, secret = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_OIDC_CLIENT_SECRET"
	for name, c := range map[string]struct {
		env           map[string]string
		named, inURL  bool
		want          string
		logins        int
		fails, noting bool
	}{
		"named":             {env: map[string]string{secret: "s3cret"}, named: true, want: "Bearer t0ken", logins: 1, noting: true},
		"on the cluster":    {env: map[string]string{secret: "s3cret"}},
		"with a password":   {env: map[string]string{secret: "s3cret", user: "u", password: "p"}, named: true, want: "Basic dTpw"},
		"with a token":      {env: map[string]string{secret: "s3cret", "MLFLOW_TRACKING_TOKEN": "t"}, named: true, want: "Bearer t"},
		"password in URL":   {env: map[string]string{secret: "s3cret"}, named: true, inURL: true},
		"username alone":    {env: map[string]string{secret: "s3cret", user: "u"}, named: true, want: "Bearer t0ken", logins: 1, noting: true},
		"with a bad secret": {env: map[string]string{secret: "wr0ng"}, named: true, logins: 1, fails: true, noting: true},
		"with no secret":    {env: map[string]string{"MLFLOW_TRACKING_OIDC_INTERACTIVE": "no"}, named: true, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			t.Setenv("HOME", t.TempDir()) // where the cache is on macOS
			t.Setenv("LocalAppData", t.TempDir())
			logins := 0
			var provider *httptest.Server
			provider = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch {
				case strings.HasPrefix(r.URL.Path, "/.well-known/"):
					_, _ = fmt.Fprintf(w, `{"issuer": %q, "token_endpoint": %q}`, provider.URL, provider.URL+"/token")
				case r.PostFormValue("client_secret") != "s3cret":
					logins++
					http.Error(w, `{"error": "invalid_client"}`, http.StatusUnauthorized)
				default:
					logins++
					_, _ = io.WriteString(w, `{"access_token": "t0ken", "token_type": "bearer", "expires_in": 20}`) // soon to be renewed
				}
			}))
			t.Cleanup(provider.Close)
			c.env["MLFLOW_TRACKING_OIDC_ISSUER"], c.env["MLFLOW_TRACKING_OIDC_CLIENT_ID"] = provider.URL, "mlflow"
			var got string
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") }))
			t.Cleanup(server.Close)
			s := newStage()
			s.dialTo = server.Listener.Addr().String()
			client := s.client()
			client.getenv = variables(c.env)
			r := Request{}
			if c.named {
				r.TrackingURI = server.URL
			}
			if c.inURL {
				r.TrackingURI = strings.Replace(server.URL, "://", "://u:p@", 1)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, closer, err := client.connect(ctx, r, step{s})
			if (err != nil) != c.fails || logins != c.logins {
				t.Fatalf("%d logins, %v", logins, err)
			}
			note := "logging in at " + provider.URL + ", which MLFLOW_TRACKING_OIDC_ISSUER names"
			if slices.Contains(s.notes, note) != c.noting {
				t.Errorf("it notes %q", s.notes)
			}
			if err != nil {
				return
			}
			defer closer()
			cancel() // the checks before the work are over, and the model is yet to be read
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.at.url.Scheme+"://"+s.at.url.Host, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := s.at.transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			if err := response.Body.Close(); err != nil || got != c.want || logins != 2*c.logins {
				t.Errorf("it sees %q after %d logins, %v", got, logins, err)
			}
		})
	}
}

func TestBadSettingsEndTheWay(t *testing.T) {
	for name, c := range map[string]struct{ env, server, want string }{
		"of the environment": {"MLFLOW_TRACKING_INSECURE_TLS", "", "MLFLOW_TRACKING_INSECURE_TLS"},
		"of certificates":    {"MLFLOW_TRACKING_CLIENT_CERT_PATH", "https://mlflow.example.com", "MLFLOW_TRACKING_CLIENT_CERT_PATH=" + filepath.Join("nowhere", "x")},
	} {
		s := newStage()
		client := s.client()
		client.getenv = variables(map[string]string{c.env: filepath.Join("nowhere", "x")})
		_, _, err := client.connect(t.Context(), Request{TrackingURI: c.server}, step{s})
		if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who says no repository deploys to that of the deployment, else to the one that all others in the namespace share.
func TestImageRepository(t *testing.T) {
	const models = "registry.example.com/models"
	for name, c := range map[string]struct {
		asked, present string
		others         []string
		forbidden      bool
		want           string
		says           string // in the note or in the failure
	}{
		"asked for":         {asked: "r/asked", present: "r/present@sha256:1", others: []string{models + ":1"}, want: "r/asked"},
		"the deployment's":  {present: "r:5000/present:3@sha256:1", others: []string{models + ":1"}, want: "r:5000/present"},
		"the others'":       {others: []string{models + "@sha256:1", "", models + ":2"}, want: models, says: "image repository " + models + ", as of the other deployments in namespace models"},
		"others disagree":   {others: []string{models + "@sha256:1", "r/b@sha256:2"}, says: "no image repository is known for iris; the other deployments in namespace models use r/b, " + models},
		"no others":         {says: "no image repository is known for iris"},
		"others are hidden": {forbidden: true, says: "no image repository is known for iris"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage()
			s.present = func() (serving.Deployment, error) {
				if c.present == "" {
					return serving.Deployment{}, &failure.Error{Class: failure.Invalid, Reason: "DeploymentNotFound"}
				}
				return serving.Deployment{Image: c.present}, nil
			}
			s.list = func(namespace string, f func(serving.Deployment) error) error {
				if namespace != "models" || c.forbidden {
					return &failure.Error{Class: failure.Forbidden, Reason: "Forbidden", Message: namespace}
				}
				for _, image := range c.others {
					if err := f(serving.Deployment{Image: image}); err != nil {
						return err
					}
				}
				return nil
			}
			got, err := s.client().repository(t.Context(), Request{Namespace: "models", Name: "iris", ImageRepository: c.asked}, toDeploy, step{s})
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			said := strings.Join(s.notes, "|")
			if err != nil {
				said = err.Error()
			}
			if !strings.Contains(said, c.says) {
				t.Errorf("said %q, want %q", said, c.says)
			}
		})
	}
}
