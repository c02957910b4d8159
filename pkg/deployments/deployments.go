package deployments

import (
	"context"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/forward"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/logs"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// DefaultTimeout is how long a new revision may take to be ready.
const DefaultTimeout = 10 * time.Minute

// Getter finds the cluster: genericclioptions.ConfigFlags, and any genericclioptions.RESTClientGetter, is one.
type Getter interface {
	ToRESTConfig() (*rest.Config, error)
	ToRawKubeConfigLoader() clientcmd.ClientConfig
}

// Client deploys to one cluster. It is safe for concurrent use.
type Client struct {
	progress progress.Reporter
	getenv   func(string) string
	project  string                                      // directory of the user's pyproject.toml, or ""
	browse   func(ctx context.Context, url string) error // or nil
	rooms
}

// rooms is what the walks call: other packages of ours, or their fakes.
type rooms struct {
	namespace func() (namespace string, explicit bool, err error)
	nodes     func(ctx context.Context) (architectures []string, err error)
	missing   func(ctx context.Context, wanted []cluster.Access) ([]cluster.Access, error)
	find      func(ctx context.Context, namespaces ...string) (*instance.Instance, error)
	record    func(ctx context.Context, namespace string) (*instance.Instance, error) // nil where there is none
	service   func(ctx context.Context, namespace, name string) (*corev1.Service, error)
	services  func(ctx context.Context, namespace string) ([]corev1.Service, error)
	admin     func(ctx context.Context, i *instance.Instance) (tracking.Credentials, error)
	track     func(server serverAt) source
	dial      func(to cluster.ServicePort, note func(text string)) tunnel
	images    func(repository string, r progress.Reporter) (images, error)
	pullers   func(ctx context.Context, s serving.Spec) (pullers, error)
	knative   knative
	logged    logs.Cluster
	wait      func(ctx context.Context, targets []readiness.Target, s progress.Step) error
}

// source is the part of tracking.Client that a deployment needs.
type source interface {
	Resolve(ctx context.Context, u tracking.URI) (tracking.Version, error)
	Files(v tracking.Version) model.Files
	ListModels(ctx context.Context) ([]string, error)
	ListVersions(ctx context.Context, name string) ([]string, error)
	ListAliases(ctx context.Context, name string) ([]string, error)
}

// tunnel is a forward.Dialer.
type tunnel interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Close() error
}

// knative is a serving.Client.
type knative interface {
	Version(ctx context.Context) (string, error)
	Check(ctx context.Context, s serving.Spec) error
	Apply(ctx context.Context, s serving.Spec) (serving.Applied, error)
	Doubt(ctx context.Context, a serving.Applied, doubted bool) error
	Promote(ctx context.Context, a serving.Applied, percent int64) (serving.Applied, error)
	SetTraffic(ctx context.Context, namespace, name string, change func(now serving.Split, revisions []serving.Revision) ([]serving.Share, error)) (serving.Applied, error)
	Rollback(ctx context.Context, namespace, name string) (serving.Applied, error)
	Revisions(ctx context.Context, namespace, name string) ([]serving.Revision, error)
	Endpoint(ctx context.Context, namespace, name, tag string) (serving.Endpoint, error)
	Get(ctx context.Context, namespace, name string) (serving.Deployment, error)
	List(ctx context.Context, namespace string, f func(serving.Deployment) error) error
	Delete(ctx context.Context, namespace, name string) error
}

// Option changes how a Client works.
type Option func(*Client)

// WithEnvironment lets the Client find credentials, certificates and workspace as MLflow's Python client does, with getenv, which is
// os.Getenv in a program: MLFLOW_TRACKING_USERNAME and _PASSWORD, for what is missing of them the file .mlflow/credentials in HOME
// where the request has a tracking URI, MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_SERVER_CERT_PATH, _CLIENT_CERT_PATH and _INSECURE_TLS,
// and MLFLOW_WORKSPACE. Where it finds no credentials and the request has a tracking URI, it logs in at the OpenID provider that the
// MLFLOW_TRACKING_OIDC variables and pyproject.toml in the current directory name, as the Python package mlflow-oidc-client does, and
// keeps the tokens below os.UserCacheDir. Where it finds nothing, an MLflow on the cluster that has basic-auth is read as its admin, by those who
// may read its Secret, and other servers without credentials.
func WithEnvironment(getenv func(string) string) Option {
	return func(c *Client) { c.getenv, c.project = getenv, "." }
}

// WithBrowser lets browse open the page of a login in the user's browser. Without it the page's address is told, and the login waited for.
func WithBrowser(browse func(ctx context.Context, url string) error) Option {
	return func(c *Client) { c.browse = browse }
}

// New makes a Client of the cluster that getter names. It reads no kubeconfig and dials nobody.
func New(getter Getter, r progress.Reporter, options ...Option) *Client {
	k := cluster.New(getter)
	c := &Client{
		progress: r,
		getenv:   func(string) string { return "" },
		rooms: rooms{
			namespace: k.Namespace,
			missing:   k.Missing,
			nodes:     func(ctx context.Context) ([]string, error) { return architectures(ctx, k) },
			find: func(ctx context.Context, namespaces ...string) (*instance.Instance, error) {
				return instance.Find(ctx, k, namespaces...)
			},
			record: func(ctx context.Context, namespace string) (*instance.Instance, error) {
				return instance.Load(ctx, k, namespace)
			},
			service: func(ctx context.Context, namespace, name string) (*corev1.Service, error) {
				return serviceOf(ctx, k, namespace, name)
			},
			services: func(ctx context.Context, namespace string) ([]corev1.Service, error) {
				return servicesOf(ctx, k, namespace)
			},
			admin: func(ctx context.Context, i *instance.Instance) (tracking.Credentials, error) {
				return asAdmin(ctx, k, i)
			},
			track: func(s serverAt) source { return tracking.New(s.url, s.transport) },
			dial: func(to cluster.ServicePort, note func(text string)) tunnel {
				d := forward.NewDialer(k, to)
				d.Note = note
				return d
			},
			pullers: func(ctx context.Context, s serving.Spec) (pullers, error) {
				return pullersOf(ctx, k, serving.New(k), s)
			},
			knative: serving.New(k),
			logged:  k,
			wait: func(ctx context.Context, targets []readiness.Target, s progress.Step) error {
				return readiness.Wait(ctx, k, targets, s)
			},
		},
	}
	c.images = func(repository string, r progress.Reporter) (images, error) {
		return openImages(repository, c.getenv, r)
	}
	for _, option := range options {
		option(c)
	}
	return c
}

// in is the namespace to work in: the one given, else the kubeconfig context's.
func (c *Client) in(namespace string) (string, error) {
	if namespace != "" {
		return namespace, nil
	}
	namespace, _, err := c.namespace()
	return namespace, err
}

// place is the namespace of a deployment of that name, which is checked.
func (c *Client) place(namespace, name string) (string, error) {
	if err := validateName(namespace, name); err != nil {
		return "", err
	}
	return c.in(namespace)
}

// existing is the namespace of a deployment that is there.
func (c *Client) existing(ctx context.Context, namespace, name string) (string, error) {
	namespace, err := c.place(namespace, name)
	if err == nil {
		_, err = c.knative.Get(ctx, namespace, name)
	}
	return namespace, err
}
