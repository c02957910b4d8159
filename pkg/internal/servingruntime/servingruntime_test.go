package servingruntime

import (
	"io/fs"
	"slices"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

func TestChooseServesEveryModelWithMLflowsOwnServer(t *testing.T) {
	for _, want := range []string{"", "auto", "mlflow"} {
		r, err := Choose(&model.Model{Requirements: []string{"mlflow==3.17.2", "scikit-learn==1.9.1"}}, "iris", want)
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind != "mlflow" || r.ReadyPath != "/v2/models/iris/ready" || r.Port != 8080 || r.Env["KUBECTL_MLFLOW_MODEL_NAME"] != "iris" {
			t.Errorf("Choose(%q) = %+v", want, r)
		}
		if len(r.Requirements) != 0 {
			t.Errorf("Choose(%q) adds %v to a model that has MLflow", want, r.Requirements)
		}
		for _, name := range []string{"launcher.py", "open_inference.py"} {
			if _, err := fs.Stat(r.Files, name); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestChooseRefusesAServerThatIsNotThere(t *testing.T) {
	_, err := Choose(&model.Model{Requirements: []string{"mlflow"}}, "iris", "torchserve")
	if failure.ClassOf(err) != failure.Invalid {
		t.Errorf("got %v, want failure.Invalid", err)
	}
}

func TestChooseAndTheModelsMLflow(t *testing.T) {
	for _, c := range []struct {
		requirement, logged string
		add                 []string
		class               failure.Class
	}{
		{requirement: "mlflow==3.17.2"},
		{requirement: "mlflow"},
		{requirement: "mlflow[extras]>=2.3"},
		{requirement: "wheels/mlflow-3.17.2-py3-none-any.whl", logged: "3.18.0"},
		{requirement: "mlflow-skinny==2.22.0"},
		{requirement: "MLflow >= 2.1, < 3"},
		{requirement: "mlflow<3,>=2.9"},
		{requirement: "mlflow~=2.5"},
		{requirement: "mlflow==2.*"},
		{requirement: "mlflow==2.22.5 ; python_version >= '3.9'"},
		{requirement: "mlflow==2.21.3", class: failure.Invalid},
		{requirement: "mlflow===2.4.2", class: failure.Invalid},
		{requirement: "mlflow<2.22", class: failure.Invalid},
		{requirement: "mlflow>=1.0,<=2.9.1", class: failure.Invalid},
		{requirement: "mlflow~=2.5.0", class: failure.Invalid},
		{requirement: "mlflow==1.*", class: failure.Invalid},
		{requirement: "mlflow-skinny==1.30.0", class: failure.Invalid},
		{requirement: "numpy==2.0", logged: "3.17.2", add: []string{"mlflow==3.17.2"}},
		{requirement: "mlflow-export-import==1.0", logged: "2.22.1", add: []string{"mlflow==2.22.1"}},
		{requirement: "numpy==2.0", logged: "2.9.0", class: failure.Invalid},
		{requirement: "numpy==2.0", class: failure.Invalid},
	} {
		r, err := Choose(&model.Model{Requirements: []string{c.requirement}, MLflowVersion: c.logged}, "iris", "")
		if failure.ClassOf(err) != c.class || (err == nil) != (c.class == "") {
			t.Errorf("%q, logged with %q: %v, want class %q", c.requirement, c.logged, err, c.class)
			continue
		}
		if err == nil && !slices.Equal(r.Requirements, c.add) {
			t.Errorf("%q, logged with %q: adds %v, want %v", c.requirement, c.logged, r.Requirements, c.add)
		}
	}
}
