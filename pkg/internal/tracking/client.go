// Package tracking is a client of MLflow's REST API (3.x, also 2.x). It knows HTTP, not Kubernetes.
package tracking

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// userAgent is what the server's log shows.
const userAgent = "kubectl-mlflow"

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	server *url.URL
	http   *http.Client
	policy policy
}

// policy says how often and how long is tried.
type policy struct {
	attempts int           // of one request, and of one read without progress
	backoff  time.Duration // before the second attempt; it doubles
	longest  time.Duration // of one pause
	answer   time.Duration // until a JSON answer is complete
	stall    time.Duration // that a body may stand still
}

// New takes the transport whole: credentials and tunnel are RoundTrippers that the caller stacks.
// The server's URL may have a path prefix.
func New(server *url.URL, rt http.RoundTripper) *Client {
	return &Client{
		server: server,
		http: &http.Client{
			Transport:     rt,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		policy: policy{
			attempts: 7,
			backoff:  250 * time.Millisecond,
			longest:  10 * time.Second,
			answer:   2 * time.Minute,
			stall:    time.Minute,
		},
	}
}

// Probe asks for one experiment: proof that the database answers, which /health is not.
func (c *Client) Probe(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "api/2.0/mlflow/experiments/search", map[string]any{"max_results": 1}, nil)
}
