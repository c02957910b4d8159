package deployments

import (
	"encoding/pem"
	"io"
	"log"
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
		case r.URL.Path == "/v2/models/mlflow-model/infer":
			_, _ = w.Write([]byte(`{"outputs": []}`))
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
		Model: "mlflow-model",
		URL:   "https://iris.models.example.com", Host: "iris.models.example.com",
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
	for _, p := range []Prediction{
		{Name: "Iris"},
		{Name: "iris", Via: "pigeon"},
		{Name: "iris", Protocol: "v3"},
		{Name: "iris", Protocol: ProtocolV2, ContentType: "text/csv"},
		{Name: "iris", CA: []byte("unused on this way")},
		{Name: "iris", Via: ViaURL, CA: []byte("no certificate")},
	} {
		if _, err := s.client().Predict(t.Context(), p); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestTheBodyOrTheProtocolSaysWhereItGoes(t *testing.T) {
	const v2 = `{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}`
	for name, c := range map[string]struct {
		p    Prediction
		want string
	}{
		"MLflow's":             {Prediction{Body: []byte(body)}, `{"predictions": [0]}`},
		"V2":                   {Prediction{Body: []byte(v2)}, `{"outputs": []}`},
		"V2 by order":          {Prediction{Body: []byte(body), Protocol: ProtocolV2}, `{"outputs": []}`},
		"invocations by order": {Prediction{Body: []byte(v2), Protocol: ProtocolInvocations}, ""},
		"JSON by another name": {Prediction{Body: []byte(v2), ContentType: "Application/JSON; charset=utf-8"}, `{"outputs": []}`},
		"another type":         {Prediction{Body: []byte(v2), ContentType: "text/csv"}, ""},
	} {
		s, _ := gateway(t, 0)
		c.p.Name = "iris"
		answer, err := s.client().Predict(t.Context(), c.p)
		if string(answer) != c.want || (err == nil) != (c.want != "") { // /invocations takes no other body here
			t.Errorf("%s: %s, %v", name, answer, err)
		}
	}
}

func TestATagHasItsOwnAddress(t *testing.T) {
	s, _ := gateway(t, 0)
	if _, err := s.client().Predict(t.Context(), Prediction{Name: "iris", Tag: "candidate", Body: []byte(body)}); err != nil || !s.called("endpoint candidate") {
		t.Errorf("%v, calls %q", err, s.calls)
	}
}

// secured is a deployment whose URL is https, and which asks for a token.
func secured(t *testing.T, s *stage) (ca []byte) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" || r.Header.Get("X-Team") != "blue" {
			http.Redirect(w, r, "http://login.example.com/", http.StatusFound)
			return
		}
		_, _ = w.Write([]byte(`{"predictions": [0]}`))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who do not trust it
	t.Cleanup(server.Close)
	s.endpoint.URL, s.endpoint.Host = server.URL, ""
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func TestATokenGoesByTLSOrTunnelAlone(t *testing.T) {
	s, _ := gateway(t, 0)
	p := Prediction{Name: "iris", Body: []byte(body), Via: ViaURL, Token: "t0ken", Header: http.Header{"X-Team": {"blue"}}}
	p.CA = secured(t, s)
	if answer, err := s.client().Predict(t.Context(), p); err != nil || string(answer) != `{"predictions": [0]}` {
		t.Errorf("%s, %v", answer, err)
	}
	if p.Header.Get("Authorization") != "" {
		t.Error("the token is in the caller's header")
	}
	reason := func(p Prediction) string {
		t.Helper()
		_, err := s.client().Predict(t.Context(), p)
		if err == nil || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("error = %v", err)
		}
		return reasonOf(err)
	}
	without := p
	without.Token = ""
	if got := reason(without); got != "EndpointElsewhere" {
		t.Errorf("without a token: %s", got)
	}
	without = p
	without.CA = nil
	if got := reason(without); got != "EndpointUnreachable" {
		t.Errorf("without the CA: %s", got)
	}
	s.endpoint.URL = "http://iris.models.example.com"
	p.CA = nil
	if got := reason(p); got != "TokenInTheClear" {
		t.Errorf("without TLS: %s", got)
	}
}

func TestATokenGoesThroughTheTunnel(t *testing.T) {
	s := newStage()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Header.Get("Authorization")))
	}))
	t.Cleanup(server.Close)
	s.dialTo = server.Listener.Addr().String()
	s.endpoint = serving.Endpoint{Host: "iris.models.example.com", Gateway: cluster.ServicePort{Namespace: "kourier-system", Service: "kourier", Port: "80"}}
	if answer, err := s.client().Predict(t.Context(), Prediction{Name: "iris", Body: []byte(body), Token: "t0ken"}); err != nil || string(answer) != "Bearer t0ken" {
		t.Errorf("%s, %v", answer, err)
	}
}
