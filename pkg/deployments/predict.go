package deployments

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/inference"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

// The ways to a deployed model.
const (
	ViaGateway = "gateway" // through the API server to Knative's gateway: works wherever kubectl works
	ViaURL     = "url"     // to the Service's URL itself: needs DNS and a route to it
)

// Prediction is one request to a deployed model.
type Prediction struct {
	// Namespace is the kubeconfig context's where it is empty.
	Namespace string
	Name      string
	// Body is the payload of /invocations.
	Body []byte
	// ContentType of Body; empty is application/json.
	ContentType string
	// Via is ViaGateway, which is the default, or ViaURL.
	Via string
}

// Predict sends one request to a deployed model and returns the answer's body. A model that is scaled to zero starts first: for two
// minutes, or until ctx ends, refused connections and 503 are tried again.
func (c *Client) Predict(ctx context.Context, p Prediction) ([]byte, error) {
	if err := validateName(p.Namespace, p.Name); err != nil {
		return nil, err
	}
	if p.Via != "" && p.Via != ViaGateway && p.Via != ViaURL {
		return nil, invalid("ViaInvalid", fmt.Sprintf("way %q", p.Via), "choose gateway or url")
	}
	namespace, err := c.in(p.Namespace)
	if err != nil {
		return nil, err
	}
	endpoint, err := c.knative.Endpoint(ctx, namespace, p.Name, "")
	if err != nil {
		return nil, err
	}
	client, closer, err := c.reach(endpoint, p)
	if err != nil {
		return nil, err
	}
	defer closer()
	if p.ContentType == "" {
		p.ContentType = "application/json"
	}
	return client.Invoke(ctx, p.ContentType, p.Body)
}

// reach makes the way to a model. closer must be called.
func (c *Client) reach(endpoint serving.Endpoint, p Prediction) (client *inference.Client, closer func(), err error) {
	if p.Via == ViaURL {
		transport := newTransport((&net.Dialer{Timeout: 30 * time.Second}).DialContext)
		transport.Proxy = http.ProxyFromEnvironment
		return &inference.Client{HTTP: &http.Client{Transport: patient{transport}}, URL: endpoint.URL, Host: endpoint.Host}, transport.CloseIdleConnections, nil
	}
	if endpoint.Gateway == (cluster.ServicePort{}) {
		return nil, nil, &failure.Error{
			Class: failure.Diagnosed, Reason: "GatewayUnknown",
			Message: fmt.Sprintf("no gateway of Kourier, Istio or Contour can be seen in front of %s", p.Name),
			Hint:    "ask at the URL itself: --via url",
		}
	}
	way := c.dial(endpoint.Gateway, nil)
	transport := newTransport(way.DialContext)
	closer = func() {
		transport.CloseIdleConnections()
		_ = way.Close() // nothing is under way any more
	}
	// The API server's tunnel is encrypted; at its end the gateway takes plain HTTP, and routes by the Host header.
	plain := url.URL{Scheme: "http", Host: endpoint.Host}
	return &inference.Client{HTTP: &http.Client{Transport: patient{transport}}, URL: plain.String(), Host: endpoint.Host}, closer, nil
}

// startup is how long a model that is scaled to zero may take to answer its first request.
const startup = 2 * time.Minute

// patient tries again what a gateway says while a model is started from zero. The model itself has not seen such a request.
type patient struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(request *http.Request) (*http.Response, error) {
	began := time.Now()
	pause := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 1.5, Jitter: 0.1, Steps: 64, Cap: 3 * time.Second}
	for {
		response, err := p.RoundTripper.RoundTrip(request)
		if !again(response, err) || time.Since(began) > startup || request.Body != nil && request.GetBody == nil {
			return response, err
		}
		timer := time.NewTimer(pause.Step())
		select {
		case <-request.Context().Done():
			timer.Stop()
			return response, err // what was last heard says more than that the time is over
		case <-timer.C:
		}
		if response != nil {
			_ = response.Body.Close() // not read: the next answer is the one that counts
		}
		if request.GetBody != nil {
			body, err := request.GetBody()
			if err != nil {
				return nil, err
			}
			request = request.Clone(request.Context())
			request.Body = body
		}
	}
}

// again tells that the request has not come to the model.
func again(response *http.Response, err error) bool {
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	return response.StatusCode == http.StatusServiceUnavailable
}
