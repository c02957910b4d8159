//go:build e2e

package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// TestQuota installs where a quota leaves no room for the server's pod: it is said at once and not when the time is up.
func TestQuota(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	n := l.namespace(t, "lab-quota")
	n.create(t)
	n.kubectl(t, "create", "quota", "tight", "--hard=requests.memory=300Mi,limits.memory=1100Mi")
	timed(t, "refusal", func() {
		n.refused(t, 4, []string{"quota", "tight", "hint:"}, "install", "--timeout=3m")
	})
	n.kubectl(t, "delete", "quota", "tight")
	n.mlflow(t, "install")
	n.guide(t, "mlflow", "postgres")
}

// TestNoDefaultStorageClass installs where volumes have to be asked for by class.
func TestNoDefaultStorageClass(t *testing.T) {
	l := openLab(t)
	n := l.namespace(t, "lab-storage")
	class := l.kubectl(t, "get", "storageclass", "-o", "jsonpath={.items[0].metadata.name}")
	isDefault := func(yes string) {
		l.kubectl(t, "annotate", "storageclass", class, "--overwrite", "storageclass.kubernetes.io/is-default-class="+yes)
	}
	t.Cleanup(func() { isDefault("true") })
	isDefault("false")
	timed(t, "refusal", func() {
		n.refused(t, 4, []string{"no default storage class", "--storage-class", "hint:"}, "install", "--timeout=3m")
	})
	n.mlflow(t, "install", "--storage-class", class)
	n.guide(t, "mlflow", "postgres")
}

// TestBasicAuth lets nobody in without a password, and everybody with it; with NetworkPolicies, which the lab's network does not enforce. check
// says so: what they let through is not told by these tests.
func TestBasicAuth(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	n := l.namespace(t, "lab-auth")
	n.mlflow(t, "install", "--basic-auth", "--network-policies")
	if r := n.mlflow(t, "check"); !strings.Contains(r.stdout+r.stderr, "not enforced") {
		t.Errorf("check does not say that NetworkPolicies are not enforced:\n%s%s", r.stdout, r.stderr)
	}
	admin := n.credentials(t)
	password := strings.TrimPrefix(admin[1], "MLFLOW_TRACKING_PASSWORD=")
	base := n.forward(t, "-n", n.namespace)
	for _, c := range []struct {
		name, user, password string
		want                 int
	}{
		{"nobody", "", "", http.StatusUnauthorized},
		{"a wrong password", "admin", "wrong", http.StatusUnauthorized},
		{"admin", "admin", password, http.StatusOK},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/2.0/mlflow/experiments/get?experiment_id=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.user != "" {
			request.SetBasicAuth(c.user, c.password)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != c.want {
			t.Errorf("%s: %s, %v; want %d", c.name, response.Status, err, c.want)
		}
	}
	n.check(t, n.log(t, admin...), admin...)
	r := n.mlflow(t, "install")
	if !strings.Contains(r.stderr, "nothing changed") {
		t.Errorf("a rerun without flags changed something:\n%s%s", r.stdout, r.stderr)
	}
	if strings.Contains(r.stdout+r.stderr, password) {
		t.Error("the password was printed")
	}
}
