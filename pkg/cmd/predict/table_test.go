package predict

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestTheAnswerAsATable(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"scalars": {`{"predictions": [1.50, 2e3, true, null]}`, "PREDICTION\n1.50\n2e3\ntrue\nnull\n"},
		"none":    {`{"predictions": []}`, "PREDICTION\n"},
		"texts":   {`{"predictions": ["a\u001b[2Jb", ""]}`, "PREDICTION\na\\x1b[2Jb\n<none>\n"},
		"lists":   {`{"predictions": [[0.9, 0.1], [0.25, 0.75]]}`, "0      1\n0.9    0.1\n0.25   0.75\n"},
		"records": {`{"predictions": [{"label": "setosa", "p": 0.9}, {"p": 0.8, "why": "leaf"}]}`, "label    p     why\nsetosa   0.9   <none>\n<none>   0.8   leaf\n"},
		"V2": {
			`{"model_name": "iris", "outputs": [{"name": "label", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "b"]},
			  {"name": "p", "shape": [2, 2], "datatype": "FP64", "data": [0.9, 0.1, 0.8, 0.2]}]}`,
			"label   p.0   p.1\na       0.9   0.1\nb       0.8   0.2\n",
		},
		"V2, nested": {`{"outputs": [{"name": "p", "shape": [2, 2], "datatype": "FP64", "data": [[1, 2], [3, 4]]}]}`, "p.0   p.1\n1     2\n3     4\n"},
		"V2, none":   {`{"outputs": [{"name": "p", "shape": [0, 4], "datatype": "FP64", "data": []}]}`, "p\n"},
	} {
		if got, err := table([]byte(c.answer)); err != nil || got != c.want {
			t.Errorf("%s:\n%s%v, want\n%s", name, got, err, c.want)
		}
	}
}

func TestWhatIsNoTable(t *testing.T) {
	for _, answer := range []string{
		`no JSON`,
		`[1, 2]`,
		`{"choices": []}`,
		`{"predictions": {"a": [1]}}`,
		`{"predictions": "text"}`,
		`{"predictions": null}`,
		`{"predictions": [[[1]]]}`,
		`{"predictions": [[]]}`,
		`{"predictions": [1, [2]]}`,
		`{"predictions": [[1], [2, 3]]}`,
		`{"predictions": [{"a": {"b": 1}}]}`,
		`{"outputs": []}`,
		`{"outputs": [{"name": "a", "shape": [1, 2, 1], "data": [1, 2]}]}`,
		`{"outputs": [{"name": "a", "shape": [1], "data": [[1]]}]}`,
		`{"outputs": [{"name": "a", "shape": [3], "data": [1, 2]}]}`,
		`{"outputs": [{"name": "a", "shape": [-1], "data": [1]}]}`,
		`{"outputs": [{"name": "a", "shape": [4, 4611686018427387905], "data": [1, 2, 3, 4]}]}`,
		`{"outputs": [{"name": "a", "shape": [2, 0], "data": []}]}`,
		`{"outputs": [{"name": "a", "shape": [1], "data": {"b": 1}}]}`,
		`{"outputs": [{"name": "a", "shape": [1], "data": [1]}, {"name": "b", "shape": [2], "data": [1, 2]}]}`,
		`{"outputs": [{"name": "a", "shape": [1]}]}`,
	} {
		_, err := table([]byte(answer))
		e, ok := errors.AsType[*failure.Error](err)
		if !ok || e.Class != failure.Diagnosed || e.Reason != "NoTable" || e.Err == nil || !strings.Contains(e.Hint, "-o json") {
			t.Errorf("%s: %#v", answer, err)
		}
	}
}

func TestRunPrintsATable(t *testing.T) {
	var out bytes.Buffer
	answer := `{"predictions": [0]}`
	o := Options{Timeout: time.Minute, Out: &out, Table: true, Client: predictor(func(context.Context, deployments.Prediction) ([]byte, error) {
		return []byte(answer), nil
	})}
	if err := o.Run(t.Context()); err != nil || out.String() != "PREDICTION\n0\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	answer = "0"
	out.Reset()
	if err := o.Run(t.Context()); err == nil || out.Len() > 0 {
		t.Errorf("%q, %v", out.String(), err)
	}
}
