package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Write is a request that changed something, or would have.
type Write struct {
	N      int    // 1 is the first
	Method string // POST, PUT, PATCH or DELETE
	Path   string // without the query
}

func (w Write) String() string { return fmt.Sprintf("%d: %s %s", w.N, w.Method, w.Path) }

// Moment is when a Hook is called.
type Moment string

// The moments of a write.
const (
	Before Moment = "before" // it goes to the API server
	After  Moment = "after"  // the API server has done it; the client does not know yet
)

// Hook is called twice with each write. Where it returns false the connection is broken in place of what would come next.
type Hook func(Moment, Write) bool

// Proxy is an API server to its clients: a real one, with accidents. It speaks for the real kubeconfig's user where the client
// brings no token of its own. It is safe for concurrent use.
type Proxy struct {
	Kubelet *Kubelet // carries port-forwards and logs; nil passes them on

	t            testing.TB
	server       *httptest.Server
	upstream     *url.URL
	own, callers http.RoundTripper // with and without the real kubeconfig's credentials
	pass         *httputil.ReverseProxy

	mu     sync.Mutex
	fault  Fault
	hook   Hook
	writes []Write
}

// NewProxy starts one in front of the API server that the kubeconfig leads to, for the time of the test.
func NewProxy(t testing.TB, kubeconfig string) *Proxy {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t}
	if p.upstream, _, err = rest.DefaultServerUrlFor(config); err != nil {
		t.Fatal(err)
	}
	if p.own, err = rest.TransportFor(config); err != nil {
		t.Fatal(err)
	}
	if p.callers, err = rest.TransportFor(rest.AnonymousClientConfig(config)); err != nil {
		t.Fatal(err)
	}
	silent := log.New(io.Discard, "", 0) // broken connections are what this is for
	p.pass = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(p.upstream) },
		Transport:      roundTripper(p.roundTrip),
		FlushInterval:  -1, // a watch's events go on at once
		ModifyResponse: p.answered,
		ErrorHandler:   p.failed,
		ErrorLog:       silent,
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.server.EnableHTTP2 = true
	p.server.Config.ErrorLog = silent
	p.server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connection{}, c)
	}
	p.server.StartTLS()
	t.Cleanup(func() {
		if p.Kubelet != nil {
			p.Kubelet.Close()
		}
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// Kubeconfig writes a kubeconfig that leads here, with a token or, where it is empty, without credentials. It returns its path.
func (p *Proxy) Kubeconfig(token string) string {
	p.t.Helper()
	return kubeconfigOf(p.t, p.server, token)
}

// KubeconfigAs writes a kubeconfig that leads here, for a user whom the real kubeconfig's user plays.
func (p *Proxy) KubeconfigAs(user string) string {
	p.t.Helper()
	return writeKubeconfig(p.t, p.server, clientcmdapi.AuthInfo{Impersonate: user})
}

func kubeconfigOf(t testing.TB, server *httptest.Server, token string) string {
	t.Helper()
	return writeKubeconfig(t, server, clientcmdapi.AuthInfo{Token: token})
}

func writeKubeconfig(t testing.TB, server *httptest.Server, user clientcmdapi.AuthInfo) string {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: server.URL, CertificateAuthorityData: ca}
	config.AuthInfos["test"] = &user
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	config.CurrentContext = "test"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Fail puts a fault between the clients and the API server; nil takes it away.
func (p *Proxy) Fail(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// OnWrite calls h with each write from now on; nil ends that.
func (p *Proxy) OnWrite(h Hook) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = h
}

// Writes is what has been written, in order. Dry runs, questions that are asked by POST and a Lease's renewals are no writes.
func (p *Proxy) Writes() []Write {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.writes)
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	asked := parse(r)
	switch {
	case p.Kubelet == nil:
	case asked.whole() == "pods/portforward":
		if p.admits(w, r, asked) {
			if err := p.Kubelet.Serve(w, r, asked.name); err != nil {
				p.t.Logf("port-forward to %s: %v", asked.name, err)
			}
		}
		return
	case asked.whole() == "pods/log" && p.Kubelet.Log != nil:
		if p.admits(w, r, asked) {
			_, _ = io.WriteString(w, p.Kubelet.Log(asked.name, r.URL.Query().Get("container")))
		}
		return
	}
	if asked.writes(r) {
		p.mu.Lock()
		write := Write{N: len(p.writes) + 1, Method: r.Method, Path: r.URL.Path}
		p.writes = append(p.writes, write)
		hook := p.hook
		p.mu.Unlock()
		if hook != nil {
			if !hook(Before, write) {
				reset(r)
			}
			r = r.WithContext(context.WithValue(r.Context(), after{}, func() bool { return hook(After, write) }))
		}
	}
	p.pass.ServeHTTP(w, r)
}

// after is the key of what is called when the API server has answered.
type after struct{}

// errBroken makes the reverse proxy break the connection.
type errBroken string

func (e errBroken) Error() string { return string(e) }

func (*Proxy) answered(resp *http.Response) error {
	if call, ok := resp.Request.Context().Value(after{}).(func() bool); ok && !call() {
		return errBroken("by the hook")
	}
	return nil
}

func (*Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	if _, ok := errors.AsType[errBroken](err); ok {
		reset(r)
	}
	if r.Context().Err() != nil { // it was called off, a watch perhaps: other requests on its connection go on
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusBadGateway)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (p *Proxy) roundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") != "" {
		return p.callers.RoundTrip(r)
	}
	return p.own.RoundTrip(r)
}

// admits tells whether the pod is there and the caller may do with it what is asked; else it answers. The real API server
// decides both.
func (p *Proxy) admits(w http.ResponseWriter, r *http.Request, asked request) bool {
	review := authorizationv1.SelfSubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"},
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: asked.namespace, Verb: asked.verb, Resource: asked.resource, Subresource: asked.subresource, Name: asked.name,
		}},
	}
	question, err := json.Marshal(review)
	if err != nil {
		p.t.Error(err)
		return false
	}
	said, code, err := p.ask(r, http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", question)
	if err == nil {
		err = json.Unmarshal(said, &review)
	}
	switch {
	case err != nil:
		p.failed(w, r, err)
		return false
	case code != http.StatusCreated:
		relay(w, code, said)
		return false
	case !review.Status.Allowed:
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, asked.forbidden("the caller"))
		return false
	}
	pod := *r
	pod.Header = http.Header{} // its own credentials: who may forward need not be allowed to get
	said, code, err = p.ask(&pod, http.MethodGet, fmt.Sprintf("/api/v1/namespaces/%s/pods/%s", asked.namespace, asked.name), nil)
	switch {
	case err != nil:
		p.failed(w, r, err)
	case code != http.StatusOK:
		relay(w, code, said)
	default:
		return true
	}
	return false
}

// ask sends a question of the proxy's own to the API server, as the user of r.
func (p *Proxy) ask(r *http.Request, method, path string, body []byte) (said []byte, code int, err error) {
	req, err := http.NewRequestWithContext(r.Context(), method, p.upstream.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, values := range r.Header {
		if name == "Authorization" || len(name) > 12 && name[:12] == "Impersonate-" {
			req.Header[name] = values
		}
	}
	resp, err := p.roundTrip(req)
	if err != nil {
		return nil, 0, err
	}
	said, err = io.ReadAll(resp.Body)
	return said, resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// relay passes an answer of the API server on.
func relay(w http.ResponseWriter, code int, said []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(said)
}
