package trackingserver

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func (w *world) status(t *testing.T) Status {
	t.Helper()
	w.journal = nil
	s, err := w.client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(w.journal) > 0 {
		t.Errorf("it did %v", w.journal)
	}
	return s
}

func TestStatus(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{Overlay: CloudSQLOverlay, CloudSQLInstance: "my-project:europe-west1:mlflow", AutoIAMAuthn: yes, DatabaseUser: "mlflow@my-project.iam",
		ArtifactsDestination: "gs://bucket/mlflow", BackupSchedule: "0 2 * * *", IngressHost: "mlflow.example.com", IngressTLSSecret: "tls"})
	account := core("ServiceAccount", "mlflow", "mlflow")
	w.objects[account].SetAnnotations(map[string]string{"iam.gke.io/gcp-service-account": "mlflow@my-project.iam.gserviceaccount.com"})
	w.holder = "upgrade on laptop/1/A"
	w.put(jobThatEnded("mlflow-backup-20260101-020000", "2026-01-01T02:00:09Z"), "")
	w.put(jobThatEnded("mlflow-backup-list-abcdefgh", "2026-01-03T02:00:09Z"), "")
	s := w.status(t)
	if s.Artifacts != "gs://bucket/mlflow" || s.Database != "Cloud SQL my-project:europe-west1:mlflow" || s.MLflow != "v3.17.2-full" || s.Lock != w.holder || s.Underway != "" {
		t.Errorf("%+v", s)
	}
	if diff := cmp.Diff([]string{"https://mlflow.example.com", "http://mlflow.mlflow:5000"}, s.URLs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Identity{{ServiceAccount: "mlflow", Google: "mlflow@my-project.iam.gserviceaccount.com"}}, s.Identities); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&BackupSchedule{Schedule: "0 2 * * *", LastSuccess: time.Date(2026, 1, 1, 2, 0, 9, 0, time.UTC)}, s.Backups); diff != "" {
		t.Error(diff)
	}
}

func jobThatEnded(name, at string) *unstructured.Unstructured {
	job := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"namespace": "mlflow", "name": name},
		"status": map[string]any{"succeeded": int64(1), "completionTime": at},
	}}
	return job
}

func TestStatusOfPodsAndVolumes(t *testing.T) {
	w := withLogs(t)
	w.objects[core("Pod", "mlflow", "postgres-0")].Object["status"] = map[string]any{
		"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}},
		"containerStatuses": []any{map[string]any{"name": "postgres", "restartCount": int64(2)}},
	}
	w.objects[core("Pod", "mlflow", "mlflow-54984d6ff7-x7k2p")].Object["status"] = map[string]any{
		"phase": "Pending", "containerStatuses": []any{map[string]any{"name": "mlflow", "state": map[string]any{"waiting": map[string]any{"reason": "InvalidImageName", "message": "no image"}}}},
	}
	delete(w.objects, core("PersistentVolumeClaim", "mlflow", "postgres-data"))
	s := w.status(t)
	want := []PodStatus{
		{Name: "postgres-0", Component: database, Phase: "Running", Ready: true, Restarts: 2},
		{Name: "mlflow-54984d6ff7-x7k2p", Component: server, Phase: "Pending", Problem: "container mlflow: no image"},
	}
	if diff := cmp.Diff(want, s.Pods); diff != "" {
		t.Error(diff)
	}
	volumes := map[string]string{}
	for _, v := range s.Volumes {
		volumes[v.Name] = v.Phase + v.Size
	}
	if diff := cmp.Diff(map[string]string{"postgres-data": "missing", "mlflow-artifacts": "20Gi"}, volumes); diff != "" {
		t.Error(diff)
	}
}

func TestStatusOfWhatIsUnderway(t *testing.T) {
	for says, change := range map[string]func(*testing.T, *world){
		"":                   func(*testing.T, *world) {},
		"an upgrade stopped": func(_ *testing.T, w *world) { r := w.record["mlflow"]; r.Replicas = 1; w.record["mlflow"] = r },
		"a restore of " + first: func(_ *testing.T, w *world) {
			r := w.record["mlflow"]
			r.Replicas, r.Restoring = 1, first
			w.record["mlflow"] = r
		},
		"uninstalled": func(t *testing.T, w *world) { w.uninstall(t, false) },
	} {
		w := newWorld()
		w.install(t, Parameters{})
		change(t, w)
		s := w.status(t)
		if !strings.HasPrefix(s.Underway, says) || says == "" && s.Underway != "" {
			t.Errorf("underway is %q, want %q", s.Underway, says)
		}
		if len(s.URLs) == 0 != (says == "uninstalled") {
			t.Errorf("%q: URLs are %v", says, s.URLs)
		}
	}
}

func TestStatusOfWhatMayNotBeRead(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{})
	w.refuse = func(verb string, r cluster.Ref) error {
		if verb == "get" && r.Kind == "PersistentVolumeClaim" {
			return &failure.Error{Class: failure.Forbidden, Message: "you may not get claims"}
		}
		return nil
	}
	if s := w.status(t); len(s.Unknown) != 1 || s.Unknown[0] != "volumes: you may not get claims" || s.Image == "" {
		t.Errorf("%+v", s)
	}
	if _, err := newWorld().client().Status(t.Context()); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("where nothing is installed: %v", err)
	}
}
