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
	if err := s.Create(t.Context(), at, []byte("pw1"), false); err != nil {
		t.Fatal(err)
	}
	if value, err := s.Read(t.Context(), at); string(value) != "pw1" || err != nil {
		t.Errorf("%q, %v", value, err)
	}
	if n := len(slices.DeleteFunc(slices.Clone(w.journal), func(entry string) bool { return entry != "create namespace/ml" })); n != 1 {
		t.Errorf("the namespace was made %d times: %q", n, w.journal)
	}

	// Somebody else's is not overwritten, nor taken for ours.
	if err := s.Create(t.Context(), at, []byte("other"), false); failure.ClassOf(err) != failure.Refused {
		t.Errorf("%v", err)
	}
	if value, err := s.Read(t.Context(), at); string(value) != "pw1" || err != nil {
		t.Errorf("%q, %v", value, err)
	}

	// The password opens a database that uninstall does not delete: it is none of uninstall's objects.
	secret := w.objects[core("Secret", "ml", at.Secret)]
	if labels := secret.GetLabels(); labels[cluster.ManagedByLabel] != "" || labels[cluster.KeepKey] != "true" {
		t.Errorf("labels %v", labels)
	}
}

// Install reads it as part of a URI, and Cloud SQL gets what that means.
func TestThePasswordGoesToTheDatabasePlain(t *testing.T) {
	at := gcp.SecretKey{Secret: "theirs", Key: "DB_PASSWORD"}
	for kept, want := range map[string]string{"simple": "simple", "p%40ss%2Bw%C3%B6rd": "p@ss+wörd", "p@ss": "", "line\n": "", "50%": ""} {
		w := newWorld()
		w.put(secretOf(at.Secret, map[string]any{at.Key: kept}), "")
		value, err := secretsIn{w.client(), "mlflow"}.Read(t.Context(), at)
		if string(value) != want || (want == "") != (failure.ClassOf(err) == failure.Refused) || err != nil && strings.Contains(err.Error(), kept) {
			t.Errorf("%q: %q, %v", kept, value, err)
		}
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

// The annotations alone, at once: what waits for a role comes up when it is there.
func TestIdentityIsSetOnAnInstallationWithoutWaiting(t *testing.T) {
	w := newWorld()
	database := core("Secret", "ml", "mlflow-database")
	secret := &unstructured.Unstructured{Object: map[string]any{"data": map[string]any{"DB_PASSWORD": base64.StdEncoding.EncodeToString([]byte("x"))}}}
	secret.SetGroupVersionKind(database.GroupVersionKind)
	secret.SetNamespace(database.Namespace)
	secret.SetName(database.Name)
	w.put(secret, "")
	w.install(t, Parameters{Namespace: "ml", Overlay: CloudSQLOverlay, CloudSQLInstance: "my-project:europe-west1:mlops", ArtifactsDestination: "gs://bucket", DatabaseSecret: database.Name})
	g, err := Google{Namespace: "ml", CloudSQL: true, CloudSQLInstance: "my-project:europe-west1:mlops", ArtifactsDestination: "gs://bucket"}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	if installed, err := w.client().InstalledFor(t.Context(), g); !installed || err != nil {
		t.Fatalf("%v, %v", installed, err)
	}
	w.journal = nil
	changes, err := w.client().SetIdentity(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mlflow", "mlflow-cloudsql-proxy"} {
		annotations := w.objects[core("ServiceAccount", "ml", name)].GetAnnotations()
		if want := name + "@my-project.iam.gserviceaccount.com"; !strings.Contains(annotations["applied"], `"iam.gke.io/gcp-service-account":"`+want+`"`) {
			t.Errorf("%s has %q, want %s", name, annotations, want)
		}
	}
	for _, entry := range w.journal {
		if strings.HasPrefix(entry, "wait") || strings.HasPrefix(entry, "ask") || strings.HasPrefix(entry, "apply") && !strings.HasPrefix(entry, "apply serviceaccount/") {
			t.Errorf("%q", entry)
		}
	}
	if len(changes) != 2 {
		t.Errorf("%v", changes)
	}

	// The next install keeps them, and has nothing to do.
	for _, change := range w.install(t, Parameters{Namespace: "ml"}) {
		if change.Action != Unchanged {
			t.Errorf("%s %s", change.Object(), change.Action)
		}
	}

	// What is not installed, or not for Google, is left alone.
	g.Namespace = "elsewhere"
	if installed, err := w.client().InstalledFor(t.Context(), g); installed || err != nil {
		t.Errorf("%v, %v", installed, err)
	}
	g.Namespace, g.CloudSQL = "ml", false
	if installed, err := w.client().InstalledFor(t.Context(), g); installed || err != nil {
		t.Errorf("%v, %v", installed, err)
	}
}
