package tracking

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const probePath = "/api/2.0/mlflow/experiments/search"

func TestProbe(t *testing.T) {
	_, c := newRecorded(t)
	if err := c.Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnswersThatAreFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		text   string
		class  failure.Class
		reason string
		hint   string
	}{
		"host":         {403, "Invalid Host header - possible DNS rebinding attack detected", failure.Diagnosed, "HostNotAllowed", "MLFLOW_SERVER_ALLOWED_HOSTS"},
		"unauthorized": {401, "You are not authenticated.", failure.Forbidden, "TrackingServerDenied", "MLFLOW_TRACKING_USERNAME"},
		"forbidden":    {403, `{"error_code":"PERMISSION_DENIED","message":"Permission denied"}`, failure.Forbidden, "TrackingServerDenied", "MLFLOW_TRACKING_TOKEN"},
		"login page":   {200, "<html>Sign in</html>", failure.Diagnosed, "NotMLflow", "login page"},
		"other server": {404, "404 page not found", failure.Diagnosed, "NotMLflow", "MLFLOW_TRACKING_URI"},
		"bad request":  {400, `{"error_code":"INVALID_PARAMETER_VALUE","message":"no"}`, failure.Invalid, "TrackingServerRefused", ""},
		"no artifacts": {503, "Endpoint disabled due to the mlflow server running with `--no-serve-artifacts`.", failure.Diagnosed, "ArtifactsNotServed", "--serve-artifacts"},
		"redirect":     {302, "", failure.Invalid, "TrackingServerElsewhere", "MLFLOW_TRACKING_URI"},
		"huge":         {200, `"` + strings.Repeat("x", maxAnswer), failure.Diagnosed, "NotMLflow", ""},
	} {
		t.Run(name, func(t *testing.T) {
			rec, c := newRecorded(t)
			rec.answering(probePath, tc.status, tc.text)
			err := c.Probe(t.Context())
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Class != tc.class || e.Reason != tc.reason || !strings.Contains(e.Hint, tc.hint) {
				t.Errorf("error = %v (%+v)", err, e)
			}
			if rec.count() != 1 {
				t.Errorf("asked %d times", rec.count())
			}
		})
	}
}

func TestRetry(t *testing.T) {
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		rec, c := newRecorded(t)
		rec.instead = func(w http.ResponseWriter, _ *http.Request) bool {
			if rec.count() <= 3 {
				w.Header().Set("Retry-After", "1") // bounded by the client's longest pause
				w.WriteHeader(status)
				return true
			}
			return false
		}
		if err := c.Probe(t.Context()); err != nil || rec.count() != 4 {
			t.Errorf("%d: asked %d times, %v", status, rec.count(), err)
		}
	}
}

func TestRetryEnds(t *testing.T) {
	rec, c := newRecorded(t)
	rec.answering(probePath, http.StatusInternalServerError, `{"error_code":"INTERNAL_ERROR","message":"(psycopg2.OperationalError) no database"}`)
	err := c.Probe(t.Context())
	if failure.ClassOf(err) != failure.Diagnosed || !strings.Contains(err.Error(), "no database") || rec.count() != c.policy.attempts {
		t.Errorf("asked %d times, %v", rec.count(), err)
	}
}

func TestTimeIsOver(t *testing.T) {
	rec, c := newRecorded(t)
	rec.answering(probePath, http.StatusServiceUnavailable, "")
	c.policy.backoff, c.policy.longest = time.Hour, time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Probe(ctx); failure.ClassOf(err) != failure.TimedOut || !strings.Contains(err.Error(), "503") {
		t.Errorf("deadline: %v", err)
	}
	canceled, stop := context.WithCancel(t.Context())
	stop()
	if err := c.Probe(canceled); !errors.Is(err, context.Canceled) || failure.ClassOf(err) != "" {
		t.Errorf("cancel: %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := clientOf(t, server.URL)
	began := time.Now()
	err := c.Probe(t.Context())
	e, ok := errors.AsType[*failure.Error](err)
	if !ok || e.Reason != "TrackingServerUnreachable" {
		t.Errorf("error = %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s: a server that is not there is not asked again", took)
	}
}

// tripper is a RoundTripper of a function.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestATunnelSpeaksForItself(t *testing.T) {
	tunnel := &failure.Error{Class: failure.Forbidden, Reason: "PortForwardForbidden", Message: "you may not"}
	c := New(&url.URL{Scheme: "http", Host: "mlflow.ml.svc:5000"}, tripper(func(*http.Request) (*http.Response, error) { return nil, tunnel }))
	if err := c.Probe(t.Context()); !errors.Is(err, tunnel) || failure.ClassOf(err) != failure.Forbidden {
		t.Errorf("error = %v", err)
	}
}
