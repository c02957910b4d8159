package servingruntime

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
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
		if !slices.Equal(r.Command, []string{"python", "/opt/mlflow/launcher.py", "--server", "mlflow"}) {
			t.Errorf("Choose(%q) runs %v", want, r.Command)
		}
		for _, name := range []string{"launcher.py", "open_inference.py", "mlserver_app.py", "time_limit.py"} {
			if _, err := fs.Stat(r.Files, name); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestChooseRefusesAServerThatIsNotThere(t *testing.T) {
	for _, err := range []error{Validate("torchserve"), second(Choose(&model.Model{Requirements: []string{"mlflow"}}, "iris", "torchserve"))} {
		if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), `"torchserve"`) {
			t.Errorf("got %v, want failure.Invalid with the name", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestChooseTakesMLServerWhereItFits(t *testing.T) {
	both, inputs := &model.Signature{Inputs: []byte("[]"), Outputs: []byte("[]")}, &model.Signature{Inputs: []byte("[]")}
	added := []string{"mlserver==1.7.1", "mlserver-mlflow==1.7.1"}
	for what, c := range map[string]struct {
		want  string
		model model.Model
		kind  string
		add   []string
		says  string // of the failure, or of its evidence
	}{
		"asked for":              {"mlserver", model.Model{Requirements: []string{"mlflow==3.17.2"}, Python: "3.12.1", Signature: both}, "mlserver", added, ""},
		"without a signature":    {"mlserver", model.Model{Requirements: []string{"mlflow"}, Python: "3.9.0"}, "mlserver", added, ""},
		"MLflow not named":       {"mlserver", model.Model{MLflowVersion: "2.20.1", Python: "3.11.7"}, "mlserver", append([]string{"mlflow==2.20.1"}, added...), ""},
		"auto, MLflow 3":         {"auto", model.Model{Requirements: []string{"mlflow==3.17.2"}, Python: "3.12.1"}, "mlflow", nil, ""},
		"auto, MLflow 2.20":      {"auto", model.Model{Requirements: []string{"mlflow==2.20.3"}, Python: "3.12.1"}, "mlserver", added, ""},
		"mlflow, MLflow 2.20":    {"mlflow", model.Model{Requirements: []string{"mlflow==2.20.3"}, Python: "3.12.1"}, "", nil, "needs 2.22"},
		"auto, MLflow 2.9":       {"auto", model.Model{Requirements: []string{"mlflow==2.9.0"}, Python: "3.12.1"}, "", nil, "needs 2.19"},
		"auto, old on a new one": {"auto", model.Model{Requirements: []string{"mlflow==2.20.3"}, Python: "3.13.0"}, "", nil, "Python 3.9 to 3.12"},
		"MLflow 2.18":            {"mlserver", model.Model{Requirements: []string{"mlflow==2.18.0"}, Python: "3.11.7"}, "", nil, "needs 2.19"},
		"Python 3.13":            {"mlserver", model.Model{Requirements: []string{"mlflow==3.17.2"}, Python: "3.13.0"}, "", nil, "Python 3.13.0"},
		"Python 3.8":             {"mlserver", model.Model{Requirements: []string{"mlflow==2.19.0"}, Python: "3.8.18"}, "", nil, "Python 3.8.18"},
		"half a signature":       {"mlserver", model.Model{Requirements: []string{"mlflow==3.17.2"}, Python: "3.12.1", Signature: inputs}, "", nil, "signature"},
	} {
		r, err := Choose(&c.model, "iris", c.want)
		if c.kind == "" {
			f, ok := errors.AsType[*failure.Error](err)
			if !ok || f.Class != failure.Invalid || !strings.Contains(f.Message+strings.Join(f.Evidence, ""), c.says) {
				t.Errorf("%s: %v, want failure.Invalid that says %q", what, err, c.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if r.Kind != c.kind || !slices.Equal(r.Requirements, c.add) || r.ReadyPath != "/v2/models/iris/ready" || r.Command[len(r.Command)-1] != c.kind {
			t.Errorf("%s: %+v", what, r)
		}
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
		r, err := Choose(&model.Model{Requirements: []string{c.requirement}, MLflowVersion: c.logged}, "iris", MLflow)
		if failure.ClassOf(err) != c.class || (err == nil) != (c.class == "") {
			t.Errorf("%q, logged with %q: %v, want class %q", c.requirement, c.logged, err, c.class)
			continue
		}
		if err == nil && !slices.Equal(r.Requirements, c.add) {
			t.Errorf("%q, logged with %q: adds %v, want %v", c.requirement, c.logged, r.Requirements, c.add)
		}
	}
}
