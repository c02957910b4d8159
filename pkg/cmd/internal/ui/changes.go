package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// PrintChanges writes one line an object, in kubectl's words: "deployment.apps/mlflow created".
func PrintChanges(w io.Writer, changes []trackingserver.Change) error {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s\n", Escape(c.Object()), Escape(c.Action))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
