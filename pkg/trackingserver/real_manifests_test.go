//go:build api

package trackingserver

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// without returns the objects that are not of the kinds.
func without(objs []*unstructured.Unstructured, kinds ...string) []*unstructured.Unstructured {
	return slices.DeleteFunc(slices.Clone(objs), func(obj *unstructured.Unstructured) bool { return slices.Contains(kinds, obj.GetKind()) })
}

// A ServiceMonitor is taken only by clusters with the Prometheus operator, which this one has not.
func TestRealEveryObjectIsTakenWithoutAWarning(t *testing.T) {
	r := openReal(t)
	for name, p := range goldens() {
		p.Namespace = r.namespace
		objs := without(renderAll(t, p), "Namespace", "ServiceMonitor")
		done, err := r.cluster.Apply(t.Context(), objs, true)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(done) != len(objs) {
			t.Errorf("%s: %d of %d objects were taken", name, len(done), len(objs))
		}
		if said := r.warnings.take(); len(said) > 0 {
			t.Errorf("%s: the API server warns: %v", name, said)
		}
	}
}

// The API server takes a workload that breaks the standard, with a warning, and refuses its pods later, one by one.
func TestRealPodsOfEveryTemplateAreAdmitted(t *testing.T) {
	r := openReal(t)
	for _, account := range []string{"mlflow", "mlflow-cloudsql-proxy", "default"} {
		made := &unstructured.Unstructured{}
		made.SetGroupVersionKind(core("ServiceAccount", "", "").GroupVersionKind)
		made.SetNamespace(r.namespace)
		made.SetName(account)
		if _, err := r.cluster.CreateOnce(t.Context(), made); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{"local": 3, "gcp-all": 6, "gcp-cloudsql-keys": 5, "gcp-cloudsql-sidecar-all": 5} {
		p := goldens()[name]
		p.Namespace = r.namespace
		admitted := 0
		for _, obj := range renderAll(t, p) {
			path := []string{"spec", "template"}
			if obj.GetKind() == "CronJob" {
				path = []string{"spec", "jobTemplate", "spec", "template"}
			}
			template, ok, err := unstructured.NestedMap(obj.Object, path...)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				continue
			}
			pod := &unstructured.Unstructured{Object: template}
			pod.SetGroupVersionKind(core("Pod", "", "").GroupVersionKind)
			pod.SetNamespace(r.namespace)
			pod.SetGenerateName(obj.GetName() + "-")
			if _, err := r.cluster.Create(t.Context(), pod, true); err != nil {
				t.Errorf("%s: a pod of %s: %v", name, cluster.RefOf(obj), err)
				continue
			}
			admitted++
			if said := r.warnings.take(); len(said) > 0 {
				t.Errorf("%s: a pod of %s: the API server warns: %v", name, cluster.RefOf(obj), said)
			}

			unstructured.RemoveNestedField(pod.Object, "spec", "securityContext")
			if _, err := r.cluster.Create(t.Context(), pod, true); err == nil || !strings.Contains(err.Error(), "restricted") {
				t.Errorf("%s: a pod of %s without its security context: got %v, want it refused: the check does not check", name, cluster.RefOf(obj), err)
			}
			r.warnings.take()
		}
		if admitted != want {
			t.Errorf("%s: %d pods were admitted, want %d", name, admitted, want)
		}
	}
}

// What the API server makes of an object is what was meant: defaults and spellings of its own would be a change at every rerun.
func TestRealASecondApplyChangesNothing(t *testing.T) {
	for name, p := range goldens() {
		t.Run(name, func(t *testing.T) {
			r := openReal(t)
			p.Namespace = r.namespace
			objs := without(renderAll(t, p), "Namespace", "ServiceMonitor")
			for _, want := range []string{cluster.Created, cluster.Unchanged} {
				done, err := r.cluster.Apply(t.Context(), objs, false)
				if err != nil {
					t.Fatal(err)
				}
				for _, change := range done {
					if change.Action != want {
						t.Errorf("%s is %s, want it %s", change.Ref, change.Action, want)
					}
				}
			}
		})
	}
}
