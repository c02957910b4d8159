package deployments

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
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

// The protocols of a request.
const (
	ProtocolInvocations = "invocations" // MLflow's own: /invocations
	ProtocolV2          = "v2"          // the Open Inference Protocol: /v2/models/NAME/infer, where the model has the deployment's name, or the one that it was adopted with
)

// Prediction is one request to a deployed model.
type Prediction struct {
	// Namespace is the kubeconfig context's where it is empty.
	Namespace string
	Name      string
	// Tag asks the revision with this tag; empty is the deployment as a whole, as its traffic is split.
	Tag string
	// Body is the payload of /invocations, or of the Open Inference Protocol.
	Body []byte
	// Protocol is ProtocolInvocations or ProtocolV2; where it is empty, the body tells.
	Protocol string
	// ContentType of Body; empty is application/json.
	ContentType string
	// Via is ViaGateway, which is the default, or ViaURL.
	Via string
	// Header is sent besides.
	Header http.Header
	// Token is sent as a bearer token: through the API server's tunnel, or over TLS.
	Token string
	// CA holds certificates, as PEM; with ViaURL they are the only ones trusted. Empty is what the system trusts.
	CA []byte
}

// Predict sends one request to a deployed model and returns the answer's body. A model that is scaled to zero starts first: for two
// minutes, or until ctx ends, refused connections and 503 are tried again.
func (c *Client) Predict(ctx context.Context, p Prediction) ([]byte, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	namespace, err := c.place(p.Namespace, p.Name)
	if err != nil {
		return nil, err
	}
	endpoint, err := c.knative.Endpoint(ctx, namespace, p.Name, p.Tag)
	if err != nil {
		return nil, err
	}
	client, closer, err := c.reach(endpoint, p)
	if err != nil {
		return nil, err
	}
	defer closer()
	if p.isV2() {
		return client.Infer(ctx, endpoint.Model, p.Body)
	}
	return client.Invoke(ctx, cmp.Or(p.ContentType, jsonType), p.Body)
}

const jsonType = "application/json"

// validate tells what is wrong without asking a cluster.
func (p Prediction) validate() error {
	switch {
	case p.Via != "" && p.Via != ViaGateway && p.Via != ViaURL:
		return invalid("ViaInvalid", fmt.Sprintf("way %q", p.Via), "choose gateway or url")
	case p.Protocol != "" && p.Protocol != ProtocolInvocations && p.Protocol != ProtocolV2:
		return invalid("ProtocolInvalid", fmt.Sprintf("protocol %q", p.Protocol), "choose "+ProtocolInvocations+" or "+ProtocolV2)
	case p.Protocol == ProtocolV2 && !p.isJSON():
		return invalid("ContentTypeInvalid", fmt.Sprintf("%s does not go by the Open Inference Protocol", p.ContentType), "send JSON, or choose the protocol "+ProtocolInvocations)
	case len(p.CA) > 0 && p.Via != ViaURL:
		return invalid("CAUnused", "certificates are given for a way that checks none: the API server's tunnel leads to the gateway", "leave them out, or ask the URL itself: --via url")
	}
	return nil
}

func (p Prediction) isV2() bool {
	return p.Protocol == ProtocolV2 || p.Protocol == "" && p.isJSON() && inference.IsV2(p.Body)
}

func (p Prediction) isJSON() bool {
	kind, _, err := mime.ParseMediaType(cmp.Or(p.ContentType, jsonType))
	return err == nil && kind == jsonType
}

// reach makes the way to a model. closer must be called.
func (c *Client) reach(endpoint serving.Endpoint, p Prediction) (client *inference.Client, closer func(), err error) {
	client = &inference.Client{URL: endpoint.URL, Host: endpoint.Host, Header: p.header()}
	var transport *http.Transport
	if p.Via == ViaURL {
		if transport, err = toURL(endpoint.URL, p); err != nil {
			return nil, nil, err
		}
		closer = transport.CloseIdleConnections
	} else {
		if endpoint.Gateway == (cluster.ServicePort{}) {
			return nil, nil, &failure.Error{
				Class: failure.Diagnosed, Reason: "GatewayUnknown",
				Message: fmt.Sprintf("no gateway of Kourier, Istio or Contour can be seen in front of %s", p.Name),
				Hint:    "ask at the URL itself: --via url; or for the right to see the gateway: manifests/roles/gateway has it for Kourier's",
			}
		}
		way := c.dial(endpoint.Gateway, nil)
		transport = newTransport(way.DialContext)
		closer = func() {
			transport.CloseIdleConnections()
			_ = way.Close() // nothing is under way any more
		}
		// The API server's tunnel is encrypted; at its end the gateway takes plain HTTP, and routes by the Host header.
		client.URL = (&url.URL{Scheme: "http", Host: endpoint.Host}).String()
	}
	client.HTTP = &http.Client{
		Transport: patient{transport},
		// A login's page is no prediction, and a token is for the deployment alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return client, closer, nil
}

func (p Prediction) header() http.Header {
	header := p.Header.Clone()
	if p.Token == "" {
		return header
	}
	if header == nil {
		header = http.Header{}
	}
	header.Set("Authorization", "Bearer "+p.Token)
	return header
}

// toURL is the way to a deployment's own URL.
func toURL(address string, p Prediction) (*http.Transport, error) {
	if p.Token != "" && !strings.HasPrefix(address, "https://") {
		return nil, &failure.Error{
			Class: failure.Refused, Reason: "TokenInTheClear", Object: address, Message: "the token would go over the network in the clear",
			Hint: "leave out --via url, and the request goes through the API server's encrypted tunnel; or let Knative serve over TLS",
		}
	}
	transport := newTransport((&net.Dialer{Timeout: 30 * time.Second}).DialContext)
	transport.Proxy = http.ProxyFromEnvironment
	if len(p.CA) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(p.CA) {
			return nil, invalid("CAInvalid", "there is no certificate among those to trust", "give them as PEM: -----BEGIN CERTIFICATE-----")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return transport, nil
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
