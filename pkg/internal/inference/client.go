// Package inference is a client of /invocations, and of the Open Inference Protocol (V2).
package inference

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const (
	// maxAnswer bounds a prediction that is kept in memory.
	maxAnswer = 256 << 20
	// maxRefusal is what is read of an answer that is an error.
	maxRefusal = 64 << 10
	// shortest and longest are the pauses between two questions whether a model is ready.
	shortest = 100 * time.Millisecond
	longest  = 2 * time.Second
)

// Client asks one endpoint. HTTP carries the tunnel.
type Client struct {
	HTTP      *http.Client
	URL, Host string      // Host is sent as the Host header; "" is the URL's
	Header    http.Header // sent with every request: what routes it, who asks
}

// Invoke posts body to /invocations and returns the answer. It asks once: a prediction may cost, and may have effects.
// failure.Diagnosed carries the server's message, failure.Forbidden is 401 or 403.
func (c *Client) Invoke(ctx context.Context, contentType string, body []byte) ([]byte, error) {
	return c.predict(ctx, "/invocations", contentType, body)
}

// Infer posts a request of the Open Inference Protocol for model, and is otherwise like Invoke.
func (c *Client) Infer(ctx context.Context, model string, body []byte) ([]byte, error) {
	return c.predict(ctx, v2Models+url.PathEscape(model)+"/infer", "application/json", body)
}

func (c *Client) predict(ctx context.Context, path, contentType string, body []byte) ([]byte, error) {
	answer, err := c.do(ctx, http.MethodPost, path, contentType, body)
	if err != nil && ctx.Err() != nil {
		return nil, c.interrupted(ctx, "the model did not answer in time", err)
	}
	return answer, err
}

// Ready waits until a GET of path is answered with 200. Until ctx ends it asks again, whatever the answer is: a gateway that has no
// route or no pod yet, a server that loads its model. failure.TimedOut has the last answer; 401 and 403 end the wait.
func (c *Client) Ready(ctx context.Context, path string) error {
	for wait := shortest; ; wait = min(wait*3/2, longest) {
		_, err := c.do(ctx, http.MethodGet, path, "", nil)
		if err == nil || failure.ClassOf(err) == failure.Forbidden || failure.ClassOf(err) == failure.Invalid {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return c.interrupted(ctx, "the model is not ready", err)
		case <-timer.C:
		}
	}
}

// interrupted is the failure of a call whose ctx ended; last is what was heard last.
func (c *Client) interrupted(ctx context.Context, message string, last error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", c.URL, context.Cause(ctx))
	}
	e := &failure.Error{Class: failure.TimedOut, Reason: "ModelTimedOut", Object: c.URL, Message: message}
	if f, ok := errors.AsType[*failure.Error](last); ok && !errors.Is(last, context.DeadlineExceeded) {
		e.Message += ": " + f.Message
		e.Err = f.Err
	}
	return e
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, &failure.Error{Class: failure.Invalid, Reason: "InvalidURL", Object: c.URL, Message: "this is no URL", Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, method, base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, &failure.Error{Class: failure.Invalid, Reason: "InvalidURL", Object: c.URL, Message: "this is no URL", Err: err}
	}
	req.Host = c.Host
	req.Header.Set("User-Agent", "kubectl-mlflow")
	maps.Copy(req.Header, c.Header)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	limit := int64(maxAnswer)
	if resp.StatusCode != http.StatusOK {
		limit = maxRefusal
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	switch {
	case err != nil:
		return nil, c.unreachable(err)
	case resp.StatusCode != http.StatusOK:
		return nil, c.refusal(resp, answer)
	case len(answer) > maxAnswer:
		return nil, &failure.Error{Class: failure.Diagnosed, Reason: "AnswerTooLarge", Object: c.URL,
			Message: fmt.Sprintf("the answer is larger than %d MiB", maxAnswer>>20), Hint: "send fewer rows at once"}
	}
	return answer, nil
}

// refusal is the failure of an answer that is not 200, in the server's words.
func (c *Client) refusal(resp *http.Response, body []byte) error {
	e := &failure.Error{Class: failure.Diagnosed, Object: c.URL}
	message := serverMessage(resp.Header.Get("Content-Type"), body)
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		e.Class, e.Reason = failure.Forbidden, "EndpointDenied"
		e.Hint = "the gateway or the model server asks for credentials"
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		e.Reason, message = "EndpointElsewhere", "it redirects"+elsewhere(resp)
		e.Hint = "a login, or https, is before the model: ask at its own URL, with --via url and the token that it takes, --token-file"
	case resp.StatusCode == http.StatusNotFound && message == "":
		e.Reason = "NoRoute"
		e.Hint = "nothing serves this path under this name: the gateway may not know the Service yet, or the host name is another one"
	case resp.StatusCode == http.StatusNotFound && strings.Contains(resp.Request.URL.Path, v2Models):
		e.Reason = "ProtocolUnknown"
		e.Hint = `the model's server does not speak the Open Inference Protocol, or knows the model by another name: send MLflow's request, {"inputs": …}`
	case resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusGatewayTimeout || resp.StatusCode == http.StatusBadGateway:
		e.Reason = "EndpointUnavailable"
		e.Hint = "no pod of the model answered the gateway: it may be starting, or it may fail to start"
	case resp.StatusCode >= 500:
		e.Reason = "PredictionFailed"
		e.Hint = "see the log of the model's pod"
	default:
		e.Reason = "PredictionRefused"
		e.Hint = "compare the input with the model's signature and input example"
	}
	e.Message = resp.Status
	if message != "" {
		e.Message += ": " + message
	}
	return e
}

// elsewhere is the server that a redirection leads to; the rest of the address may hold a session.
func elsewhere(resp *http.Response) string {
	to, err := resp.Location()
	if err != nil {
		return ""
	}
	return " to " + to.Scheme + "://" + to.Host
}

// serverMessage is the message of MLflow's {"error_code", "message"}, of MLServer's {"error"}, of FastAPI's {"detail"}, or a short
// text; "" for a page.
func serverMessage(contentType string, body []byte) string {
	var said struct {
		Message string          `json:"message"`
		Error   string          `json:"error"`
		Detail  json.RawMessage `json:"detail"`
		Trace   string          `json:"stack_trace"` // of the model's own code; its last line is the exception
	}
	if json.Unmarshal(body, &said) == nil {
		switch {
		case said.Message != "" && said.Trace != "":
			lines := strings.Split(strings.TrimSpace(said.Trace), "\n")
			return strings.TrimSuffix(said.Message, ".") + ": " + lines[len(lines)-1]
		case said.Message != "":
			return said.Message
		case said.Error != "":
			return said.Error
		case len(said.Detail) > 0:
			return strings.Trim(string(said.Detail), `"`)
		}
	}
	text := strings.TrimSpace(string(body))
	if strings.HasPrefix(contentType, "text/plain") && len(text) < 1000 {
		return text
	}
	return ""
}

// unreachable is the failure of a request without an answer.
func (c *Client) unreachable(err error) error {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		return e // a tunnel's own words are better than ours
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	e := &failure.Error{Class: failure.Diagnosed, Reason: "EndpointUnreachable", Object: c.URL, Message: "no answer", Err: err}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		e.Message = "the host name is not known here"
		e.Hint = "the cluster's domain is not in DNS: leave out --via url, and the cluster's gateway is asked through the API server, which needs no DNS"
	} else if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e.Message = "its certificate is not trusted here"
		e.Hint = "name the file with the certificate of its CA: --ca-file"
	} else if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		e.Message = "no connection"
		e.Hint = "the gateway does not listen at this address, or a firewall is between"
	}
	return e
}
