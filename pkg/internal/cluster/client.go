// Package cluster writes and reads Kubernetes objects safely. It knows Kubernetes, not MLflow.
package cluster

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Getter finds the cluster. Every genericclioptions.RESTClientGetter is one.
type Getter interface {
	ToRESTConfig() (*rest.Config, error)
	ToRawKubeConfigLoader() clientcmd.ClientConfig
}

// Client talks to one API server. It is safe for concurrent use.
type Client struct {
	getter Getter
	retry  retry
	lock   lockTimes

	mu   sync.Mutex
	conn *connection
}

// connection is made once and shared by all calls.
type connection struct {
	config  *rest.Config
	context string // of the kubeconfig; "" in a pod
	dynamic dynamic.Interface
	raw     rest.Interface // for paths that hold no objects: discovery and logs
	reached atomic.Bool    // the server has answered at least once

	mu    sync.Mutex
	kinds map[schema.GroupVersionKind]resource
}

// resource is where the API server serves a kind.
type resource struct {
	schema.GroupVersionResource
	namespaced bool
}

// New makes a client that reads the kubeconfig and dials on first use.
func New(getter Getter) *Client {
	return &Client{getter: getter, retry: patient(), lock: usualLockTimes()}
}

// Namespace is the namespace of the flags or of the kubeconfig's context; explicit tells that a flag named it.
func (c *Client) Namespace() (namespace string, explicit bool, err error) {
	namespace, explicit, err = c.getter.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return "", false, c.explainConfig(err)
	}
	return namespace, explicit, nil
}

// RESTConfig is a copy of the configuration that the client uses, for those who need a protocol of their own.
func (c *Client) RESTConfig() (*rest.Config, error) {
	conn, err := c.connect()
	if err != nil {
		return nil, err
	}
	return rest.CopyConfig(conn.config), nil
}

// HasKind tells whether the API server serves the kind.
func (c *Client) HasKind(ctx context.Context, gvk schema.GroupVersionKind) (bool, error) {
	_, err := c.resourceOf(ctx, gvk)
	if errors.Is(err, ErrNotServed) {
		return false, nil
	}
	return err == nil, err
}

// Renew reads the kubeconfig anew, for those who need a protocol of their own and were not let in; all others are served by itself.
func (c *Client) Renew() {
	c.mu.Lock()
	old := c.conn
	c.mu.Unlock()
	if old != nil {
		c.renewed(old)
	}
}

func (c *Client) connect() (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		return c.conn, nil
	}
	conn, err := c.read()
	if err != nil {
		return nil, err
	}
	c.conn = conn
	return conn, nil
}

// renewed is what the kubeconfig says now that the server no longer takes old's credentials: a new login writes them there, and a
// token's file is looked at by client-go once a minute. Another context, another server or a kubeconfig that cannot be read just now
// changes nothing: what has begun on one cluster does not go on on another.
func (c *Client) renewed(old *connection) *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != old {
		return c.conn
	}
	fresh, err := c.read()
	if err != nil || fresh.config.Host != old.config.Host || fresh.context != old.context {
		return old
	}
	fresh.reached.Store(old.reached.Load())
	c.conn = fresh
	return fresh
}

// read makes a connection of what the kubeconfig says now.
func (c *Client) read() (*connection, error) {
	config, err := c.getter.ToRESTConfig()
	if err != nil {
		return nil, c.explainConfig(err)
	}
	if err := c.checkFound(config); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.UserAgent = FieldManager
	if config.QPS == 0 { // client-go's default of 5 a second is meant for controllers. A server that has too much to do says so, and is obeyed
		config.QPS = -1
	}
	if config.WarningHandler == nil && config.WarningHandlerWithContext == nil {
		config.WarningHandler = rest.NoWarnings{} // the default writes to stderr
	}
	conn, err := dial(config)
	if err != nil {
		return nil, c.explainConfig(err)
	}
	kubeconfig, err := c.getter.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, c.explainConfig(err)
	}
	conn.context = kubeconfig.CurrentContext
	return conn, nil
}

// dial makes the clients over one http.Client. Nothing is sent yet.
func dial(config *rest.Config) (*connection, error) {
	paced := rest.CopyConfig(config)
	paced.Wrap(func(t http.RoundTripper) http.RoundTripper { return ownPace{t} })
	client, err := rest.HTTPClientFor(paced)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, err
	}
	raw, err := rawClient(config, client)
	if err != nil {
		return nil, err
	}
	return &connection{config: config, dynamic: dyn, raw: raw, kinds: map[schema.GroupVersionKind]resource{}}, nil
}

func rawClient(config *rest.Config, client *http.Client) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"}) // Status: what a refusal is written in
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.GroupVersion = &schema.GroupVersion{}
	return rest.UnversionedRESTClientForConfigAndClient(config, client)
}

// ErrNotServed is wrapped by the failure of every call about a kind that the API server does not know.
var ErrNotServed = errors.New("no such kind")

// at is the dynamic client for one object's, or one query's, place.
func (conn *connection) at(r resource, namespace string) dynamic.ResourceInterface {
	if r.namespaced && namespace != "" {
		return conn.dynamic.Resource(r.GroupVersionResource).Namespace(namespace)
	}
	return conn.dynamic.Resource(r.GroupVersionResource)
}
