package deployments

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

func TestDirectoryOf(t *testing.T) {
	for uri, want := range map[string]string{
		"./iris": "./iris", "/models/iris": "/models/iris", "models/iris": "models/iris", ".": ".", "..": "..", "./a:b": "./a:b",
		"file:///models/my%20iris": "/models/my iris", "file:iris": "iris", "FILE:/models/iris": "/models/iris", "file://localhost/models": "/models",
	} {
		if name, ok := directoryOf(uri); !ok || name != want {
			t.Errorf("%s is %q, %t; want %q", uri, name, ok, want)
		}
	}
	for _, uri := range []string{"", "iris", "models:/iris/1", "runs:/a/b", "s3://bucket/iris", "http://example.com/x"} {
		if name, ok := directoryOf(uri); ok {
			t.Errorf("%s is the directory %q", uri, name)
		}
	}
}

// A model from a directory needs no tracking server. Where the directory lies is not part of what is deployed.
func TestDeployFromADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "iris-model")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range irisModel() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newStage()
	r := irisRequest()
	r.ModelURI = dir
	result, err := s.client().Deploy(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if result.ModelURI != "file:iris-model" || result.Version != "" || s.called("dial mlflow/mlflow:5000") {
		t.Errorf("result is %+v, calls were %q", result, s.calls)
	}
	if s.content.Key != "" || s.content.Labels[serving.ModelURIKey] != "file:iris-model" || s.content.Labels[serving.RunIDKey] != "run3" {
		t.Errorf("content is %+v", s.content)
	}
	for name, want := range map[string]string{"none": "there is no directory", "": "there is no MLmodel file"} {
		s := newStage()
		r.ModelURI = filepath.Join(filepath.Dir(dir), name)
		_, err := s.client().Deploy(t.Context(), r)
		if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), want) || s.called("make") {
			t.Errorf("%q: %v, calls were %q", name, err, s.calls)
		}
	}
}
