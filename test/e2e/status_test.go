//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestStatus shows an installation that is well, and says what ails one that is not.
func TestStatus(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	n := l.namespace(t, "e2e-status")
	n.create(t)
	n.refused(t, 2, []string{"kubectl mlflow install"}, "status")
	n.mlflow(t, "install", "--backup-schedule=manual")
	began := time.Now()
	screen := n.mlflow(t, "status").stdout
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, text := range []string{"namespace e2e-status, overlay local", "postgres-0", "Ready", "postgres-data", "Bound", "http://mlflow.e2e-status:5000", "manual; none yet"} {
		if !strings.Contains(screen, text) {
			t.Errorf("the screen lacks %q:\n%s", text, screen)
		}
	}
	n.mlflow(t, "backup")
	n.kubectl(t, "set", "image", "deployment/mlflow", "mlflow=mlflow.invalid/none:1")
	for deadline := time.Now().Add(2 * time.Minute); ; {
		var s struct {
			APIVersion, Kind string
			Pods             []struct{ Component, Problem string }
			Backups          struct{ LastSuccess time.Time }
		}
		if err := json.Unmarshal([]byte(n.mlflow(t, "status", "-o", "json").stdout), &s); err != nil {
			t.Fatal(err)
		}
		if s.APIVersion != "mlflow.kubectl/v1alpha1" || s.Kind != "Status" || s.Backups.LastSuccess.IsZero() {
			t.Fatalf("%+v", s)
		}
		told := false
		for _, pod := range s.Pods {
			told = told || pod.Component == "server" && strings.Contains(pod.Problem, "mlflow.invalid")
		}
		if told {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is said of an image that cannot be pulled: %+v", s)
		}
		time.Sleep(time.Second) // the API is asked again
	}
}
