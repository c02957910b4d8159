package kit

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// MLflow answers what tells whether an MLflow is well: its health, its version, and one question to its database.
type MLflow struct {
	Address  string // host:port
	searches atomic.Int64
}

// NewMLflow starts one for the time of the test.
func NewMLflow(t testing.TB) *MLflow {
	t.Helper()
	m := &MLflow{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) })
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("3.17.2")) })
	mux.HandleFunc("POST /api/2.0/mlflow/experiments/search", func(w http.ResponseWriter, _ *http.Request) {
		m.searches.Add(1)
		answer(w, http.StatusOK, map[string]any{"experiments": []any{map[string]any{
			"experiment_id": "0", "name": "Default", "artifact_location": "mlflow-artifacts:/0", "lifecycle_stage": "active",
		}}})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	m.Address = server.Listener.Addr().String()
	return m
}

// Searches is how often the database was asked.
func (m *MLflow) Searches() int { return int(m.searches.Load()) }

// answer writes JSON. Where the client has gone, nobody reads.
func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}
