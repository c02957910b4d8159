package tracking

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func resolve(t *testing.T, c *Client, text string) (Version, error) {
	t.Helper()
	u, err := ParseURI(text)
	if err != nil {
		t.Fatal(err)
	}
	return c.Resolve(t.Context(), u)
}

func TestResolve(t *testing.T) {
	_, c := newRecorded(t)
	first := Version{Name: "iris", Version: "1", ModelID: modelID, RunID: runID, Source: source}
	logged := Version{ModelID: modelID, RunID: runID, Source: source}
	for text, tc := range map[string]struct {
		want Version
		uri  string
	}{
		"models:/iris/1":                    {first, "models:/iris/1"},
		"models:/iris@champion":             {first, "models:/iris/1"},
		"models:/" + modelID:                {logged, "models:/" + modelID},
		"runs:/" + runID + "/model":         {logged, "models:/" + modelID},
		"runs:/" + runID + "/notes":         {Version{RunID: runID, Source: "mlflow-artifacts:/1/" + runID + "/artifacts/notes"}, "mlflow-artifacts:/1/" + runID + "/artifacts/notes"},
		"mlflow-artifacts:/1/models/x/y":    {Version{Source: "mlflow-artifacts:/1/models/x/y"}, "mlflow-artifacts:/1/models/x/y"},
		"runs:/" + runID + "/model/sub/dir": {Version{ModelID: modelID, RunID: runID, Source: source + "/sub/dir"}, "models:/" + modelID},
	} {
		got, err := resolve(t, c, text)
		if err != nil || got != tc.want || got.URI() != tc.uri {
			t.Errorf("%s is %+v, %s, %v; want %+v", text, got, got.URI(), err, tc.want)
		}
	}
	latest, err := resolve(t, c, "models:/iris/latest")
	if err != nil || latest.Version != "2" || latest.URI() != "models:/iris/2" {
		t.Errorf("the latest is %+v, %v", latest, err)
	}
}

func TestResolveWhatIsNotThere(t *testing.T) {
	_, c := newRecorded(t)
	for text, want := range map[string]struct{ message, hint string }{
		"models:/iris/9":          {`the model "iris" has no such version`, "there is version 2, 1"},
		"models:/iris/Production": {`the model "iris" has no such version`, "there is version 2, 1"},
		"models:/iris@challenger": {`the model "iris" has no alias "challenger"`, "there is alias champion"},
		"models:/irsi/1":          {`the model "irsi" does not exist`, "did you mean iris?"},
		"models:/irsi/latest":     {`the model "irsi" does not exist`, "did you mean iris?"},
		"models:/irsi@champion":   {`the model "irsi" does not exist`, "did you mean iris?"},
		"models:/m-none":          {"Logged model with ID 'm-none' not found.", ""},
		"runs:/none/model":        {"Run with id=none not found", ""},
	} {
		_, err := resolve(t, c, text)
		e, ok := errors.AsType[*failure.Error](err)
		if !ok || e.Class != failure.Invalid || !strings.Contains(err.Error(), want.message) || e.Hint != want.hint {
			t.Errorf("%s: %v (%+v)", text, err, e)
		}
	}
}

// answering makes the server answer all requests for path with status and text.
func (rec *recorded) answering(path string, status int, text string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.instead = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
		return true
	}
}

func TestResolveOnMLflow2(t *testing.T) {
	rec, c := newRecorded(t)
	rec.answering("/api/2.0/mlflow/logged-models/search", http.StatusNotFound, "<!doctype html><title>404 Not Found</title>")
	v, err := resolve(t, c, "runs:/"+runID+"/model")
	if want := (Version{RunID: runID, Source: "mlflow-artifacts:/1/" + runID + "/artifacts/model"}); err != nil || v != want {
		t.Errorf("a run's model is %+v, %v", v, err)
	}

	rec.answering("/api/2.0/mlflow/logged-models/"+modelID, http.StatusNotFound, "<!doctype html><title>404 Not Found</title>")
	if _, err := resolve(t, c, "models:/"+modelID); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("a model by id: %v", err)
	}

	rec.answering("/api/2.0/mlflow/model-versions/get-download-uri", http.StatusOK, `{"artifact_uri": "runs:/`+runID+`/notes"}`)
	v, err = resolve(t, c, "models:/iris/1")
	if err != nil || v.Source != "mlflow-artifacts:/1/"+runID+"/artifacts/notes" {
		t.Errorf("a version registered from a run is %+v, %v", v, err)
	}
}

func TestResolveAVersionThatCannotBeUsed(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		class  failure.Class
		want   string
	}{
		"pending": {`{"model_version":{"name":"iris","version":"1","status":"PENDING_REGISTRATION"}}`, failure.Diagnosed, "PENDING_REGISTRATION"},
		"failed":  {`{"model_version":{"name":"iris","version":"1","status":"FAILED_REGISTRATION","status_message":"no space"}}`, failure.Diagnosed, "FAILED_REGISTRATION no space"},
		"prompt":  {`{"model_version":{"name":"iris","version":"1","status":"READY","tags":[{"key":"mlflow.prompt.is_prompt","value":"true"}]}}`, failure.Invalid, "prompt"},
	} {
		t.Run(name, func(t *testing.T) {
			rec, c := newRecorded(t)
			rec.answering("/api/2.0/mlflow/model-versions/get", http.StatusOK, tc.answer)
			_, err := resolve(t, c, "models:/iris/1")
			if failure.ClassOf(err) != tc.class || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	names := []string{"iris", "Iris-2", "wine", "irises"}
	for wanted, want := range map[string]string{"irs": "iris", "IRIS": "iris", "wien": "wine"} {
		if got := nearest(wanted, names); len(got) == 0 || got[0] != want {
			t.Errorf("near %s: %q", wanted, got)
		}
	}
	if got := nearest("taxi", names); got != nil {
		t.Errorf("near taxi: %q", got)
	}
	if d := distance("kitten", "sitting"); d != 3 {
		t.Errorf("distance = %d", d)
	}
}
