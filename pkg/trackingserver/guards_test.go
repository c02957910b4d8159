package trackingserver

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// refusal installs p and expects the failure, with nothing done.
func (w *world) refusal(t *testing.T, p Parameters, o Options) *failure.Error {
	t.Helper()
	w.journal = nil
	done, err := w.client().Install(t.Context(), p, o)
	f, ok := errors.AsType[*failure.Error](err)
	if !ok {
		t.Fatalf("got %v, want a failure", err)
	}
	if len(w.journal) > 0 || len(done) > 0 {
		t.Errorf("did %v, returned %v", w.journal, done)
	}
	return f
}

func TestInstallLeavesWhatOthersKeep(t *testing.T) {
	for _, c := range []struct {
		name                string
		labels, annotations map[string]string
		says, hint          string
	}{
		{"Argo CD", nil, map[string]string{"argocd.argoproj.io/tracking-id": "mlops:apps/Deployment:mlflow/mlflow"}, "Argo CD keeps it as part of mlops", "export"},
		{"Flux", map[string]string{"kustomize.toolkit.fluxcd.io/name": "mlops"}, nil, "Flux keeps it as part of mlops", "export"},
		{"Helm", nil, map[string]string{"meta.helm.sh/release-name": "mlflow"}, "Helm keeps it as part of mlflow", "helm upgrade mlflow"},
		{"nobody", map[string]string{cluster.ManagedByLabel: ""}, nil, "did not make", "restore --from-file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			w.install(t, Parameters{})
			live := w.objects[w.serverOf(t)]
			labels, annotations := live.GetLabels(), live.GetAnnotations()
			maps.Copy(labels, c.labels)
			maps.Copy(annotations, c.annotations)
			live.SetLabels(labels)
			live.SetAnnotations(annotations)
			if c.name == "nobody" { // made anew by hand
				live.SetUID("theirs")
			}
			f := w.refusal(t, Parameters{}, Options{})
			if f.Class != failure.Refused || f.Object != "deployment.apps/mlflow" || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("got %+v", f)
			}
			if c.name == "nobody" {
				return // uninstall leaves it
			}
			w.journal = nil
			if _, err := w.client().Uninstall(t.Context(), false); failure.ClassOf(err) != failure.Refused || len(w.journal) > 0 {
				t.Errorf("uninstall: %v, did %v", err, w.journal)
			}
		})
	}
}

func TestInstallSaysWhichRightsAreMissing(t *testing.T) {
	w := newWorld()
	w.rights = []string{"create deployments", "delete leases"}
	f := w.refusal(t, Parameters{}, Options{})
	if f.Class != failure.Forbidden || f.Reason != "RightsMissing" || !strings.Contains(f.Message, "delete leases, create deployments") {
		t.Errorf("got %+v", f)
	}
	if len(f.Evidence) != 1 || !strings.Contains(f.Evidence[0], "kind: Role") || !strings.Contains(f.Evidence[0], "deployments") {
		t.Errorf("evidence is %q", f.Evidence)
	}
}

func TestInstallWaitsForNoClassThatIsNotThere(t *testing.T) {
	w := newWorld()
	w.classes = w.classes[1:]
	if f := w.refusal(t, Parameters{}, Options{}); f.Class != failure.Diagnosed || f.Reason != "NoDefaultStorageClass" || !strings.Contains(f.Hint, "fast") {
		t.Errorf("got %+v", f)
	}
	if f := w.refusal(t, Parameters{StorageClass: "slow"}, Options{}); f.Class != failure.Invalid || f.Reason != "StorageClassNotFound" || !strings.Contains(f.Hint, "fast") {
		t.Errorf("got %+v", f)
	}
	w.install(t, Parameters{StorageClass: "fast"})
	w.classes = nil // the claims are there: nothing new is wanted
	w.install(t, Parameters{})
}

func TestInstallDoesNotGoAheadOfTheLock(t *testing.T) {
	w := newWorld()
	w.held = &failure.Error{Class: failure.Refused, Reason: "LockHeld", Message: "somebody installs"}
	done, err := w.client().Install(t.Context(), Parameters{}, Options{})
	// Who has the lock works in the namespace, whoever made it: it stays.
	if left := w.left(); !errors.Is(err, w.held) || len(done) != 1 || len(left) != 1 || left[0] != "namespace/mlflow" {
		t.Errorf("got %v, %v; left %v", done, err, left)
	}
}

func TestInstallLooksAgainWhereSomebodyWasFaster(t *testing.T) {
	w := newWorld()
	c := w.client()
	c.cluster = &faster{world: w, do: func() { w.held = nil; w.install(t, Parameters{Limits: "memory=3Gi"}) }}
	if _, err := c.Install(t.Context(), Parameters{Requests: "cpu=1"}, Options{}); err != nil {
		t.Fatal(err)
	}
	got := w.record["mlflow"].Parameters
	if got["LIMITS"] != "memory=3Gi" || got["REQUESTS"] != "cpu=1" {
		t.Errorf("recorded are %v: what the other one said is lost", got)
	}
}

// faster is a world in which somebody else comes first to the lock.
type faster struct {
	*world
	do func()
}

func (f *faster) Lock(ctx context.Context, namespace, name, operation string, note func(string)) (context.Context, func() error, error) {
	if f.do != nil {
		do := f.do
		f.do = nil
		do()
	}
	return f.world.Lock(ctx, namespace, name, operation, note)
}

func TestAServerThatSomebodyStoppedIsSaidToBe(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{})
	live := w.objects[w.serverOf(t)]
	live.Object["replicas"] = int64(0)
	live.Object["spec"].(map[string]any)["replicas"] = int64(0)
	for verb, f := range map[string]func() error{
		"install": func() error { _, err := w.client().Install(t.Context(), Parameters{}, Options{}); return err },
		"wait":    func() error { return w.client().Wait(t.Context()) },
	} {
		var failed *failure.Error
		if err := f(); !errors.As(err, &failed) || failed.Reason != "ScaledToZero" || !strings.Contains(failed.Hint, "--replicas=1") {
			t.Errorf("%s: got %v", verb, err)
		}
	}
}

func TestGivenSecretsAreTaken(t *testing.T) {
	value := func(w *world, name, key string) any {
		return w.objects[core("Secret", "mlflow", name)].Object["stringData"].(map[string]any)[key]
	}
	t.Run("password", func(t *testing.T) {
		w := newWorld()
		o := Options{Secrets: GivenSecrets{DatabasePassword: "mine"}}
		if _, err := w.client().Install(t.Context(), Parameters{}, o); err != nil {
			t.Fatal(err)
		}
		if got := value(w, secretName, keyDatabasePassword); got != "mine" {
			t.Errorf("the password is %v", got)
		}
		if _, err := w.client().Install(t.Context(), Parameters{}, o); err != nil {
			t.Errorf("the same again: %v", err)
		}
		if f := w.refusal(t, Parameters{}, Options{Secrets: GivenSecrets{DatabasePassword: "another"}}); f.Class != failure.Refused || f.Reason != "OtherPassword" {
			t.Errorf("another one: %+v", f)
		}
	})
	t.Run("password that no URI takes", func(t *testing.T) {
		w := newWorld()
		o := Options{Secrets: GivenSecrets{DatabasePassword: "p@ss/word"}}
		if f := w.refusal(t, Parameters{}, o); f.Class != failure.Invalid || strings.Contains(f.Error()+f.Hint, "p@ss") {
			t.Errorf("got %+v", f)
		}
	})
	cloudSQL := Parameters{Overlay: CloudSQLOverlay, CloudSQLInstance: "my-project:europe-west1:mlflow", ArtifactsDestination: "gs://bucket/prefix"}
	t.Run("Cloud SQL's is escaped", func(t *testing.T) {
		w := newWorld()
		o := Options{Secrets: GivenSecrets{DatabasePassword: "p@ss+wörd"}}
		if _, err := w.client().Install(t.Context(), cloudSQL, o); err != nil {
			t.Fatal(err)
		}
		if got := value(w, secretName, keyDatabasePassword); got != "p%40ss%2Bw%C3%B6rd" {
			t.Errorf("the password is %v", got)
		}
		if _, err := w.client().Install(t.Context(), Parameters{}, o); err != nil {
			t.Errorf("the same again: %v", err)
		}
	})
	t.Run("Cloud SQL's is not made up", func(t *testing.T) {
		w := newWorld()
		if f := w.refusal(t, cloudSQL, Options{}); f.Class != failure.Invalid || !strings.Contains(f.Hint, "--database-password-file") {
			t.Errorf("got %+v", f)
		}
		if _, err := w.client().SecretsOnly(t.Context(), cloudSQL, Options{}); err != nil {
			t.Fatal(err)
		}
		w.install(t, cloudSQL)
	})
	t.Run("keys are mounted", func(t *testing.T) {
		w := newWorld()
		if _, err := w.client().Install(t.Context(), Parameters{}, Options{Secrets: GivenSecrets{GoogleKey: `{"type":"service_account"}`}}); err != nil {
			t.Fatal(err)
		}
		if got := w.record["mlflow"].Parameters["GOOGLE_KEY_SECRET"]; got != googleKeySecret || value(w, googleKeySecret, keyGoogleKey) == nil {
			t.Errorf("recorded is %q", got)
		}
		w.install(t, Parameters{})
	})
	t.Run("a Secret that is named has to be there, and fit", func(t *testing.T) {
		w := newWorld()
		w.install(t, Parameters{})
		p := Parameters{DatabaseSecret: "theirs"}
		if f := w.refusal(t, p, Options{}); f.Class != failure.Invalid || f.Object != "secret/theirs" || !strings.Contains(f.Hint, "kubectl create secret generic theirs") {
			t.Errorf("got %+v", f)
		}
		for given, reason := range map[string]string{"s3cret\n": "PasswordNotEscaped", "a@b": "PasswordNotEscaped", "": "PasswordNotEscaped"} {
			w.put(secretOf("theirs", map[string]any{"DB_PASSWORD": given}), "")
			if f := w.refusal(t, p, Options{}); f.Reason != reason || strings.Contains(f.Error(), "s3cret") {
				t.Errorf("%q: got %+v", given, f)
			}
		}
		w.put(secretOf("theirs", map[string]any{"password": "x"}), "")
		if f := w.refusal(t, p, Options{}); f.Reason != "SecretIncomplete" {
			t.Errorf("got %+v", f)
		}
		w.put(secretOf("theirs", map[string]any{"DB_PASSWORD": "fine%40"}), "")
		w.install(t, p)
	})
}

func secretOf(name string, values map[string]any) *unstructured.Unstructured {
	secret := &unstructured.Unstructured{Object: map[string]any{"stringData": values}}
	secret.SetGroupVersionKind(core("Secret", "", "").GroupVersionKind)
	secret.SetNamespace("mlflow")
	secret.SetName(name)
	return secret
}

func TestSecretsOnlyMakesNothingElse(t *testing.T) {
	w := newWorld()
	done, err := w.client().SecretsOnly(t.Context(), Parameters{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if left := strings.Join(w.left(), " "); left != "namespace/mlflow secret/mlflow-secret" || len(done) != 2 || len(w.record) > 0 {
		t.Errorf("made %s, %d changes, records %v", left, len(done), w.record)
	}
	password := text(w.objects[core("Secret", "mlflow", secretName)])
	w.install(t, Parameters{})
	if text(w.objects[core("Secret", "mlflow", secretName)]) != password {
		t.Error("install made another password")
	}
}

func TestAdminIsAskedAs(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{BasicAuth: yes})
	if w.asked.Username != "admin" || len(w.asked.Password) != passwordLength {
		t.Errorf("asked as %q, with a password of %d letters", w.asked.Username, len(w.asked.Password))
	}
	w.refuse = func(_ string, r cluster.Ref) error {
		if r.Kind == "Secret" {
			return &failure.Error{Class: failure.Forbidden, Reason: "Forbidden", Message: "you may not"}
		}
		return nil
	}
	w.probe = func() error {
		return &failure.Error{Class: failure.Forbidden, Reason: "TrackingServerDenied", Message: "401"}
	}
	if err := w.client().Wait(t.Context()); err != nil || w.asked.Username != "" {
		t.Errorf("who may not read the password: asked as %q, %v", w.asked.Username, err)
	}
}
