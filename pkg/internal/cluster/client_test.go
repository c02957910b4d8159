package cluster

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func asFailure(err error) *failure.Error {
	f, _ := errors.AsType[*failure.Error](err)
	return f
}

func TestNoWayToTheClusterIsOneClearFailure(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of the certificate that we do not trust
	secure.StartTLS()
	t.Cleanup(secure.Close)
	good := writeKubeconfig(t, gone)
	plugin := strings.Replace(readFile(t, good), "user: {}", `user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin-anywhere, interactiveMode: Never}}`, 1)

	for _, tc := range []struct {
		name, path, context string
		class               failure.Class
		reason, text, hint  string
	}{
		{"refused", good, "", failure.Diagnosed, "ClusterUnreachable", "the API server " + gone + ` (context "test") cannot be reached: dial tcp`, "is the cluster running"},
		{"unknown context", good, "prod", failure.Invalid, "UnknownContext", `context "prod" does not exist`, "contexts there are: test"},
		{"no such file", filepath.Join(dir, "none"), "", failure.Invalid, "KubeconfigInvalid", "none", "kubectl config view"},
		{"not YAML", write("bad", "{"), "", failure.Invalid, "KubeconfigInvalid", "bad", "kubectl config view"},
		{"empty", write("empty", ""), "", failure.Invalid, "NoKubeconfig", "no cluster is configured", "KUBECONFIG"},
		{"foreign certificate", writeKubeconfig(t, secure.URL), "", failure.Diagnosed, "ClusterUnreachable", "certificate", "certificate-authority"},
		{"credential plugin missing", write("plugin", strings.Replace(plugin, "http://", "https://", 1)), "", failure.Forbidden, "CredentialsUnavailable", "no-such-plugin-anywhere", "plugin"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := New(loadKubeconfig(tc.path, tc.context)) // with all its patience: none of these pass
			began := time.Now()
			_, err := c.Get(t.Context(), configMapRef("c"))
			wantFailure(t, err, tc.class, tc.reason, tc.text)
			if f := asFailure(err); !strings.Contains(f.Hint, tc.hint) {
				t.Errorf("hint %q lacks %q", f.Hint, tc.hint)
			}
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("it took %s to find out", d)
			}
		})
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPassingTroublesAreRetried(t *testing.T) {
	ok := answer(configMap("c", nil))
	for name, trouble := range map[string]http.HandlerFunc{
		"rate":               refuse(429, metav1.StatusReasonTooManyRequests, "too many requests", nil),
		"rate, with a wish":  after("3600", refuse(429, metav1.StatusReasonTooManyRequests, "too many requests", nil)),
		"unavailable":        refuse(503, metav1.StatusReasonServiceUnavailable, "apiserver not ready", nil),
		"leader":             refuse(500, metav1.StatusReasonInternalError, "etcdserver: leader changed", nil),
		"webhook not up yet": refuse(500, metav1.StatusReasonInternalError, `failed calling webhook "w": connection refused`, nil),
		"quota's conflict":   refuse(409, metav1.StatusReasonConflict, `Operation cannot be fulfilled on resourcequotas "q"`, nil),
		"load balancer":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) },
		"broken connection":  hangUp,
		"half an answer":     breakOff,
	} {
		t.Run(name, func(t *testing.T) {
			a, c := newAPI(t, map[string]http.HandlerFunc{"PUT " + configMaps + "/c": inTurn(trouble, trouble, ok)})
			if _, err := c.Update(t.Context(), configMap("c", nil), false); err != nil {
				t.Errorf("err = %v, want success in the end", err)
			}
			if n := a.count("PUT", configMaps+"/c"); n != 3 {
				t.Errorf("asked %d times, want 3", n)
			}
		})
	}
}

// breakOff promises more than it sends.
func breakOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte(`{"kind":"ConfigMap",`))
}

func TestDiscoveryIsRetriedToo(t *testing.T) {
	leader := refuse(500, metav1.StatusReasonInternalError, "etcdserver: leader changed", nil)
	ready := func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "configmaps", Kind: "ConfigMap", Namespaced: true}}})
	}
	_, c := newAPI(t, map[string]http.HandlerFunc{"GET /api/v1": inTurn(leader, leader, ready), "GET " + configMaps + "/c": answer(configMap("c", nil))})
	if _, err := c.Get(t.Context(), configMapRef("c")); err != nil {
		t.Error(err)
	}
}

// after answers with the header Retry-After.
func after(seconds string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", seconds)
		h(w, r)
	}
}

func TestPatienceIsCountedByTheClock(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(50 * time.Millisecond) // each try of a server in trouble takes its time
		after("1", refuse(503, metav1.StatusReasonServiceUnavailable, "apiserver not ready", nil))(w, r)
	}
	a, c := newAPI(t, map[string]http.HandlerFunc{"PUT " + configMaps + "/c": slow})
	_, err := c.Update(t.Context(), configMap("c", nil), false)
	if n := a.count("PUT", configMaps+"/c"); !apierrors.IsServiceUnavailable(err) || n < 2 || n > 5 {
		t.Errorf("asked %d times, then %v; want about as often as goes into 100 ms", n, err)
	}
}

func TestPatienceEnds(t *testing.T) {
	_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps + "/c": refuse(503, metav1.StatusReasonServiceUnavailable, "apiserver not ready", nil)})
	if _, err := c.Get(t.Context(), configMapRef("c")); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("err = %v, want ServiceUnavailable", err)
	}
}

func TestEveryCallEndsWithItsContext(t *testing.T) {
	_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps + "/c": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Get(ctx, configMapRef("c"))
	if !errors.Is(err, context.DeadlineExceeded) || failure.ClassOf(err) != "" {
		t.Errorf("err = %v, want the context's own", err)
	}
}

func TestNamespaceAndRESTConfig(t *testing.T) {
	a, c := newAPI(t, nil)
	if ns, explicit, err := c.Namespace(); ns != "team" || explicit || err != nil {
		t.Errorf("Namespace() = %q, %t, %v", ns, explicit, err)
	}
	config, err := c.RESTConfig()
	if err != nil || config.Host != a.url || config.UserAgent != "kubectl-mlflow" {
		t.Errorf("RESTConfig() = %+v, %v", config, err)
	}
	config.Host = "elsewhere"
	if again, err := c.RESTConfig(); err != nil || again.Host != a.url {
		t.Errorf("the copy is not a copy: %v, %v", again, err)
	}
}

func TestRefsAreWrittenAsKubectlDoes(t *testing.T) {
	var got []string
	for _, r := range []Ref{
		{GroupVersionKind: configMapRef("").GroupVersion().WithKind("Pod"), Namespace: "x", Name: "mlflow-0"},
		{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Name: "mlflow"},
		{GroupVersionKind: configMapRef("").GroupVersion().WithKind("Node")},
	} {
		got = append(got, r.String())
	}
	if want := []string{"pod/mlflow-0", "deployment.apps/mlflow", "node"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// rereading reads the kubeconfig each time, as kubectl's flags do.
type rereading struct{ path string }

func (r rereading) ToRESTConfig() (*rest.Config, error) {
	return loadKubeconfig(r.path, "").ToRESTConfig()
}
func (r rereading) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return loadKubeconfig(r.path, "").ToRawKubeConfigLoader()
}

// Who is no longer let in takes what the kubeconfig, or the token's file, says by then; another cluster's is not taken.
func TestRenewedCredentialsAreTaken(t *testing.T) {
	const path = "/api/v1/namespaces/team/configmaps/settings"
	accepted := "first"
	a, _ := newAPI(t, map[string]http.HandlerFunc{"GET " + path: func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+accepted {
			refuse(http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized", nil)(w, r)
			return
		}
		reply(w, http.StatusOK, configMap("settings", nil).Object)
	}})
	other, _ := newAPI(t, map[string]http.HandlerFunc{"GET " + path: func(http.ResponseWriter, *http.Request) { t.Error("the other cluster was asked") }})
	overTLS := func(handler http.Handler) string { // without it client-go shows no credentials
		server := httptest.NewTLSServer(handler)
		t.Cleanup(server.Close)
		return server.URL
	}
	url, otherURL := overTLS(a), overTLS(other)
	ref := configMapRef("settings")
	file := filepath.Join(t.TempDir(), "token")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite := func(kubeconfig, from, to string) {
		t.Helper()
		text, err := os.ReadFile(kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), from) {
			t.Fatalf("the kubeconfig has no %q", from)
		}
		write(kubeconfig, strings.ReplaceAll(string(text), from, to))
	}
	for _, tc := range []struct {
		name   string
		user   string // at first
		change func(kubeconfig string)
		taken  bool
	}{
		{"the kubeconfig has another token", "token: first", func(k string) { rewrite(k, "token: first", "token: second") }, true},
		{"the token's file has another token", "tokenFile: " + file, func(string) { write(file, "second") }, true},
		{"nothing has changed", "token: first", func(string) {}, false},
		{"the kubeconfig is being written", "token: first", func(k string) { write(k, "apiVersion: v1\nkind: Config\nusers: [{name") }, false},
		{"another context is in use", "token: first", func(k string) {
			rewrite(k, "token: first", "token: second")
			rewrite(k, "current-context: test\n", "current-context: prod\n")
			rewrite(k, "contexts: [", "contexts: [{name: prod, context: {cluster: c, user: u}}, ")
		}, false},
		{"the context leads to another cluster", "token: first", func(k string) {
			rewrite(k, "token: first", "token: second")
			rewrite(k, url, otherURL)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			accepted = "first"
			write(file, "first")
			kubeconfig := writeKubeconfig(t, url)
			rewrite(kubeconfig, "cluster: {", "cluster: {insecure-skip-tls-verify: true, ")
			rewrite(kubeconfig, "user: {}", "user: {"+tc.user+"}")
			c := newTestClient(rereading{kubeconfig})
			if _, err := c.Get(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			tc.change(kubeconfig)
			accepted = "second"
			asked := a.count("GET", path)
			_, err := c.Get(t.Context(), ref)
			if n := a.count("GET", path) - asked; n != 2 {
				t.Errorf("asked %d times, want twice", n)
			}
			if tc.taken && err != nil {
				t.Error(err)
			}
			if !tc.taken {
				wantFailure(t, err, failure.Forbidden, "Unauthorized", "credentials")
			}
		})
	}
}
