package status

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

type server struct {
	status trackingserver.Status
	err    error
}

func (s server) Status(context.Context) (trackingserver.Status, error) { return s.status, s.err }

type models struct {
	found []deployments.Deployment
	err   error
}

func (m models) List(context.Context, string) ([]deployments.Deployment, error) {
	return m.found, m.err
}

func now() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) }

func full() trackingserver.Status {
	return trackingserver.Status{
		Namespace: "mlflow", Overlay: "gcp", Image: "ghcr.io/mlflow/mlflow:v3.17.2-full", MLflow: "v3.17.2-full", Schema: "76601a5f987d",
		Underway: "an upgrade stopped the server", Lock: "upgrade on laptop/1/A", Artifacts: "gs://bucket/mlflow", Database: "postgres in the cluster",
		Pods: []trackingserver.PodStatus{
			{Name: "postgres-0", Component: "database", Phase: "Running", Ready: true, Started: now().Add(-time.Hour)},
			{Name: "mlflow-1", Component: "server", Phase: "Pending", Restarts: 2, Started: now().Add(-time.Minute), Problem: "container mlflow: \x1b[31mit ended"},
		},
		Volumes:    []trackingserver.VolumeStatus{{Name: "postgres-data", Phase: "Bound", Size: "10Gi", Class: "standard"}},
		Identities: []trackingserver.Identity{{ServiceAccount: "mlflow", Google: "mlflow@p.iam.gserviceaccount.com"}},
		URLs:       []string{"https://mlflow.example.com", "http://mlflow.mlflow:5000"},
		Backups:    &trackingserver.BackupSchedule{Schedule: "manual", LastSuccess: now().Add(-3 * time.Hour)},
	}
}

func run(t *testing.T, s server, m models, output string) (string, error) {
	t.Helper()
	streams, _, out, _ := genericiooptions.NewTestIOStreams()
	o := &Options{Server: s, Models: m, Version: "v1.0.0", Output: output, Now: now(), Forward: "kubectl mlflow port-forward", Streams: streams}
	err := o.Run(t.Context())
	return out.String(), err
}

func TestTheScreen(t *testing.T) {
	got, err := run(t, server{status: full()}, models{found: []deployments.Deployment{{Namespace: "a", Name: "iris", ModelURI: "models:/iris/1", Ready: true, URL: "http://iris.a"}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	want := `MLflow      v3.17.2-full in namespace mlflow, overlay gcp
Image       ghcr.io/mlflow/mlflow:v3.17.2-full
Schema      76601a5f987d
Plugin      v1.0.0
Database    postgres in the cluster
Artifacts   gs://bucket/mlflow
Identities  mlflow is mlflow@p.iam.gserviceaccount.com
Backups     manual; the last one 3h ago
URLs        https://mlflow.example.com
            http://mlflow.mlflow:5000
            kubectl mlflow port-forward
Underway    an upgrade stopped the server
At work     upgrade on laptop/1/A

POD          COMPONENT   STATE     RESTARTS   AGE   PROBLEM
postgres-0   database    Ready     0          60m   <none>
mlflow-1     server      Pending   2          60s   container mlflow: \x1b[31mit ended

VOLUME          STATE   SIZE   CLASS
postgres-data   Bound   10Gi   standard

NAMESPACE   DEPLOYMENT   MODEL            READY   URL
a           iris         models:/iris/1   True    http://iris.a
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheDocument(t *testing.T) {
	out, err := run(t, server{status: trackingserver.Status{Namespace: "mlflow", Pods: []trackingserver.PodStatus{}, Volumes: []trackingserver.VolumeStatus{}, URLs: []string{}}}, models{}, "json")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"apiVersion": "mlflow.kubectl/v1alpha1", "kind": "Status", "plugin": "v1.0.0", "namespace": "mlflow", "overlay": "", "image": "",
		"pods": []any{}, "volumes": []any{}, "artifacts": "", "database": "", "urls": []any{}, "deployments": []any{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatCannotBeReadIsSaid(t *testing.T) {
	forbidden := &failure.Error{Class: failure.Forbidden, Message: "you may not list services"}
	out, err := run(t, server{status: full()}, models{err: forbidden}, "")
	if err != nil || !strings.Contains(out, "Unknown     deployments: you may not list services\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := run(t, server{status: full()}, models{err: &failure.Error{Class: failure.Diagnosed, Reason: "KnativeMissing"}}, ""); err != nil {
		t.Errorf("without Knative: %v", err)
	}
	gone := errors.New("gone")
	if _, err := run(t, server{err: gone}, models{}, ""); !errors.Is(err, gone) {
		t.Errorf("without MLflow: %v", err)
	}
	if _, err := run(t, server{}, models{err: gone}, ""); !errors.Is(err, gone) {
		t.Errorf("a list that breaks: %v", err)
	}
}
