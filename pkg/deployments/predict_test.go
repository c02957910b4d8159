package deployments

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

const body = `{"inputs": [[5.1, 3.5, 1.4, 0.2]]}`

// gateway answers for one host only, as Knative's does, and only after some tries.
func gateway(t *testing.T, busy int64) (s *stage, tries *atomic.Int64) {
	tries = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n := tries.Add(1); {
		case r.Host != "iris.models.example.com":
			http.NotFound(w, r)
		case n <= busy:
			http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
		case r.URL.Path != "/invocations" || r.Header.Get("Content-Type") != "application/json" || read(t, r.Body) != body:
			http.Error(w, "not what was sent", http.StatusBadRequest)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"predictions": [0]}`))
		}
	}))
	t.Cleanup(server.Close)
	s = newStage()
	s.dialTo = server.Listener.Addr().String()
	s.endpoint = serving.Endpoint{
		URL: "https://iris.models.example.com", Host: "iris.models.example.com",
		Gateway: cluster.ServicePort{Namespace: "kourier-system", Service: "kourier", Port: "80"},
	}
	return s, tries
}

func TestPredictThroughTheGateway(t *testing.T) {
	s, tries := gateway(t, 2)
	answer, err := s.client().Predict(t.Context(), Prediction{Name: "iris", Body: []byte(body)})
	if err != nil || string(answer) != `{"predictions": [0]}` {
		t.Fatalf("%s, %v", answer, err)
	}
	if tries.Load() != 3 || !s.called("dial kourier-system/kourier:80") || !s.called("close") {
		t.Errorf("%d tries, calls %q", tries.Load(), s.calls)
	}
}

func TestPredictByURL(t *testing.T) {
	s, _ := gateway(t, 0)
	s.endpoint.URL = "http://" + s.dialTo
	answer, err := s.client().Predict(t.Context(), Prediction{Name: "iris", Body: []byte(body), Via: ViaURL})
	if err != nil || string(answer) != `{"predictions": [0]}` || len(s.calls) != 0 {
		t.Errorf("%s, %v, calls %q", answer, err, s.calls)
	}
}

func TestWhatTheModelRefusesIsNotTriedAgain(t *testing.T) {
	s, tries := gateway(t, 0)
	_, err := s.client().Predict(t.Context(), Prediction{Name: "iris", Body: []byte("{}")})
	if err == nil || !strings.Contains(err.Error(), "not what was sent") || tries.Load() != 1 {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
}

func TestPredictWithoutAKnownGateway(t *testing.T) {
	s, _ := gateway(t, 0)
	s.endpoint.Gateway = cluster.ServicePort{}
	_, err := s.client().Predict(t.Context(), Prediction{Name: "iris"})
	if failure.ClassOf(err) != failure.Diagnosed {
		t.Errorf("error is %v", err)
	}
	for _, p := range []Prediction{{Name: "Iris"}, {Name: "iris", Via: "pigeon"}} {
		if _, err := s.client().Predict(t.Context(), p); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
