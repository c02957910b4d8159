package inference

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestIsV2(t *testing.T) {
	const tensor = `{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}`
	for body, want := range map[string]bool{
		`{"inputs": [` + tensor + `]}`: true,
		`{"id": "1", "inputs": [` + tensor + `, ` + tensor + `], "outputs": [], "parameters": {}}`: true,
		`{"inputs": [{"name": "x", "shape": [0], "datatype": "BYTES", "data": []}]}`:               true,
		// MLflow's own.
		`{"inputs": [[5.1, 3.5]]}`:                                      false,
		`{"inputs": [1]}`:                                               false,
		`{"inputs": []}`:                                                false,
		`{"inputs": {"name": ["x"], "shape": [[1]]}}`:                   false,
		`{"inputs": "text"}`:                                            false,
		`{"inputs": [` + tensor + `], "params": {"k": 1}}`:              false,
		`{"inputs": [` + tensor + `, {"name": "a record among them"}]}`: false,
		`{"inputs": [{"name": "a", "shape": "round", "datatype": "x", "data": 1}]}`: false,
		`{"inputs": [{"name": "a", "shape": [1], "datatype": "x", "data": [1]}]}`:   false,
		`{"inputs": [{"shape": [1], "datatype": "FP64", "data": [1]}]}`:             false,
		`{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64"}]}`:             false,
		`{"instances": [` + tensor + `]}`:                                           false,
		`{"dataframe_split": {"columns": ["inputs"], "data": [[1]]}}`:               false,
		`[` + tensor + `]`: false,
		`null`:             false,
		"a,b\n1,2\n":       false,
	} {
		if IsV2([]byte(body)) != want {
			t.Errorf("%s: %t, want %t", body, !want, want)
		}
	}
}

func TestInfer(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Method != http.MethodPost || r.URL.Path != "/prefix/v2/models/iris/infer" || r.Header.Get("Content-Type") != "application/json" ||
			r.Header.Get("X-Team") != "blue" || string(body) != "{}" {
			t.Errorf("%s %s with %v: %s", r.Method, r.URL.Path, r.Header, body)
		}
		_, _ = io.WriteString(w, `{"outputs": []}`)
	})
	c.Header = http.Header{"X-Team": {"blue"}}
	answer, err := c.Infer(t.Context(), "iris", []byte("{}"))
	if err != nil || string(answer) != `{"outputs": []}` {
		t.Errorf("%s, %v", answer, err)
	}
}

// A server that knows /invocations alone says so in its framework's words.
func TestInferWhereTheProtocolIsNotKnown(t *testing.T) {
	for name, tc := range map[string]struct{ contentType, body, reason string }{
		"MLflow alone":          {"application/json", `{"detail":"Not Found"}`, "ProtocolUnknown"},
		"MLServer, other names": {"application/json", `{"error":"Model iris not found"}`, "ProtocolUnknown"},
		"the gateway":           {"", "", "NoRoute"},
	} {
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tc.contentType)
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, tc.body)
		})
		_, err := c.Infer(t.Context(), "iris", []byte("{}"))
		if e, ok := errors.AsType[*failure.Error](err); !ok || e.Class != failure.Diagnosed || e.Reason != tc.reason || e.Hint == "" {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

func TestARedirectionIsToldWithoutItsSecrets(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://login.example.com/start?state=s3cret", http.StatusFound)
	})
	c.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	_, err := c.Invoke(t.Context(), "application/json", []byte("{}"))
	e, ok := errors.AsType[*failure.Error](err)
	if !ok || e.Reason != "EndpointElsewhere" || e.Message != "302 Found: it redirects to https://login.example.com" || e.Hint == "" {
		t.Errorf("error = %#v", err)
	}
}
