//go:build real

package tracking

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

// TestRealServer runs against the server of KUBECTL_MLFLOW_TEST_TRACKING_URI, whose registry has versions 1 and 2 of a model iris,
// the first of them with the alias champion.
func TestRealServer(t *testing.T) {
	server, err := url.Parse(os.Getenv("KUBECTL_MLFLOW_TEST_TRACKING_URI"))
	if err != nil || server.Host == "" {
		t.Fatalf("KUBECTL_MLFLOW_TEST_TRACKING_URI: %v", err)
	}
	ctx := t.Context()
	settings, err := SettingsFrom(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	way, err := settings.Transport(&http.Transport{}, server)
	if err != nil {
		t.Fatal(err)
	}
	c := New(server, way)
	if err := c.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	var champion Version
	for _, text := range []string{"models:/iris/1", "models:/iris@champion", "models:/iris/latest"} {
		u, err := ParseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.Resolve(ctx, u)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s is %+v", text, v)
		if u.Alias != "" {
			champion = v
		}
	}
	same := []string{"runs:/" + champion.RunID + "/model"}
	if champion.ModelID != "" { // MLflow 3
		same = append(same, "models:/"+champion.ModelID)
	}
	for _, text := range same {
		u, err := ParseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.Resolve(ctx, u)
		if err != nil || v.Source != champion.Source {
			t.Errorf("%s is %+v, %v; want the source %s", text, v, err, champion.Source)
		}
	}
	for _, text := range []string{"models:/iriss/1", "models:/iris/99", "models:/iris@none", "models:/m-none", "runs:/none/model"} {
		u, err := ParseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Resolve(ctx, u)
		if failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%s: %v", text, err)
		}
		t.Logf("%s: %v", text, err)
	}

	files := c.Files(champion)
	m, err := model.Read(ctx, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("python %s, %q, example of %d bytes", m.Python, m.Requirements, len(m.InputExample))
	list, err := files.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		whole := sum(t, files, f.Path, 0, nil)
		half := sum(t, files, f.Path, f.Size/2, head(t, files, f))
		if whole != half {
			t.Errorf("%s: read in two halves it is another file", f.Path)
		}
	}
}

func head(t *testing.T, files model.Files, f model.File) []byte {
	t.Helper()
	body, err := files.Open(t.Context(), f.Path, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, f.Size/2)
	if _, err := io.ReadFull(body, b); err != nil {
		t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func sum(t *testing.T, files model.Files, path string, offset int64, before []byte) string {
	t.Helper()
	body, err := files.Open(t.Context(), path, offset)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := h.Write(before); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(h, body); err != nil {
		t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
