package forward

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	gorilla "github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// apiServer answers portforward requests as an API server with its kubelets does: SPDY, bare or in a WebSocket.
type apiServer struct {
	*httptest.Server
	t       *testing.T
	kubelet kit.Kubelet

	mu          sync.Mutex
	noWebSocket bool
	refuse      int                                        // status of every upgrade, if not 0
	token       string                                     // that is accepted, if not ""
	hold        func(context.Context)                      // is called by each upgrade, if not nil
	backends    map[string]func(s httpstream.Stream) error // by pod: what the container runtime does with a data stream
	upgrades    []string                                   // "websocket iris-1", in order
	ports       []string                                   // that were asked for
}

func newAPIServer(t *testing.T) *apiServer {
	a := &apiServer{t: t, backends: map[string]func(httpstream.Stream) error{}}
	a.kubelet.Forward = a.forward
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(func() {
		a.kubelet.Close()
		a.Close()
	})
	return a
}

// cut breaks all tunnels.
func (a *apiServer) cut() { a.kubelet.Cut() }

func (a *apiServer) seen() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.upgrades...)
}

func (a *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	pod, ok := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/ml/pods/")
	pod, ok2 := strings.CutSuffix(pod, "/portforward")
	if !ok || !ok2 {
		a.t.Errorf("asked for %s", r.URL.Path)
	}
	a.mu.Lock()
	refuse, hold, noWebSocket := a.refuse, a.hold, a.noWebSocket
	if a.token != "" && r.Header.Get("Authorization") != "Bearer "+a.token {
		refuse = http.StatusUnauthorized
	}
	a.mu.Unlock()
	if hold != nil {
		hold(r.Context())
	}
	isWebSocket := gorilla.IsWebSocketUpgrade(r)
	upgrade := "spdy "
	if isWebSocket {
		upgrade = "websocket "
	}
	switch {
	case refuse != 0:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(refuse)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"because","code":%d}`, refuse)
	case isWebSocket && noWebSocket:
		w.WriteHeader(http.StatusBadRequest)
	default:
		a.mu.Lock()
		a.upgrades = append(a.upgrades, upgrade+pod)
		a.mu.Unlock()
		if err := a.kubelet.Serve(w, r, pod); err != nil {
			a.t.Error(err)
		}
	}
}

// forward is the container runtime.
func (a *apiServer) forward(pod, port string, s httpstream.Stream) error {
	a.mu.Lock()
	a.ports = append(a.ports, port)
	backend, ok := a.backends[pod]
	a.mu.Unlock()
	if !ok {
		return fmt.Errorf("container not found (%q)", pod)
	}
	return backend(s)
}

// tcp is a backend that joins streams to a TCP server.
func tcp(address string) func(httpstream.Stream) error {
	return func(s httpstream.Stream) error { return kit.TCP(address, s) }
}

// echo answers with what it hears.
func echo(s httpstream.Stream) error {
	_, err := io.Copy(s, s)
	return err
}

// fakeCluster is a cluster with Services and pods, and tells of changes.
type fakeCluster struct {
	config *rest.Config

	mu       sync.Mutex
	services map[string]*corev1.Service
	pods     map[string]*corev1.Pod
	changed  chan struct{}
	getErr   error
	renew    func() // where it is set, what a kubeconfig that was written anew changes
}

func (c *fakeCluster) Renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renew != nil {
		c.renew()
	}
}

func newCluster(a *apiServer) *fakeCluster {
	return &fakeCluster{
		config:   &rest.Config{Host: a.URL},
		services: map[string]*corev1.Service{"mlflow": service("mlflow", intstr.FromString("http"))},
		pods:     map[string]*corev1.Pod{},
		changed:  make(chan struct{}),
	}
}

func service(name string, target intstr.IntOrString) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "mlflow"},
			Ports:    []corev1.ServicePort{{Name: "web", Port: 80, TargetPort: target}},
		},
	}
}

func pod(name string, isReady bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if isReady {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: name, UID: types.UID("uid-of-" + name), Labels: map[string]string{"app": "mlflow"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "mlflow", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 5000}}}}},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}},
		},
	}
}

// set puts pods into the cluster; remove takes them out.
func (c *fakeCluster) set(pods ...*corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range pods {
		c.pods[p.Name] = p
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeCluster) remove(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(c.pods, name)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeCluster) RESTConfig() (*rest.Config, error) { return rest.CopyConfig(c.config), nil }

func (c *fakeCluster) Get(_ context.Context, r cluster.Ref) (*unstructured.Unstructured, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.getErr != nil {
		return nil, c.getErr
	}
	s, ok := c.services[r.Name]
	if !ok || r.Namespace != "ml" || r.Kind != "Service" {
		return nil, fmt.Errorf("get %s: %w", r, apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, r.Name))
	}
	obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(s)
	return &unstructured.Unstructured{Object: obj}, err
}

func (c *fakeCluster) Observe(ctx context.Context, qs []cluster.Query, f func([]*unstructured.Unstructured) (bool, error)) error {
	for {
		c.mu.Lock()
		changed := c.changed
		var objs []*unstructured.Unstructured
		for _, p := range c.pods {
			if qs[0].Name != "" && qs[0].Name != p.Name {
				continue
			}
			obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
			if err != nil {
				c.mu.Unlock()
				return err
			}
			objs = append(objs, &unstructured.Unstructured{Object: obj})
		}
		c.mu.Unlock()
		if done, err := f(objs); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("observing: %w", context.Cause(ctx))
		case <-changed:
		}
	}
}
