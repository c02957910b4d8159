// Package deployments puts MLflow models on Knative: one model version becomes one image, one revision and one URL.
//
// It is the Go API of the deploy half, with a promise: its signatures hold only types of its own, of pkg/failure and pkg/progress,
// of the standard library and of Kubernetes' API machinery.
package deployments

import (
	"context"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
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
type Client struct{}

// Option changes how a Client works.
type Option func(*Client)

// WithCredentials wraps every request to the tracking server: this is where credentials are added.
func WithCredentials(wrap func(http.RoundTripper) http.RoundTripper) Option {
	return func(*Client) {}
}

// New makes a Client of the cluster that getter names. It reads no kubeconfig and dials nobody.
func New(getter Getter, r progress.Reporter, options ...Option) *Client {
	return &Client{}
}

// Request is one deployment of one model.
type Request struct {
	// Namespace is the kubeconfig context's where it is empty.
	Namespace string
	// Name of the Knative Service and of the model behind it: a DNS label that begins with a letter.
	Name string
	// ModelURI is in one of MLflow's forms: models:/iris/3, models:/iris@champion, runs:/ID/model.
	ModelURI string
	// TrackingURI is the tracking server's URL. Empty is the MLflow that `kubectl mlflow install` put on the cluster.
	TrackingURI string
	// ImageRepository is where images go, without a tag. Empty is the repository of the Service's present image.
	ImageRepository string
	// BaseImage of the environment. Empty is docker.io/library/python:X.Y-slim of the model's Python.
	BaseImage string
	// Platform of the image, "linux/amd64". Empty is the nodes'.
	Platform string
	// ModelServer is the model server's name. Empty chooses one that fits the model.
	ModelServer string
	// Timeout is how long the new revision may take to be ready, in whole seconds; 0 is DefaultTimeout.
	Timeout time.Duration
}

// Validate needs no network. failure.Invalid names the field that is wrong, and shows the right form.
func (r Request) Validate() error { return nil }

// Result is what a deployment came to.
type Result struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Action is created, configured or unchanged.
	Action   string  `json:"action"`
	URL      string  `json:"url"`
	Revision string  `json:"revision"`
	Image    string  `json:"image"`
	ModelURI string  `json:"modelURI"`
	Version  string  `json:"version,omitempty"`
	Timings  Timings `json:"timings"`
}

// Timings is how long the phases took, in nanoseconds.
type Timings struct {
	// Resolve ends with the last check before the first change: tracking server, model, registry, Knative.
	Resolve time.Duration `json:"resolve"`
	// Environment is the building of the environment image; 0 where the registry had it.
	Environment time.Duration `json:"environment"`
	// Model is the packing and sending of the model's layers; little where the registry had them.
	Model time.Duration `json:"model"`
	// Apply is the write of the Service, until Knative has named its revision.
	Apply time.Duration `json:"apply"`
	// Ready is the wait for the revision, its pods and its traffic.
	Ready time.Duration `json:"ready"`
}

// Deploy creates or updates one deployment and waits until the new revision has the traffic. The same content again is
// "unchanged" and writes nothing. Until all checks have passed nothing is written anywhere.
func (c *Client) Deploy(ctx context.Context, r Request) (*Result, error) {
	return nil, &failure.Error{Class: failure.Diagnosed, Reason: "NotWritten", Message: "deploy is being written"}
}

// Prediction is one request to a deployed model.
type Prediction struct {
	// Namespace is the kubeconfig context's where it is empty.
	Namespace string
	Name      string
	// Body is the payload of /invocations.
	Body []byte
	// ContentType of Body; empty is application/json.
	ContentType string
	// Via is the way to the model: ViaGateway (also ""), or ViaURL.
	Via string
}

// The ways to a deployed model.
const (
	ViaGateway = "gateway" // through the API server to Knative's gateway: works wherever kubectl works
	ViaURL     = "url"     // to the Service's URL itself: needs DNS and a route to it
)

// Predict sends one request to a deployed model and returns the answer's body. A model that is scaled to zero starts first.
func (c *Client) Predict(ctx context.Context, p Prediction) ([]byte, error) {
	return nil, &failure.Error{Class: failure.Diagnosed, Reason: "NotWritten", Message: "predict is being written"}
}

// Delete removes a deployment. failure.Refused where it is not ours, failure.Invalid where there is none.
func (c *Client) Delete(ctx context.Context, namespace, name string) error {
	return &failure.Error{Class: failure.Diagnosed, Reason: "NotWritten", Message: "delete is being written"}
}

// Deployment is one deployed model.
type Deployment struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	ModelURI  string `json:"modelURI,omitempty"`
	Version   string `json:"version,omitempty"`
	RunID     string `json:"runID,omitempty"`
	Image     string `json:"image,omitempty"`
	URL       string `json:"url,omitempty"`
	Ready     bool   `json:"ready"`
	// Reason is why it is not ready.
	Reason string `json:"reason,omitempty"`
}

// List returns the deployments of a namespace, or of all where it is "", in order of namespace and name.
func (c *Client) List(ctx context.Context, namespace string) ([]Deployment, error) {
	return nil, &failure.Error{Class: failure.Diagnosed, Reason: "NotWritten", Message: "list is being written"}
}
