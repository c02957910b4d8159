package trackingserver

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/gcp"
)

func TestSecretsForGoogleAreMadeOnce(t *testing.T) {
	w := newWorld()
	s, at := secretsIn{w.client(), "ml"}, gcp.SecretKey{Secret: "mlflow-database", Key: "DB_PASSWORD"}
	if value, err := s.Read(t.Context(), at); value != nil || err != nil {
		t.Fatalf("%q, %v", value, err)
	}

	// A dry run makes the namespace, without which it could not be asked, and no Secret.
	if err := s.Create(t.Context(), at, []byte("{}"), true); err != nil {
		t.Fatal(err)
	}
	if ref := core("Secret", "ml", at.Secret); w.objects[ref] != nil || w.objects[core("Namespace", "", "ml")] == nil {
		t.Errorf("there are %v", w.objects)
	}
	if enforce := w.objects[core("Namespace", "", "ml")].GetLabels()["pod-security.kubernetes.io/enforce"]; enforce != "restricted" {
		t.Errorf("the namespace is not as install makes it: %q", enforce)
	}
	if err := s.Create(t.Context(), at, []byte("p\x00w"), false); err != nil {
		t.Fatal(err)
	}
	if value, err := s.Read(t.Context(), at); string(value) != "p\x00w" || err != nil {
		t.Errorf("%q, %v", value, err)
	}
	if n := len(slices.DeleteFunc(slices.Clone(w.journal), func(entry string) bool { return entry != "create namespace/ml" })); n != 1 {
		t.Errorf("the namespace was made %d times: %q", n, w.journal)
	}

	// Somebody else's is not overwritten, nor taken for ours.
	if err := s.Create(t.Context(), at, []byte("other"), false); failure.ClassOf(err) != failure.Refused {
		t.Errorf("%v", err)
	}
	if value, err := s.Read(t.Context(), at); string(value) != "p\x00w" || err != nil {
		t.Errorf("%q, %v", value, err)
	}

	// The password opens a database that uninstall does not delete: it is none of uninstall's objects.
	secret := w.objects[core("Secret", "ml", at.Secret)]
	if labels := secret.GetLabels(); labels[cluster.ManagedByLabel] != "" || labels[cluster.KeepKey] != "true" {
		t.Errorf("labels %v", labels)
	}
}

func TestASecretWithoutTheKeyIsRefused(t *testing.T) {
	w := newWorld()
	secret := &unstructured.Unstructured{Object: map[string]any{"data": map[string]any{"password": base64.StdEncoding.EncodeToString([]byte("x"))}}}
	ref := core("Secret", "ml", "mlflow-database")
	secret.SetGroupVersionKind(ref.GroupVersionKind)
	secret.SetNamespace(ref.Namespace)
	secret.SetName(ref.Name)
	w.objects[ref] = secret
	_, err := secretsIn{w.client(), "ml"}.Read(t.Context(), gcp.SecretKey{Secret: ref.Name, Key: "DB_PASSWORD"})
	if known, ok := errors.AsType[*failure.Error](err); !ok || known.Class != failure.Refused || !strings.Contains(err.Error(), "it has no DB_PASSWORD") {
		t.Errorf("%v", err)
	}
}

// Who may not look at namespaces may still have one.
func TestANamespaceThatCannotBeSeenIsNoReasonToFail(t *testing.T) {
	w := newWorld()
	w.refuse = func(_ string, r cluster.Ref) error {
		if r.Kind == "Namespace" {
			return &failure.Error{Class: failure.Forbidden, Object: r.String(), Message: "not for you"}
		}
		return nil
	}
	if err := (secretsIn{w.client(), "ml"}).Create(t.Context(), gcp.SecretKey{Secret: "a", Key: "b"}, []byte("c"), false); err != nil {
		t.Error(err)
	}
	if w.objects[core("Secret", "ml", "a")] == nil || w.objects[core("Namespace", "", "ml")] != nil {
		t.Errorf("there are %v", w.objects)
	}
}

func TestASetupThatCannotBeRightAsksNobody(t *testing.T) {
	w := newWorld()
	if _, _, err := w.client().SetUpGoogle(t.Context(), Google{}); failure.ClassOf(err) != failure.Invalid || len(w.journal) > 0 {
		t.Errorf("%v, %q", err, w.journal)
	}
}
