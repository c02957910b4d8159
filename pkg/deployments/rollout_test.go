package deployments

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

// tried is a stage whose model has an example, and whose new version answers it with status.
func tried(t *testing.T, status int) *stage {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/ready"), r.URL.Path == "/v2/models/iris":
		case r.URL.Path == "/invocations" && read(t, r.Body) == body:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"message": "as it is"}`))
		default:
			t.Errorf("asked %s", r.URL)
		}
	}))
	t.Cleanup(server.Close)
	s := newStage()
	s.model["serving_input_example.json"] = body
	s.dialTo = server.Listener.Addr().String()
	s.endpoint = serving.Endpoint{
		URL: "http://candidate-iris.models.example.com", Host: "candidate-iris.models.example.com",
		Gateway: cluster.ServicePort{Namespace: "kourier-system", Service: "kourier", Port: "80"},
	}
	return s
}

// after are the calls from apply on.
func (s *stage) after() string {
	return strings.Join(s.calls[slices.Index(s.calls, "apply"):], ", ")
}

func TestNewVersionIsAskedBeforeItServes(t *testing.T) {
	s := tried(t, http.StatusOK)
	result, err := s.client().Deploy(t.Context(), irisRequest())
	if err != nil || !result.Verified || result.Timings.Verify <= 0 || result.Timings.Traffic <= 0 {
		t.Errorf("%+v, %v", result, err)
	}
	want := "apply, wait revision.serving.knative.dev/iris-00002, wait service.serving.knative.dev/iris, endpoint candidate, " +
		"dial kourier-system/kourier:80, close, promote 100, wait service.serving.knative.dev/iris, close"
	if got := s.after(); got != want {
		t.Errorf("calls were\n%s\nwant\n%s", got, want)
	}
	if s.content.Labels[serving.ExampleKey] != body {
		t.Errorf("the image does not carry the example: %v", s.content.Labels)
	}
}

func TestVersionThatDoesNotAnswerGetsNothing(t *testing.T) {
	s := tried(t, http.StatusInternalServerError)
	_, err := s.client().Deploy(t.Context(), irisRequest())
	message := refusedAs(t, err, failure.Diagnosed, "SmokeTestFailed")
	if !strings.Contains(err.Error(), "as it is") || !strings.Contains(message, "gets no requests") || s.called("promote 100") {
		t.Errorf("%v after %s", err, s.after())
	}
}

func TestFirstVersionIsAskedWhereItServes(t *testing.T) {
	s := tried(t, http.StatusOK)
	s.action = serving.Created
	result, err := s.client().Deploy(t.Context(), irisRequest())
	if err != nil || !result.Verified || s.called("endpoint candidate") || s.called("promote 100") {
		t.Errorf("%+v, %v after %s", result, err, s.after())
	}
	s = tried(t, http.StatusBadRequest)
	s.action = serving.Created
	_, err = s.client().Deploy(t.Context(), irisRequest())
	if message := refusedAs(t, err, failure.Diagnosed, "SmokeTestFailed"); strings.Contains(message, "gets no requests") {
		t.Errorf("%v: there is nothing else that could have them", err)
	}
}

func TestOvertakenByAnother(t *testing.T) {
	s := tried(t, http.StatusOK)
	s.wait = func(targets []readiness.Target) error {
		if targets[0].Object.Kind == "Revision" {
			return nil
		}
		other := map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{"mlflow.kubectl/generation": "9"}}}}}
		if _, err := targets[0].Status(&unstructured.Unstructured{Object: other}); err != nil {
			return err
		}
		return &failure.Error{Class: failure.Diagnosed, Reason: "ServiceFailed", Message: "another deployment has overtaken this one"}
	}
	_, err := s.client().Deploy(t.Context(), irisRequest())
	refusedAs(t, err, failure.Refused, serving.Superseded)
}

func TestNoVerify(t *testing.T) {
	s := tried(t, http.StatusInternalServerError)
	r := irisRequest()
	r.NoVerify = true
	if result, err := s.client().Deploy(t.Context(), r); err != nil || result.Verified || s.spec.Hold {
		t.Errorf("%+v, %v", result, err)
	}
	r.Canary = 10
	if result, err := s.client().Deploy(t.Context(), r); err != nil || result.Verified || !s.spec.Hold || !s.called("promote 10") {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestHeldVersionServesUnaskedOnceItIsReady(t *testing.T) {
	s := tried(t, http.StatusInternalServerError)
	s.pinned = true
	r := irisRequest()
	r.NoVerify = true
	result, err := s.client().Deploy(t.Context(), r)
	want := "apply, wait revision.serving.knative.dev/iris-00002, wait service.serving.knative.dev/iris, promote 100, wait service.serving.knative.dev/iris, close"
	if got := s.after(); err != nil || result.Verified || s.spec.Hold || got != want {
		t.Errorf("%+v, %v, calls were\n%s\nwant\n%s", result, err, got, want)
	}
}

// The same command again has nothing to change, and must not call that well.
func TestFirstVersionThatDoesNotAnswerIsAskedAgain(t *testing.T) {
	s := tried(t, http.StatusInternalServerError)
	s.action = serving.Created
	_, err := s.client().Deploy(t.Context(), irisRequest())
	refusedAs(t, err, failure.Diagnosed, "SmokeTestFailed")
	s.action = serving.Unchanged
	s.first = true
	_, err = s.client().Deploy(t.Context(), irisRequest())
	refusedAs(t, err, failure.Diagnosed, "SmokeTestFailed")
	closed := tried(t, http.StatusForbidden)
	closed.action, closed.first, closed.doubted = serving.Unchanged, true, s.doubted
	if _, err := closed.client().Deploy(t.Context(), irisRequest()); err != nil || !closed.doubted {
		t.Errorf("who may ask nobody has no answer: %v, doubted %t", err, closed.doubted)
	}
	healed := tried(t, http.StatusOK)
	healed.action, healed.first, healed.doubted = serving.Unchanged, true, s.doubted
	if result, err := healed.client().Deploy(t.Context(), irisRequest()); err != nil || !result.Verified || healed.doubted {
		t.Errorf("%+v, %v, doubted %t", result, err, healed.doubted)
	}
	healed.calls = nil
	if result, err := healed.client().Deploy(t.Context(), irisRequest()); err != nil || result.Verified || healed.called("doubt false") {
		t.Errorf("%+v, %v, calls were %s", result, err, healed.after())
	}
}

func TestClosedGatewayLeavesThePods(t *testing.T) {
	s := tried(t, http.StatusOK)
	s.endpoint.Gateway = cluster.ServicePort{}
	result, err := s.client().Deploy(t.Context(), irisRequest())
	if err != nil || !result.Verified || !s.called("dial models/iris-00002-private:http") {
		t.Errorf("%+v, %v after %s", result, err, s.after())
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.dialTo, s.calls = nobody.Addr().String(), nil
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	r := irisRequest()
	r.Timeout = time.Second
	_, err = s.client().Deploy(t.Context(), r)
	refusedAs(t, err, failure.TimedOut, "ModelNotAsked")
	if s.called("promote 100") {
		t.Errorf("it got requests: %s", s.after())
	}
	s = tried(t, http.StatusForbidden)
	result, err = s.client().Deploy(t.Context(), irisRequest())
	if err != nil || result.Verified || !s.called("promote 100") || !slices.ContainsFunc(s.said, func(m string) bool { return strings.Contains(m, "could not be asked") }) {
		t.Errorf("%+v, %v, said %q", result, err, s.said)
	}
}
