package tracking

import (
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestParseURI(t *testing.T) {
	for text, want := range map[string]URI{
		"models:/iris/3":                {Scheme: "models", Name: "iris", Version: "3"},
		"models:/iris/latest":           {Scheme: "models", Name: "iris"},
		"models:/iris/LATEST":           {Scheme: "models", Name: "iris"},
		"models:/iris/Production":       {Scheme: "models", Name: "iris", Stage: "Production"},
		"models:/iris@champion":         {Scheme: "models", Name: "iris", Alias: "champion"},
		"models:/a@b@champion":          {Scheme: "models", Name: "a@b", Alias: "champion"},
		"models:/my model; rm -rf/1":    {Scheme: "models", Name: "my model; rm -rf", Version: "1"},
		"models:/m-0815":                {Scheme: "models", ModelID: "m-0815"},
		"runs:/c946/model":              {Scheme: "runs", RunID: "c946", Path: "model"},
		"runs:/c946/a/b":                {Scheme: "runs", RunID: "c946", Path: "a/b"},
		"mlflow-artifacts:/1/models/x":  {Scheme: "mlflow-artifacts", Path: "1/models/x"},
		"mlflow-artifacts://h:5000/1/x": {Scheme: "mlflow-artifacts", Host: "h:5000", Path: "1/x"},
	} {
		got, err := ParseURI(text)
		if err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
			continue
		}
		if again, err := ParseURI(got.String()); err != nil || again != want {
			t.Errorf("%s is written as %s", text, got)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	for _, text := range []string{
		"", "iris", "models:", "models:/", "models://host/iris/1", "models:iris/1", "models:/iris", "models:/iris/", "models:/iris/1/sub",
		"models:/@champion", "models:/iris@", "models:/iris@ ", "models:/ir\x1bis/1",
		"runs:/", "runs:/c946", "runs:/c946/", "runs:/c946/../x", "runs:/c946//x", "runs:/c946/.",
		"mlflow-artifacts:/", "mlflow-artifacts:/../x", "mlflow-artifacts:/a#b", `mlflow-artifacts:/a\b`, "mlflow-artifacts://u@h/x",
		"s3://bucket/model", "gs://bucket/model", "file:///etc", "http://169.254.169.254/x", "/home/me/model", "dbfs:/model",
	} {
		if u, err := ParseURI(text); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%q is %+v, %v", text, u, err)
		}
	}
}
