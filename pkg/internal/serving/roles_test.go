package serving

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

const roles = "../../../manifests/roles"

// The Role that ships allows what is asked for before a deployment, what tries the new version, what explains a failure, and nothing else.
func TestTheDeployersRoleIsWhatADeploymentNeeds(t *testing.T) {
	want := []string{"get services", "create pods/portforward", "get pods/log", "list events", "watch events"}
	for _, a := range Rights("models") {
		plural, _ := meta.UnsafeGuessKindToResource(a.GroupVersionKind)
		want = append(want, strings.TrimSuffix(a.Verb+" "+plural.Resource+"."+a.Group, "."))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, kit.RolesIn(t, filepath.Join(roles, "deployer/role.yaml"))); diff != "" {
		t.Errorf("-needed +shipped:\n%s", diff)
	}
}

func TestTheGatewaysRoleIsATunnelToIt(t *testing.T) {
	kourier := gateways()[0]
	want := []string{"create pods/portforward", "get services./" + kourier.external.Service, "get services./" + kourier.local.Service, "list pods", "watch pods"}
	if diff := cmp.Diff(want, kit.RolesIn(t, filepath.Join(roles, "gateway/role.yaml"))); diff != "" {
		t.Errorf("-needed +shipped:\n%s", diff)
	}
}
