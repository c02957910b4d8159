package trackingserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func (w *world) uninstall(t *testing.T, deleteData bool) []Change {
	t.Helper()
	done, err := w.client().Uninstall(t.Context(), deleteData)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// left names what is in the world, sorted.
func (w *world) left() []string {
	var names []string
	for r := range w.objects {
		names = append(names, r.String())
	}
	slices.Sort(names)
	return names
}

func TestUninstallKeepsTheDataAndInstallFindsIt(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{DatabaseStorage: "50Gi"})
	secret, claim := core("Secret", "mlflow", secretName), core("PersistentVolumeClaim", "mlflow", databaseClaim)
	password, uid := text(w.objects[secret]), w.objects[claim].GetUID()

	for _, change := range w.uninstall(t, false) {
		data := change.Kind == "Secret" || change.Kind == "PersistentVolumeClaim"
		if kept := change.Action == cluster.Kept; kept != data {
			t.Errorf("%s %s", change.Object(), change.Action)
		}
	}
	want := []string{"namespace/mlflow", "persistentvolumeclaim/mlflow-artifacts", "persistentvolumeclaim/postgres-data", "secret/mlflow-secret"}
	if left := w.left(); !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}

	w.install(t, Parameters{})
	if text(w.objects[secret]) != password || w.objects[claim].GetUID() != uid {
		t.Error("password or volume is another one")
	}
	if got := w.record["mlflow"].Parameters["POSTGRES_STORAGE_SIZE"]; got != "50Gi" {
		t.Errorf("the size is %q, want the one of the first install", got)
	}
}

func TestUninstallWithDataLeavesNothing(t *testing.T) {
	for _, keptFirst := range []bool{false, true} {
		w := newWorld()
		w.install(t, Parameters{})
		if keptFirst {
			w.uninstall(t, false)
		}
		w.uninstall(t, true)
		if len(w.objects) > 0 || len(w.record) > 0 {
			t.Errorf("kept first %t: left %v, records %v", keptFirst, w.left(), w.record)
		}
	}
}

func TestUninstallLeavesWhatIsNotItsOwn(t *testing.T) {
	model := &unstructured.Unstructured{}
	model.SetAPIVersion("serving.knative.dev/v1")
	model.SetKind("Service")
	model.SetNamespace("mlflow")
	model.SetName("iris")
	t.Run("namespace with something else in it", func(t *testing.T) {
		w := newWorld()
		w.install(t, Parameters{})
		w.put(model, "")
		done := w.uninstall(t, true)
		if last := done[len(done)-1]; last.Object() != "namespace/mlflow" || last.Action != cluster.Kept {
			t.Errorf("the last change is %s %s", last.Object(), last.Action)
		}
		if left := w.left(); !slices.Equal(left, []string{"namespace/mlflow", "service.serving.knative.dev/iris"}) {
			t.Errorf("left %v", left)
		}
	})
	t.Run("what Kubernetes puts into a namespace does not count", func(t *testing.T) {
		w := newWorld()
		w.install(t, Parameters{})
		for kind, name := range map[string]string{"ConfigMap": "kube-root-ca.crt", "ServiceAccount": "default", "Event": "mlflow.1", "Endpoints": "mlflow"} {
			obj := &unstructured.Unstructured{}
			obj.SetGroupVersionKind(core(kind, "", "").GroupVersionKind)
			obj.SetNamespace("mlflow")
			obj.SetName(name)
			w.put(obj, "")
		}
		w.uninstall(t, true)
		if slices.Contains(w.left(), "namespace/mlflow") {
			t.Errorf("left %v", w.left())
		}
	})
	t.Run("namespace that was there before", func(t *testing.T) {
		w := newWorld()
		w.put(namespaceNamed("mlflow"), "theirs")
		w.install(t, Parameters{})
		w.uninstall(t, true)
		if left := w.left(); !slices.Equal(left, []string{"namespace/mlflow"}) {
			t.Errorf("left %v", left)
		}
	})
	t.Run("namespace that may not be looked into", func(t *testing.T) {
		w := newWorld()
		w.install(t, Parameters{})
		c := w.client()
		c.cluster = blind{w}
		if _, err := c.Uninstall(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if left := w.left(); !slices.Contains(left, "namespace/mlflow") {
			t.Errorf("left %v", left)
		}
	})
	t.Run("Secret that somebody brought along", func(t *testing.T) {
		w := newWorld()
		w.put(namespaceNamed("mlflow"), "")
		secret, err := ownSecret(Parameters{}).make("mlflow")
		if err != nil {
			t.Fatal(err)
		}
		secret.SetLabels(nil)
		w.put(secret, "")
		w.install(t, Parameters{})
		w.uninstall(t, true)
		if left := w.left(); !slices.Equal(left, []string{"namespace/mlflow", "secret/mlflow-secret"}) {
			t.Errorf("left %v", left)
		}
	})
	t.Run("object made anew by somebody else", func(t *testing.T) {
		w := newWorld()
		w.install(t, Parameters{})
		service := core("Service", "mlflow", "mlflow")
		w.objects[service].SetUID("theirs")
		w.uninstall(t, false)
		if !slices.Contains(w.left(), "service/mlflow") {
			t.Errorf("left %v", w.left())
		}
	})
}

// blind is a world in which nothing may be listed.
type blind struct{ *world }

func (blind) List(context.Context, cluster.Query) ([]*unstructured.Unstructured, error) {
	return nil, &failure.Error{Class: failure.Forbidden, Reason: "Forbidden", Message: "you may not list"}
}

func TestUninstallWithoutAnInstallation(t *testing.T) {
	w := newWorld()
	_, err := w.client().Uninstall(t.Context(), true)
	if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), "namespace mlflow") {
		t.Errorf("got %v", err)
	}
	if len(w.journal) > 0 {
		t.Errorf("did %v", w.journal)
	}
}

// What the Prometheus operator's kinds were needed for goes with them.
func TestWhatWasOfAKindThatIsGoneIsGone(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{ServiceMonitor: yes})
	for r := range w.objects {
		if r.Kind == "ServiceMonitor" {
			delete(w.objects, r)
		}
	}
	w.refuse = func(_ string, r cluster.Ref) error {
		if r.Kind == "ServiceMonitor" {
			return fmt.Errorf("%s: %w", r, cluster.ErrNotServed)
		}
		return nil
	}
	if _, err := w.client().Plan(t.Context(), Parameters{ServiceMonitor: no}, Options{}, DryRunServer); err != nil {
		t.Errorf("diff: %v", err)
	}
	if _, err := w.client().Uninstall(t.Context(), false); err != nil {
		t.Errorf("uninstall: %v", err)
	}
}

// The namespace that install made goes last, and who is interrupted before that can go on.
func TestUninstallWithDataConvergesAfterAKillAnywhere(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newWorld()
		w.install(t, Parameters{})
		w.journal = nil
		return w
	}
	run := func(ctx context.Context, w *world) error {
		_, err := w.client().Uninstall(ctx, true)
		return err
	}
	killedAnywhere(t, begin, run, func(t *testing.T, w, _ *world) {
		if len(w.record) > 0 {
			w.uninstall(t, true)
		}
		if len(w.objects) > 0 || len(w.record) > 0 {
			t.Errorf("left %v, records %v", w.left(), w.record)
		}
	})
	t.Run("where the kinds cannot be listed", func(t *testing.T) {
		w := begin(t)
		c := w.client()
		c.kinds = func(context.Context) ([]schema.GroupVersionKind, error) { return nil, errKilled }
		if _, err := c.Uninstall(t.Context(), true); !errors.Is(err, errKilled) {
			t.Errorf("got %v", err)
		}
		w.uninstall(t, true)
		if len(w.objects) > 0 {
			t.Errorf("left %v", w.left())
		}
	})
}
