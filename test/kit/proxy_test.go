package kit

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// upstream stands for the API server, and remembers what came through.
type upstream struct {
	mu    sync.Mutex
	calls []string
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.calls = append(u.calls, fmt.Sprintf("%s %s as %q", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization")))
	u.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
		allowed := r.Header.Get("Authorization") != "Bearer nobody"
		answer(w, http.StatusCreated, map[string]any{"status": map[string]any{"allowed": allowed}})
	case strings.HasSuffix(r.URL.Path, "/pods/gone"):
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, `pods "gone" not found`)
	default:
		answer(w, http.StatusOK, map[string]any{})
	}
}

func (u *upstream) seen() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.calls)
}

func newUpstream(t *testing.T) (*upstream, *Proxy) {
	t.Helper()
	u := &upstream{}
	server := httptest.NewTLSServer(u)
	t.Cleanup(server.Close)
	return u, NewProxy(t, kubeconfigOf(t, server, "admin"))
}

// caller sends requests by a kubeconfig.
type caller struct {
	host   string
	client *http.Client
}

func callerOf(t *testing.T, kubeconfig string) caller {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return caller{host: config.Host, client: client}
}

func (c caller) call(t *testing.T, method, path string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), errors.Join(err, resp.Body.Close())
}

const (
	objects = "/api/v1/namespaces/ml/configmaps"
	leases  = "/apis/coordination.k8s.io/v1/namespaces/ml/leases"
)

func TestWritesAreCounted(t *testing.T) {
	_, proxy := newUpstream(t)
	c := callerOf(t, proxy.Kubeconfig(""))
	for _, call := range []string{
		"GET " + objects + "/one",
		"POST /api/v1/namespaces",
		"PATCH " + objects + "/one?dryRun=All",
		"PATCH " + objects + "/one?force=false",
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
		"POST " + leases,
		"PUT " + leases + "/lock",
		"PATCH " + leases + "/lock",
		"PUT /apis/apps/v1/namespaces/ml/deployments/mlflow/scale",
		"DELETE " + leases + "/lock",
	} {
		method, path, _ := strings.Cut(call, " ")
		if _, _, err := c.call(t, method, path); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, w := range proxy.Writes() {
		got = append(got, w.String())
	}
	want := []string{
		"1: POST /api/v1/namespaces",
		"2: PATCH " + objects + "/one",
		"3: POST " + leases,
		"4: PUT /apis/apps/v1/namespaces/ml/deployments/mlflow/scale",
		"5: DELETE " + leases + "/lock",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHookStopsAWriteBeforeOrAfterIt(t *testing.T) {
	for moment, reaches := range map[Moment]int{Before: 1, After: 2} {
		t.Run(string(moment), func(t *testing.T) {
			u, proxy := newUpstream(t)
			var mu sync.Mutex // the hook runs in the proxy's goroutines
			var heard []string
			proxy.OnWrite(func(m Moment, w Write) bool {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, fmt.Sprintf("%s %d", m, w.N))
				return m != moment || w.N != 2
			})
			c := callerOf(t, proxy.Kubeconfig(""))
			if _, _, err := c.call(t, http.MethodPost, objects); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.call(t, http.MethodPost, objects); err == nil {
				t.Error("the second write was answered")
			}
			if got := len(u.seen()); got != reaches {
				t.Errorf("%d writes reached the API server, want %d", got, reaches)
			}
			mu.Lock()
			defer mu.Unlock()
			want := []string{"before 1", "after 1", "before 2", "after 2"}[:2+reaches]
			if !slices.Equal(heard, want) {
				t.Errorf("the hook heard %q, want %q", heard, want)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	u, proxy := newUpstream(t)
	c := callerOf(t, proxy.Kubeconfig(""))
	for _, f := range []struct {
		fault Fault
		code  int
		says  string
	}{
		{TooManyRequests(2 * time.Second), 429, "try again later"},
		{Unavailable(), 503, "shutting down"},
		{LeaderChanged(), 500, "etcdserver: leader changed"},
		{Deny("patch", "configmaps"), 403, `cannot patch resource \"configmaps\"`},
	} {
		proxy.Fail(f.fault)
		resp, text, err := c.call(t, http.MethodPatch, objects+"/one")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != f.code || !strings.Contains(text, f.says) || !strings.Contains(text, `"kind":"Status"`) {
			t.Errorf("got %d %s, want %d and %q", resp.StatusCode, text, f.code, f.says)
		}
		if after := resp.Header.Get("Retry-After"); f.code == 429 && after != "2" {
			t.Errorf("Retry-After %q, want 2", after)
		}
	}
	proxy.Fail(Reset())
	if _, _, err := c.call(t, http.MethodGet, objects); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want a broken connection", err)
	}
	if got := u.seen(); len(got) > 0 || len(proxy.Writes()) > 0 {
		t.Errorf("the API server saw %q", got)
	}
	proxy.Fail(Deny("patch", "secrets"))
	if resp, _, err := c.call(t, http.MethodPatch, objects+"/one"); err != nil || resp.StatusCode != 200 {
		t.Errorf("another resource: got %v", err)
	}
}

func TestFaultsPassAndTakeTurns(t *testing.T) {
	hits := func(f Fault, n int) string {
		var s strings.Builder
		for range n {
			w := httptest.NewRecorder()
			if !f(w, httptest.NewRequest(http.MethodGet, objects, nil)) {
				w.Code = 0
			}
			fmt.Fprintf(&s, "%d ", w.Code)
		}
		return s.String()
	}
	if got := hits(Some(0.5, Unavailable()), 4); got != "0 503 0 503 " {
		t.Errorf("half of the requests: %s", got)
	}
	if got := hits(InTurn(Unavailable(), LeaderChanged()), 3); got != "503 500 503 " {
		t.Errorf("in turn: %s", got)
	}
	if got := hits(During(0, Unavailable()), 1); got != "0 " {
		t.Errorf("when the time is over: %s", got)
	}
	if got := hits(During(time.Hour, Unavailable()), 2); got != "503 503 " {
		t.Errorf("before the time is over: %s", got)
	}
}

func TestCallersWithATokenSpeakForThemselves(t *testing.T) {
	u, proxy := newUpstream(t)
	for _, token := range []string{"", "somebody"} {
		if _, _, err := callerOf(t, proxy.Kubeconfig(token)).call(t, http.MethodGet, objects); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{`GET ` + objects + ` as "Bearer admin"`, `GET ` + objects + ` as "Bearer somebody"`}
	if got := u.seen(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPortForwardIsForWhoMayAndToWhatIsThere(t *testing.T) {
	_, proxy := newUpstream(t)
	proxy.Kubelet = &Kubelet{}
	for _, c := range []struct {
		token, pod string
		code       int
	}{
		{"nobody", "mlflow-1", 403},
		{"somebody", "gone", 404},
		{"somebody", "mlflow-1", 400}, // as far as the kubelet, which wants the upgrade
	} {
		resp, text, err := callerOf(t, proxy.Kubeconfig(c.token)).call(t, http.MethodPost, "/api/v1/namespaces/ml/pods/"+c.pod+"/portforward")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.code {
			t.Errorf("%s to %s: got %d %s, want %d", c.token, c.pod, resp.StatusCode, text, c.code)
		}
	}
}
