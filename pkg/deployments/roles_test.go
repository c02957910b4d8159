package deployments

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// The Role that ships allows the record of an installation, and a tunnel to its server.
func TestTheTrackingRoleIsATunnelToTheServer(t *testing.T) {
	want := []string{"create pods/portforward", "get configmaps./" + instance.Name, "get services./mlflow", "list pods", "watch pods"}
	if diff := cmp.Diff(want, kit.RolesIn(t, "../../manifests/roles/tracking/role.yaml")); diff != "" {
		t.Errorf("-needed +shipped:\n%s", diff)
	}
}
