package trackingserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// generic is a journal without the hashes in names, and without the saves between.
func generic(journal []string) []string {
	var entries []string
	for _, entry := range journal {
		if entry == "save record" {
			continue
		}
		for _, hashed := range []string{"configmap/mlflow-config", "configmap/mlflow-schema", "job.batch/mlflow-migration"} {
			if before, _, ok := strings.Cut(entry, hashed+"-"); ok {
				entry = before + hashed
			}
		}
		entries = append(entries, entry)
	}
	return entries
}

func TestInstallGoesStageByStage(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{})
	var order []string
	for _, entry := range generic(w.journal) {
		if !strings.HasPrefix(entry, "dry run") {
			order = append(order, entry)
		}
	}
	want := []string{
		"create namespace/mlflow",
		"create secret/mlflow-secret",
		"apply serviceaccount/mlflow",
		"apply configmap/mlflow-config",
		"apply configmap/mlflow-schema",
		"apply service/postgres",
		"apply persistentvolumeclaim/postgres-data",
		"apply statefulset.apps/postgres",
		"apply job.batch/mlflow-migration", // which waits for the database as well
		"wait for statefulset.apps/postgres",
		"apply service/mlflow",
		"apply persistentvolumeclaim/mlflow-artifacts",
		"apply deployment.apps/mlflow", // whose pods wait for the schema
		"wait for job.batch/mlflow-migration",
		"wait for deployment.apps/mlflow",
		"ask MLflow",
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
}

func TestInstallKnowsAllBeforeItWritesAnything(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{})
	journal := generic(w.journal)
	last := -1
	for i, entry := range journal {
		if strings.HasPrefix(entry, "dry run") {
			last = i
		}
	}
	for _, entry := range journal[:last] {
		if !strings.HasPrefix(entry, "dry run") && entry != "create namespace/mlflow" {
			t.Errorf("%q comes before the end of the dry run", entry)
		}
	}
	if w.journal[last+1] != "save record" {
		t.Errorf("after the dry run comes %q, want the record", w.journal[last+1])
	}
}

func TestInstallRecordsWhatItMade(t *testing.T) {
	w := newWorld()
	done := w.install(t, Parameters{DatabaseStorage: "50Gi"})
	record := w.record["mlflow"]
	if record.Overlay != "local" || record.Image != "ghcr.io/mlflow/mlflow:v3.17.2-full" {
		t.Errorf("overlay %q, image %q", record.Overlay, record.Image)
	}
	if record.HTTP != (cluster.ServicePort{Namespace: "mlflow", Service: "mlflow", Port: "http"}) {
		t.Errorf("MLflow is at %v", record.HTTP)
	}
	if diff := cmp.Diff(map[string]string{"POSTGRES_STORAGE_SIZE": "50Gi"}, record.Parameters); diff != "" {
		t.Error(diff)
	}
	if len(done) != len(record.Inventory.Items) || len(done) != len(w.objects) {
		t.Errorf("%d changes, %d items in the inventory, %d objects", len(done), len(record.Inventory.Items), len(w.objects))
	}
	for _, item := range record.Inventory.Items {
		if item.UID == "" || item.UID != w.objects[item.Ref].GetUID() {
			t.Errorf("%s is recorded with UID %q", item.Ref, item.UID)
		}
	}
}

func TestInstallAgainWritesNothing(t *testing.T) {
	w := newWorld()
	p := Parameters{DatabaseStorage: "50Gi", StorageClass: "fast"}
	w.install(t, p)
	for _, again := range []Parameters{p, {}} { // what is not said is as before
		w.journal = nil
		for _, change := range w.install(t, again) {
			if change.Action != Unchanged {
				t.Errorf("%s %s", change.Object(), change.Action)
			}
		}
		if wrote := w.wrote(); len(wrote) > 0 {
			t.Errorf("wrote %v", wrote)
		}
		if !slices.Contains(w.journal, "ask MLflow") {
			t.Error("a rerun did not look whether MLflow answers")
		}
	}
}

func TestInstallChangesWhatIsAskedFor(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{})
	w.jobsAreComplete()
	before := w.record["mlflow"].Inventory.Items
	w.journal = nil
	w.install(t, Parameters{Image: "registry.example.com:5000/mlflow:v3.17.2-full"})
	want := []string{"apply job.batch/mlflow-migration", "apply deployment.apps/mlflow", "delete job.batch/mlflow-migration"}
	if diff := cmp.Diff(want, generic(w.wrote())); diff != "" {
		t.Error(diff)
	}
	record := w.record["mlflow"]
	if record.Image != "registry.example.com:5000/mlflow:v3.17.2-full" {
		t.Errorf("image is recorded as %q", record.Image)
	}
	if len(record.Inventory.Items) != len(before) {
		t.Errorf("%d items in the inventory, were %d", len(record.Inventory.Items), len(before))
	}
}

// A kill anywhere, and a rerun, end in the same objects with the same password, all of them recorded.
func TestInstallConvergesAfterAKillAnywhere(t *testing.T) {
	begin := func(*testing.T) *world { return newWorld() }
	run := func(ctx context.Context, w *world) error {
		_, err := w.client().Install(ctx, Parameters{}, Options{})
		return err
	}
	killedAnywhere(t, begin, run, func(t *testing.T, w, whole *world) {
		password := w.objects[core("Secret", "mlflow", secretName)]
		w.install(t, Parameters{})
		if password != nil && text(password) != text(w.objects[core("Secret", "mlflow", secretName)]) {
			t.Error("the Secret was changed")
		}
		if len(w.objects) != len(whole.objects) {
			t.Errorf("%d objects, want %d", len(w.objects), len(whole.objects))
		}
		for _, item := range w.record["mlflow"].Inventory.Items {
			if live := w.objects[item.Ref]; live == nil || live.GetUID() != item.UID {
				t.Errorf("%s is recorded with UID %q", item.Ref, item.UID)
			}
		}
		if items := w.record["mlflow"].Inventory.Items; len(items) != len(w.objects) {
			t.Errorf("%d items in the inventory, %d objects", len(items), len(w.objects))
		}
		w.serves(t)
	})
}

func TestInstallRefusesAndChangesNothing(t *testing.T) {
	forbidden := &failure.Error{Class: failure.Forbidden, Reason: "Forbidden", Message: "you may not"}
	for _, c := range []struct {
		name  string
		given func(*testing.T, *world)
		p     Parameters
		class failure.Class
		says  string
	}{
		{"bad size", nil, Parameters{DatabaseStorage: "ten"}, failure.Invalid, "--database-storage"},
		{"unknown overlay", nil, Parameters{Overlay: "aws"}, failure.Invalid, `"aws"`},
		{"another overlay", func(t *testing.T, w *world) {
			w.install(t, Parameters{})
			record := w.record["mlflow"]
			record.Overlay = "gcp"
			w.record["mlflow"] = record
		}, Parameters{Overlay: "local"}, failure.Refused, `"gcp"`},
		{"another version", func(t *testing.T, w *world) {
			w.install(t, Parameters{})
		}, Parameters{Image: "ghcr.io/mlflow/mlflow:v3.18.0-full"}, failure.Refused, "v3.17.2-full"},
		{"data without its Secret", func(t *testing.T, w *world) {
			w.install(t, Parameters{})
			delete(w.objects, core("Secret", "mlflow", secretName))
		}, Parameters{}, failure.Refused, "postgres-data"},
		{"a Secret without its keys", func(_ *testing.T, w *world) {
			w.put(namespaceNamed("mlflow"), "")
			secret := &unstructured.Unstructured{Object: map[string]any{"stringData": map[string]any{"DB_PASSWORD": "x"}}}
			secret.SetGroupVersionKind(core("Secret", "", "").GroupVersionKind)
			secret.SetNamespace("mlflow")
			secret.SetName(secretName)
			w.put(secret, "")
		}, Parameters{}, failure.Refused, "MLFLOW_CRYPTO_KEK_PASSPHRASE"},
		{"may not read Secrets", func(_ *testing.T, w *world) {
			w.refuse = func(_ string, r cluster.Ref) error {
				if r.Kind == "Secret" {
					return forbidden
				}
				return nil
			}
		}, Parameters{}, failure.Forbidden, "may not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			if c.given != nil {
				c.given(t, w)
			}
			w.journal = nil
			done, err := w.client().Install(t.Context(), c.p, Options{})
			if failure.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.class, c.says)
			}
			if len(w.journal) > 0 || len(done) > 0 {
				t.Errorf("did %v, returned %v", w.journal, done)
			}
		})
	}
}

func namespaceNamed(name string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(core("Namespace", "", "").GroupVersionKind)
	obj.SetName(name)
	return obj
}

func TestInstallTakesItsNamespaceBackWhenTheDryRunFails(t *testing.T) {
	w := newWorld()
	conflict := &failure.Error{Class: failure.Refused, Reason: "Conflict", Message: "not yours"}
	w.refuse = func(verb string, r cluster.Ref) error {
		if verb == "dry run" && r.Kind == "Deployment" {
			return conflict
		}
		return nil
	}
	done, err := w.client().Install(t.Context(), Parameters{}, Options{})
	if !errors.Is(err, error(conflict)) {
		t.Errorf("got %v", err)
	}
	if len(w.objects) > 0 || len(w.record) > 0 || len(done) > 0 {
		t.Errorf("left %v, records %v, changes %v", w.objects, w.record, done)
	}
}

func TestInstallLeavesANamespaceThatIsThereAsItIs(t *testing.T) {
	w := newWorld()
	w.put(namespaceNamed("team"), "theirs")
	w.install(t, Parameters{Namespace: "team"})
	if slices.Contains(w.journal, "create namespace/team") {
		t.Error("the namespace was written")
	}
	for _, item := range w.record["team"].Inventory.Items {
		if item.Kind == "Namespace" {
			t.Error("the namespace is in the inventory")
		}
	}
}

func TestInstallRunsAFailedMigrationAgain(t *testing.T) {
	w := newWorld()
	failing := &failure.Error{Class: failure.Diagnosed, Reason: "JobFailed", Message: "the migration failed"}
	w.notReady = func(r cluster.Ref) error {
		if r.Kind != "Job" {
			return nil
		}
		w.objects[r].Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Failed", "status": "True"}}}
		return failing
	}
	done, err := w.client().Install(t.Context(), Parameters{}, Options{})
	if !errors.Is(err, error(failing)) {
		t.Fatalf("got %v", err)
	}
	if !slices.ContainsFunc(done, func(c Change) bool { return c.Kind == "Job" }) {
		t.Errorf("the Job is not among the changes: %v", done)
	}
	if did := generic(w.journal); slices.ContainsFunc(did, func(entry string) bool { return entry == "ask MLflow" || entry == "wait for deployment.apps/mlflow" }) {
		t.Errorf("it went on after the migration: %v", did)
	}
	w.notReady, w.journal = nil, nil
	w.install(t, Parameters{})
	if wrote := generic(w.wrote()); !slices.Contains(wrote, "delete job.batch/mlflow-migration") || !slices.Contains(wrote, "apply job.batch/mlflow-migration") {
		t.Errorf("wrote %v", wrote)
	}
}

// What ails the migration is told while the database is awaited, and the server's while the migration is.
func TestInstallTellsOfWhatIsUnderWayBeside(t *testing.T) {
	for ailing, unasked := range map[string]string{"Job": "apply deployment.apps/mlflow", "Deployment": "wait for deployment.apps/mlflow"} {
		t.Run(ailing, func(t *testing.T) {
			w := newWorld()
			ill := &failure.Error{Class: failure.Diagnosed, Reason: "ImageNotFound", Message: "manifest unknown"}
			w.notReady = func(r cluster.Ref) error {
				if r.Kind == ailing {
					return ill
				}
				return nil
			}
			if _, err := w.client().Install(t.Context(), Parameters{}, Options{}); !errors.Is(err, error(ill)) {
				t.Fatalf("got %v", err)
			}
			if did := generic(w.journal); slices.Contains(did, unasked) {
				t.Errorf("it was told only after %q: %v", unasked, did)
			}
		})
	}
}

func TestInstallRecordsTheSchemasHead(t *testing.T) {
	w := newWorld()
	w.pods = map[string]pod{"mlflow-migration": {message: "dc11669786a5"}}
	w.install(t, Parameters{})
	if got := w.record["mlflow"].Schema; got != "dc11669786a5" {
		t.Errorf("schema is %q", got)
	}
}

func TestNamespaceIsTheFlagsThenTheRecordsThenTheDefault(t *testing.T) {
	for _, c := range []struct {
		name     string
		context  string
		explicit bool
		recorded string
		want     string
	}{
		{"flag", "team", true, "", "team"},
		{"context with an installation", "team", false, "team", "team"},
		{"context without one", "team", false, "", "mlflow"},
		{"installation elsewhere", "team", false, "mlflow", "mlflow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			if c.recorded != "" {
				w.install(t, Parameters{Namespace: c.recorded})
			}
			w.namespace, w.explicit = c.context, c.explicit
			got, record, err := w.client().place(context.Background())
			if err != nil || got != c.want || (record != nil) != (c.recorded == c.want) {
				t.Errorf("got %s, record %v, %v", got, record, err)
			}
		})
	}
}
