package inference

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func client(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &Client{HTTP: server.Client(), URL: server.URL + "/prefix", Host: "iris.models.example.com"}
}

func TestInvoke(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Method != http.MethodPost || r.URL.Path != "/prefix/invocations" || r.Host != "iris.models.example.com" ||
			r.Header.Get("Content-Type") != "text/csv" || string(body) != "a,b\n1,2\n" {
			t.Errorf("%s %s of %s with %s: %s", r.Method, r.URL.Path, r.Host, r.Header.Get("Content-Type"), body)
		}
		_, _ = io.WriteString(w, `{"predictions": [0]}`)
	})
	answer, err := c.Invoke(t.Context(), "text/csv", []byte("a,b\n1,2\n"))
	if err != nil || string(answer) != `{"predictions": [0]}` {
		t.Errorf("%s, %v", answer, err)
	}
}

func TestInvokeRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		status      int
		contentType string
		body        string
		class       failure.Class
		reason      string
		message     string
	}{
		"MLflow":       {400, "application/json", `{"error_code":"BAD_REQUEST","message":"Failed to predict: 4 columns"}`, failure.Diagnosed, "PredictionRefused", "400 Bad Request: Failed to predict: 4 columns"},
		"MLServer":     {404, "application/json", `{"error":"Model iris not found"}`, failure.Diagnosed, "PredictionRefused", "404 Not Found: Model iris not found"},
		"FastAPI":      {422, "application/json", `{"detail":"not JSON"}`, failure.Diagnosed, "PredictionRefused", "422 Unprocessable Entity: not JSON"},
		"text":         {415, "text/plain; charset=utf-8", "This predictor takes JSON\n", failure.Diagnosed, "PredictionRefused", "415 Unsupported Media Type: This predictor takes JSON"},
		"the model's":  {400, "application/json", `{"message":"It fails.","stack_trace":"Traceback:\n  File x\nValueError: no table\n"}`, failure.Diagnosed, "PredictionRefused", "400 Bad Request: It fails: ValueError: no table"},
		"its own bug":  {500, "application/json", `{"error_code":"INTERNAL_ERROR","message":"no"}`, failure.Diagnosed, "PredictionFailed", "500 Internal Server Error: no"},
		"no route":     {404, "", "", failure.Diagnosed, "NoRoute", "404 Not Found"},
		"scaling":      {503, "text/html", "<html>", failure.Diagnosed, "EndpointUnavailable", "503 Service Unavailable"},
		"not let in":   {403, "text/plain", "RBAC: access denied", failure.Forbidden, "EndpointDenied", "403 Forbidden: RBAC: access denied"},
		"unauthorized": {401, "text/html", "<html>", failure.Forbidden, "EndpointDenied", "401 Unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			c := client(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Content-Type", tc.contentType)
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			_, err := c.Invoke(t.Context(), "application/json", []byte("{}"))
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Class != tc.class || e.Reason != tc.reason || e.Message != tc.message || e.Hint == "" {
				t.Errorf("error = %#v", err)
			}
			if asked.Load() != 1 {
				t.Errorf("asked %d times", asked.Load())
			}
		})
	}
}

func TestReadyWaits(t *testing.T) {
	var asked atomic.Int32
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prefix/v2/models/iris/ready" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		statuses := []int{404, 503, 504, 400, 200}
		w.WriteHeader(statuses[min(int(asked.Add(1))-1, len(statuses)-1)])
	})
	if err := c.Ready(t.Context(), "/v2/models/iris/ready"); err != nil || asked.Load() != 5 {
		t.Errorf("after %d questions: %v", asked.Load(), err)
	}
}

func TestReadyTellsTheLastAnswer(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "no healthy upstream")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := c.Ready(ctx, "/ping")
	if failure.ClassOf(err) != failure.TimedOut || !strings.Contains(err.Error(), "the model is not ready: 503 Service Unavailable: no healthy upstream") {
		t.Errorf("error = %v", err)
	}
}

func TestReadyEndsWhenDenied(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	if err := c.Ready(t.Context(), "/ping"); failure.ClassOf(err) != failure.Forbidden {
		t.Errorf("error = %v", err)
	}
}

func TestNoConnection(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := &Client{HTTP: server.Client(), URL: server.URL}
	_, err := c.Invoke(t.Context(), "application/json", nil)
	e, ok := errors.AsType[*failure.Error](err)
	if !ok || e.Class != failure.Diagnosed || e.Message != "no connection" || e.Hint == "" {
		t.Errorf("error = %#v", err)
	}
}

func TestInvokeInterrupted(t *testing.T) {
	release := make(chan struct{})
	c := client(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Invoke(ctx, "application/json", nil); failure.ClassOf(err) != failure.TimedOut {
		t.Errorf("deadline: %v", err)
	}
	canceled, stop := context.WithCancel(t.Context())
	stop()
	if _, err := c.Invoke(canceled, "application/json", nil); !errors.Is(err, context.Canceled) || failure.ClassOf(err) != "" {
		t.Errorf("cancel: %v", err)
	}
}
