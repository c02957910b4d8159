package servingruntime

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

// MLServer's last releases. It has no maintainer any more, so what the launcher takes of it stays as it is.
const (
	mlserverRequirement       = "mlserver==1.7.1"
	mlserverMLflowRequirement = "mlserver-mlflow==1.7.1"
	// mlserverPythonOldest and mlserverPythonBeyond are the minor versions of Python 3 that it takes: >=3.9,<3.13.
	mlserverPythonOldest, mlserverPythonBeyond = 9, 13
)

// mlserver is MLServer, where it fits the model; failure.Invalid says why not.
func mlserver(m *model.Model, name string) (*Runtime, error) {
	if why := mlserverUnfit(m); why != "" {
		return nil, &failure.Error{
			Class:   failure.Invalid,
			Reason:  "ModelServerUnfit",
			Message: "MLServer does not serve this model: " + why,
			Hint:    "leave --model-server out for a server that fits the model",
		}
	}
	requirements, err := mlflowRequirement(m, mlserverOldest)
	if err != nil {
		return nil, err
	}
	return runtime(MLServer, name, slices.Concat(requirements, []string{mlserverRequirement, mlserverMLflowRequirement}))
}

// mlserverUnfit says why MLServer cannot serve a model, whatever its MLflow; "" where it can.
func mlserverUnfit(m *model.Model) string {
	if minor, ok := strings.CutPrefix(m.Python, "3."); ok {
		minor, _, _ = strings.Cut(minor, ".")
		if n, err := strconv.Atoi(minor); err == nil && (n < mlserverPythonOldest || n >= mlserverPythonBeyond) {
			return fmt.Sprintf("it runs on Python 3.%d to 3.%d, and the model was logged with Python %s",
				mlserverPythonOldest, mlserverPythonBeyond-1, m.Python)
		}
	}
	// Its runtime reads the signature when it loads the model, and fails where one half is missing.
	if s := m.Signature; s != nil && (s.Inputs == nil || s.Outputs == nil) {
		return "it takes a signature with inputs and outputs, or none, and the model's lacks one of them"
	}
	return ""
}
