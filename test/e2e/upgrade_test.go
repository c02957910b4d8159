//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// The two MLflows, whose databases differ: the later one's has two more revisions.
const (
	earlier = "ghcr.io/mlflow/mlflow:v3.16.1-full"
	later   = "ghcr.io/mlflow/mlflow:v3.17.2-full"
	// conflict is a table that the later one's migration makes.
	conflict = "sql_trace_rollup_rebuild_queue"
)

// TestUpgrade takes MLflow from one version to the next, with data in it: first in vain, then well, and never back.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	l.addon(t, "mlflow-earlier")
	n := l.namespace(t, "lab-upgrade")
	n.mlflow(t, "install", "--image", earlier)
	before := n.head(t)
	data := n.log(t)

	template := func() string { return n.kubectl(t, "get", "deployment", "mlflow", "-o", "jsonpath={.spec.template}") }
	t.Run("install does not change the version", func(t *testing.T) {
		was := template()
		n.refused(t, 5, []string{"upgrade", "hint:"}, "install", "--image", later)
		n.mlflow(t, "install")
		if now := template(); now != was {
			t.Errorf("a rerun of install changed the server:\nbefore: %s\nafter: %s", was, now)
		}
	})
	ok := t.Run("a migration that fails leaves the server as it was", func(t *testing.T) {
		was := template()
		n.sql(t, "CREATE TABLE "+conflict+" (in_the_way integer)")
		timed(t, "failing upgrade", func() {
			n.refused(t, 4, []string{"migration", conflict, "hint:"}, "upgrade", "--image", later)
		})
		// MLflow is away meanwhile: what another try would not mend is not tried again.
		if tries := n.kubectl(t, "get", "pods", "-l", "app.kubernetes.io/component=migration", "--field-selector=status.phase=Failed", "-o", "name"); strings.Contains(tries, "\n") || tries == "" {
			t.Errorf("the migration was tried by\n%s\nwant one try", tries)
		}
		if now := template(); now != was {
			t.Errorf("the server's template changed:\nbefore: %s\nafter: %s", was, now)
		}
		if now := n.head(t); now != before {
			t.Errorf("the schema is at %s, was at %s", now, before)
		}
	})
	if !ok {
		t.FailNow()
	}
	t.Run("upgrade", func(t *testing.T) {
		n.sql(t, "DROP TABLE "+conflict)
		timed(t, "upgrade", func() { n.mlflow(t, "upgrade", "--image", later) })
		if now := n.head(t); now == before {
			t.Errorf("the schema is still at %s", now)
		}
		if image := n.kubectl(t, "get", "deployment", "mlflow", "-o", "jsonpath={.spec.template.spec.containers[0].image}"); image != later {
			t.Errorf("the server runs %s, want %s", image, later)
		}
		n.check(t, data)
	})
	t.Run("the guide's lines work on the result", func(t *testing.T) { n.guide(t, "mlflow", "postgres") })
	t.Run("a rerun changes nothing", func(t *testing.T) {
		r := n.mlflow(t, "install")
		for _, line := range strings.Split(strings.TrimSpace(r.stdout), "\n") {
			if !strings.HasSuffix(line, " unchanged") {
				t.Errorf("install after the upgrade says %q, want every object unchanged", line)
			}
		}
	})
	t.Run("never back", func(t *testing.T) {
		was, head := template(), n.head(t)
		n.refused(t, 5, []string{"3.16.1", "hint:"}, "upgrade", "--image", earlier)
		if template() != was || n.head(t) != head {
			t.Error("a refused downgrade changed something")
		}
	})
}
