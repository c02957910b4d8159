package cluster

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
)

// retry says how long a call bears with a server that is in trouble.
type retry struct {
	first, most time.Duration // the pause doubles from first to most
	budget      time.Duration // of one call, from the first trouble on
}

func patient() retry {
	return retry{first: 200 * time.Millisecond, most: 5 * time.Second, budget: time.Minute}
}

// pause doubles from first to most, with jitter so that many clients do not come back at once.
type pause struct {
	retry
	next time.Duration
}

func (p *pause) reset() { p.next = 0 }

// step is how long to wait now.
func (p *pause) step() time.Duration {
	p.next = min(max(p.next*2, p.first), p.most)
	return wait.Jitter(p.next, 0.2)
}

// sleep waits for d or for the end of ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// do is the one way to the API server: it retries what is transient, once with new credentials where it is not let in, and explains
// what is not to be mended. verb and r are what the failure names.
func (c *Client) do(ctx context.Context, verb string, r Ref, f func(context.Context, *connection) error) error {
	conn, err := c.connect()
	if err != nil {
		return err
	}
	p := pause{retry: c.retry}
	var over time.Time
	for again := true; ; {
		err = f(ctx, conn)
		if apierrors.IsUnauthorized(err) && again { // which makes a plugin, too, give new ones
			again, conn = false, c.renewed(conn)
			continue
		}
		if answered(err) {
			conn.reached.Store(true)
		}
		if over.IsZero() { // however long the first answer took: it is the first trouble that begins the budget
			over = time.Now().Add(c.retry.budget)
		}
		if err == nil || ctx.Err() != nil || time.Now().After(over) || !transient(err, conn.reached.Load()) {
			return c.explain(ctx, err, verb, r)
		}
		d := p.step()
		if s, ok := apierrors.SuggestsClientDelay(err); ok {
			d = max(d, min(time.Duration(s)*time.Second, c.retry.most))
		}
		if sleep(ctx, d) != nil {
			return c.explain(ctx, err, verb, r)
		}
	}
}

// answered tells whether err, or its absence, comes from the API server itself.
func answered(err error) bool {
	_, status := errors.AsType[*apierrors.StatusError](err)
	return err == nil || status
}

// transient tells whether the same request may succeed a little later. A refused connection is transient only for a
// server that was there before: it restarts. The list is kapp's, and that of Kubernetes' own load balancers.
func transient(err error, reached bool) bool {
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		switch s := status.ErrStatus; s.Code {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		case http.StatusInternalServerError:
			return containsAny(s.Message, "etcdserver:", "leader changed", "failed calling webhook", "connection refused")
		case http.StatusConflict: // two pods counted at once; the object itself is not in conflict
			return s.Details != nil && s.Details.Kind == "resourcequotas" || strings.Contains(s.Message, "resourcequotas")
		}
		return false
	}
	if utilnet.IsConnectionRefused(err) {
		return reached
	}
	// An answer may break off in its middle, too. A pipe is broken where the server has closed the connection, and the request was not yet
	// written to its end.
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) ||
		utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) || utilnet.IsHTTP2ConnectionLost(err) ||
		containsAny(err.Error(), "http2: server sent GOAWAY", "http2: client connection force closed")
}

func containsAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// ownPace hides the header Retry-After: client-go would obey it ten times over for each of our own tries.
type ownPace struct{ http.RoundTripper }

func (t ownPace) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Header.Del("Retry-After")
	}
	return resp, err
}
