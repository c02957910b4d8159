package tracking

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds a JSON answer.
const maxAnswer = 10 << 20

// call sends a request with a JSON body, or for GET with url.Values, and decodes the answer into out. All our requests only read,
// so that each may be repeated.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	target := c.server.JoinPath(path)
	var body []byte
	if query, ok := in.(url.Values); ok {
		target.RawQuery = query.Encode()
	} else if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return c.retry(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, c.policy.answer)
		defer cancel()
		answer, err := c.once(ctx, method, target, body)
		if err != nil {
			return err
		}
		if out == nil {
			out = new(struct{})
		}
		if err := json.Unmarshal(answer, out); err != nil {
			return c.notMLflow(target, err)
		}
		return nil
	})
}

// once sends one request and returns the body of its answer.
func (c *Client) once(ctx context.Context, method string, target *url.URL, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.send(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, &transient{err: c.unreachable(err)}
	}
	if len(answer) > maxAnswer {
		return nil, c.notMLflow(target, fmt.Errorf("an answer of more than %d MiB", maxAnswer>>20))
	}
	return answer, nil
}

// send returns an answer with a good status; others become errors, transient where the server may do better soon.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		failed := c.unreachable(err)
		if isDial(err) || isUntrusted(err) || isCertificateAlert(err) {
			return nil, failed // nobody listens: whoever waits for a server, waits elsewhere. And certificates stay as they are
		}
		return nil, &transient{err: failed}
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, &transient{err: c.unreachable(err)}
	}
	refusal := c.refusal(resp, text)
	// What mlflow.utils.request_utils repeats. A 503 that is MLflow's way to say "not here" is none of them.
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if !servesNoArtifacts(text) {
			return nil, &transient{err: refusal, after: retryAfter(resp.Header)}
		}
	}
	return nil, refusal
}

// transient is an error that another attempt may not meet.
type transient struct {
	err   error
	after time.Duration // that the server asked for, or 0
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(strings.TrimSpace(h.Get("Retry-After")))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// retry repeats f while its error is transient and attempts are left. It returns the error that was wrapped.
func (c *Client) retry(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		again, ok := errors.AsType[*transient](err)
		if !ok {
			return err
		}
		if attempt == c.policy.attempts {
			return again.err
		}
		if c.pause(ctx, attempt, again.after) != nil {
			return c.interrupted(ctx, again.err)
		}
	}
}

// pause waits before the next attempt: twice as long each time, a quarter of it by chance, and at least as long as the server asked.
func (c *Client) pause(ctx context.Context, attempt int, asked time.Duration) error {
	wait := min(c.policy.backoff<<(attempt-1), c.policy.longest)
	wait = wait*3/4 + rand.N(wait/4+1) //nolint:gosec // not a secret
	timer := time.NewTimer(max(wait, min(asked, c.policy.longest)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
