package tracking

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"
)

// The model iris of testdata/mlflow-3.17.2.json, which a real server answered.
const (
	modelID = "m-fa7fefe84b534268a2099cf7e20841e1"
	runID   = "c946f3a044fd42dab1852093d346f777"
	source  = "mlflow-artifacts:/1/models/" + modelID + "/artifacts"
	prefix  = "/api/2.0/mlflow-artifacts/artifacts/1/models/" + modelID + "/artifacts/"
)

// exchange is a recorded question and its answer.
type exchange struct {
	Method, Path string
	Query        map[string]string
	Body         any
	Status       int
	ContentType  string
	JSON         json.RawMessage
	Text         string
}

// recorded answers as the server of the recording did, below a path prefix.
type recorded struct {
	t         *testing.T
	exchanges []exchange

	mu    sync.Mutex
	asked []*http.Request
	// instead answers first, if not nil; false leaves the request to the recording.
	instead func(w http.ResponseWriter, r *http.Request) bool
}

func newRecorded(t *testing.T) (*recorded, *Client) {
	t.Helper()
	text, err := os.ReadFile("testdata/mlflow-3.17.2.json")
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorded{t: t}
	if err := json.Unmarshal(text, &rec.exchanges); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.StripPrefix("/tracking", rec))
	t.Cleanup(server.Close)
	return rec, clientOf(t, server.URL+"/tracking")
}

// clientOf is a client that does not wait long.
func clientOf(t *testing.T, server string) *Client {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	c := New(u, http.DefaultTransport)
	c.policy.backoff, c.policy.longest = time.Millisecond, 4*time.Millisecond
	return c
}

func (rec *recorded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec.mu.Lock()
	rec.asked = append(rec.asked, r)
	instead := rec.instead
	rec.mu.Unlock()
	if instead != nil && instead(w, r) {
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		rec.t.Error(err)
	}
	var body any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &body); err != nil {
			rec.t.Errorf("%s: %v", r.URL, err)
		}
	}
	query := map[string]string{}
	for key, values := range r.URL.Query() {
		query[key] = values[0]
	}
	for _, e := range rec.exchanges {
		if e.Query == nil {
			e.Query = map[string]string{}
		}
		if e.Method != r.Method || e.Path != r.URL.EscapedPath() && e.Path != r.URL.Path || !reflect.DeepEqual(e.Query, query) || !reflect.DeepEqual(e.Body, body) {
			continue
		}
		w.Header().Set("Content-Type", e.ContentType)
		w.WriteHeader(e.Status)
		if e.JSON != nil {
			_, _ = w.Write(e.JSON)
		} else {
			_, _ = io.WriteString(w, e.Text)
		}
		return
	}
	rec.t.Errorf("not recorded: %s %s %v", r.Method, r.URL, body)
}

// count is the number of requests so far.
func (rec *recorded) count() int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return len(rec.asked)
}
