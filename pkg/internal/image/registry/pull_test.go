package registry_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
)

// private is a registry that knows one user, by Basic or by a token of its own token service.
func private(t *testing.T, bearer bool) (host string) {
	t.Helper()
	known := "Basic " + base64.StdEncoding.EncodeToString([]byte("bob:hunter2"))
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		switch {
		case r.URL.Path == "/token" && (got == known || got == ""):
			name := "bob"
			if got == "" { // anybody gets a token, for nothing
				name = "nobody"
			}
			_, _ = fmt.Fprintf(w, `{"token": %q}`, name)
		case r.URL.Path != "/token" && (!bearer && got == known || bearer && got == "Bearer bob"):
			if r.URL.Path == "/v2/" {
				return
			}
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"errors": [{"code": "MANIFEST_UNKNOWN"}]}`))
		case bearer:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="registry"`, server.URL))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestCheckPull(t *testing.T) {
	basic, bearer, public := private(t, false), private(t, true), serve(t).host
	auth := func(user string) string { return base64.StdEncoding.EncodeToString([]byte(user)) }
	good, bad := auth("bob:hunter2"), auth("bob:old")
	secret := func(name, key, auth string) registry.PullSecret {
		return registry.PullSecret{Name: name, Config: fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, key, auth)}
	}
	for _, host := range []string{basic, bearer} {
		for name, c := range map[string]struct {
			secrets []registry.PullSecret
			want    registry.Pull
		}{
			"none":                         {nil, registry.Pull{}},
			"one that is good":             {[]registry.PullSecret{secret("a", host, good)}, registry.Pull{Allowed: true, Secrets: "a"}},
			"one that is old":              {[]registry.PullSecret{secret("a", host, bad)}, registry.Pull{Denied: true, Secrets: "a"}},
			"an old one and a good one":    {[]registry.PullSecret{secret("a", host, bad), secret("b", host, good)}, registry.Pull{Allowed: true, Secrets: "b"}},
			"one for another registry":     {[]registry.PullSecret{secret("a", "other.example.com", good)}, registry.Pull{}},
			"by URL":                       {[]registry.PullSecret{secret("a", "http://"+host+"/v1/", good)}, registry.Pull{Allowed: true, Secrets: "a"}},
			"by glob":                      {[]registry.PullSecret{secret("a", "127.*.0."+host[strings.LastIndex(host, ".")+1:], good)}, registry.Pull{Allowed: true, Secrets: "a"}},
			"for the path":                 {[]registry.PullSecret{secret("a", host+"/team", good)}, registry.Pull{Allowed: true, Secrets: "a"}},
			"for another path":             {[]registry.PullSecret{secret("a", host+"/tea", good)}, registry.Pull{}},
			"as .dockercfg":                {[]registry.PullSecret{{Name: "a", Config: fmt.Appendf(nil, `{%q: {"username": "bob", "password": "hunter2"}}`, host)}}, registry.Pull{Allowed: true, Secrets: "a"}},
			"what is no configuration":     {[]registry.PullSecret{{Name: "a", Config: []byte("{")}}, registry.Pull{}},
			"a null":                       {[]registry.PullSecret{{Name: "a", Config: []byte("null")}}, registry.Pull{}},
			"a key that is no glob at all": {[]registry.PullSecret{secret("a", "[.0.0.1", good)}, registry.Pull{}},
		} {
			t.Run(host+"/"+name, func(t *testing.T) {
				got, err := open(t, host+"/team/models").CheckPull(t.Context(), c.secrets)
				if err != nil || got != c.want {
					t.Errorf("%+v, %v; want %+v", got, err, c.want)
				}
			})
		}
	}
	if got, err := open(t, public+"/team/models").CheckPull(t.Context(), nil); err != nil || got != (registry.Pull{Allowed: true}) {
		t.Errorf("a public registry: %+v, %v", got, err)
	}
	if _, err := open(t, "127.0.0.1:1/team/models").CheckPull(t.Context(), nil); err == nil {
		t.Error("no registry is no failure")
	}
	r, err := registry.Open("123456789012.dkr.ecr.eu-west-1.amazonaws.com/models", registry.WithKeychain(authn.NewMultiKeychain()), registry.WithTransport(ecr{}))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.CheckPull(t.Context(), nil); err != nil || got != (registry.Pull{Cloud: true}) {
		t.Errorf("Amazon's: %+v, %v", got, err)
	}
}

// What a registry answers that is neither yes nor no stops nobody.
func TestAnAnswerToAPullThatTellsNothing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	secret := registry.PullSecret{Name: "a", Config: fmt.Appendf(nil, `{"auths": {%q: {"username": "bob", "password": "hunter2"}}}`, host)}
	if got, err := open(t, host+"/models").CheckPull(t.Context(), []registry.PullSecret{secret}); err != nil || got != (registry.Pull{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// ecr answers as Amazon's registry does to those whom it does not know.
type ecr struct{}

func (ecr) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Header().Set("WWW-Authenticate", `Basic realm="https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com"`)
	w.WriteHeader(http.StatusUnauthorized)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}
