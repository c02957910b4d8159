package trackingserver

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

func TestValidate(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		p    Parameters
		flag string // that is at fault, "" for none
	}{
		{Parameters{}, ""},
		{Parameters{Namespace: "ml-prod"}, ""},
		{Parameters{Namespace: "ML"}, "--namespace"},
		{Parameters{Namespace: "a/b"}, "--namespace"},
		{Parameters{Image: "mlflow"}, ""},
		{Parameters{Image: "localhost:5001/ghcr.io/mlflow/mlflow:v3.17.2-full"}, ""},
		{Parameters{Image: "10.0.0.1:5001/mlflow" + digest}, ""},
		{Parameters{Image: "registry.example.com/team/mlflow:v3" + digest}, ""},
		{Parameters{Image: "https://registry.example.com/mlflow"}, "--image"},
		{Parameters{Image: "registry.example.com/MLflow:v3"}, "--image"},
		{Parameters{Image: "mlflow:"}, "--image"},
		{Parameters{Image: "mlflow@sha256:12"}, "--image"},
		{Parameters{Image: "mlflow:v3\nimage: other"}, "--image"},
		{Parameters{StorageClass: "premium-rwo"}, ""},
		{Parameters{StorageClass: "Premium RWO"}, "--storage-class"},
		{Parameters{DatabaseStorage: "512Mi"}, ""},
		{Parameters{DatabaseStorage: "0"}, "--database-storage"},
		{Parameters{DatabaseStorage: "-1Gi"}, "--database-storage"},
		{Parameters{DatabaseStorage: "10GB"}, "--database-storage"},
		{Parameters{ArtifactsStorage: "1.5Ti"}, ""},
		{Parameters{ArtifactsStorage: "lots"}, "--artifacts-storage"},
		{Parameters{ImageRegistry: "registry.example.com:5000/mirror"}, ""},
		{Parameters{ImageRegistry: "https://registry.example.com"}, "--image-registry"},
		{Parameters{ImagePullSecret: "none"}, ""},
		{Parameters{ImagePullSecret: "My Secret"}, "--image-pull-secret"},
		{Parameters{Overlay: "gcp", ArtifactsDestination: "gs://team-mlflow/a/b"}, ""},
		{Parameters{ArtifactsDestination: "gs://BUCKET_NAME_MLFLOW"}, "--artifacts-destination"},
		{Parameters{ArtifactsDestination: "team-mlflow"}, "--artifacts-destination"},
		{Parameters{ArtifactsDestination: "gs://team-mlflow/$(DB_PASSWORD)"}, "--artifacts-destination"},
		{Parameters{ArtifactsDestination: "none"}, "--artifacts-destination"},
		{Parameters{Overlay: "local", ArtifactsDestination: "gs://team-mlflow"}, "--artifacts-destination"},
		{Parameters{DefaultArtifactRoot: "s3://team-mlflow"}, ""},
		{Parameters{DefaultArtifactRoot: "file:///tmp"}, "--default-artifact-root"},
		{Parameters{CloudSQLInstance: "team-ml:europe-west1:mlflow"}, ""},
		{Parameters{CloudSQLInstance: "example.com:team-ml:europe-west1:mlflow"}, ""},
		{Parameters{CloudSQLInstance: "team-ml.europe-west1.mlflow"}, "--cloudsql-instance"},
		{Parameters{CloudSQLInstance: "PROJECT_ID:REGION:CLOUDSQL_INSTANCE_NAME"}, "--cloudsql-instance"},
		{Parameters{Overlay: "gcp", CloudSQLInstance: "team-ml:europe-west1:mlflow"}, "--cloudsql-instance"},
		{Parameters{Overlay: "gcp-cloudsql", DatabaseStorage: "10Gi"}, "--database-storage"},
		{Parameters{CloudSQLProxy: "pod"}, "--cloudsql-proxy"},
		{Parameters{PrivateIP: "yes"}, "--private-ip"},
		{Parameters{PrivateIP: "true", PSC: "true"}, "--psc"},
		{Parameters{CloudSQLProxy: "sidecar", CloudSQLServiceAccount: "a@b.iam.gserviceaccount.com"}, "--cloudsql-service-account"},
		{Parameters{CloudSQLProxy: "sidecar", CloudSQLKeySecret: "key"}, "--cloudsql-key-secret"},
		{Parameters{CloudSQLProxy: "sidecar", CloudSQLServiceAccount: "none"}, ""},
		{Parameters{DatabaseUser: "mlflow@team-ml.iam"}, ""},
		{Parameters{DatabaseUser: "mlflow%40team-ml.iam"}, "--database-user"},
		{Parameters{DatabaseUser: "mlflow@team-ml.iam.gserviceaccount.com"}, "--database-user"},
		{Parameters{DatabaseName: "mlflow db"}, "--database-name"},
		{Parameters{GoogleServiceAccount: "mlflow"}, "--google-service-account"},
		{Parameters{BasicAuth: "on"}, "--basic-auth"},
		{Parameters{IngressHost: "https://mlflow.example.com"}, "--ingress-host"},
		{Parameters{AllowedHosts: "mlflow.example.com,mlflow.example.com:8443,*.corp,[::1]:5000"}, ""},
		{Parameters{AllowedHosts: "mlflow.example.com, other"}, "--allowed-hosts"},
		{Parameters{CORSAllowedOrigins: "https://mlflow.example.com,*"}, ""},
		{Parameters{CORSAllowedOrigins: "https://mlflow.example.com/"}, "--cors-allowed-origins"},
		{Parameters{GCSchedule: "0 3 * * 0"}, ""},
		{Parameters{GCSchedule: "@weekly"}, ""},
		{Parameters{GCSchedule: "every night"}, "--gc-schedule"},
		{Parameters{GCSchedule: "manual"}, "--gc-schedule"},
		{Parameters{GCOlderThan: "1d12h"}, ""},
		{Parameters{GCOlderThan: "30"}, "--gc-older-than"},
		{Parameters{BackupSchedule: "manual"}, ""},
		{Parameters{BackupSchedule: "nightly"}, "--backup-schedule"},
		{Parameters{BackupDestination: "/backups"}, "--backup-destination"},
		{Parameters{BackupKeep: "0"}, "--backup-keep"},
		{Parameters{Requests: "cpu=500m,memory=1Gi"}, ""},
		{Parameters{Requests: "cpu=500m,cpu=1"}, "--requests"},
		{Parameters{Limits: "gpu=1"}, "--limits"},
	} {
		err := c.p.Validate()
		if c.flag == "" {
			if err != nil {
				t.Errorf("%+v: %v", c.p, err)
			}
			continue
		}
		var failed *failure.Error
		if !errors.As(err, &failed) {
			t.Errorf("%+v: got %v, want %s to be at fault", c.p, err, c.flag)
			continue
		}
		if failed.Class != failure.Invalid || !strings.Contains(failed.Message, c.flag) || failed.Hint == "" {
			t.Errorf("%+v: got %+v, want Invalid, %s, and a hint", c.p, failed, c.flag)
		}
	}
}

// Every field but the two that say where is in the record, from the table but for the files, under a flag and a key of its own, and comes back from the record.
func TestTableHoldsEveryField(t *testing.T) {
	var p Parameters
	fields := reflect.ValueOf(&p).Elem()
	for i := range fields.NumField() {
		if name := fields.Type().Field(i).Name; name != "Overlay" && name != "Namespace" && name != "Kustomization" {
			fields.Field(i).SetString("value of " + name)
		}
	}
	p.Kustomization = map[string]string{"kustomization.yaml": "kind: Component"}
	recorded := p.record()
	if len(recorded) != fields.NumField()-2 {
		t.Errorf("%d fields, %d in the record: %v", fields.NumField()-2, len(recorded), recorded)
	}
	if diff := cmp.Diff(p, Parameters{}.over(recorded)); diff != "" {
		t.Error(diff)
	}
	flags := map[string]bool{}
	for _, row := range p.table() {
		flags[row.flag] = true
	}
	if len(flags) != len(p.table()) {
		t.Errorf("flags are %v", flags)
	}
}

func TestOverKeepsWhatIsSaid(t *testing.T) {
	got := Parameters{DatabaseStorage: "20Gi"}.over(map[string]string{"POSTGRES_STORAGE_SIZE": "10Gi", "STORAGE_CLASS": "fast"})
	if diff := cmp.Diff(Parameters{DatabaseStorage: "20Gi", StorageClass: "fast"}, got); diff != "" {
		t.Error(diff)
	}
}

// The guide writes dots, Google wants colons.
func TestADottedInstanceIsAnsweredWithTheRightSpelling(t *testing.T) {
	err := Parameters{CloudSQLInstance: "team-ml.europe-west1.mlflow"}.Validate()
	if failed, ok := errors.AsType[*failure.Error](err); !ok || !strings.HasSuffix(failed.Hint, " team-ml:europe-west1:mlflow") {
		t.Errorf("got %+v, want the right spelling as a hint", failed)
	}
}

func TestRenderSaysWhatIsMissing(t *testing.T) {
	onCloudSQL := Parameters{Overlay: "gcp-cloudsql", ArtifactsDestination: "gs://team-mlflow", CloudSQLInstance: "team-ml:europe-west1:mlflow"}
	with := func(change func(*Parameters)) Parameters {
		p := onCloudSQL
		change(&p)
		return p
	}
	for _, c := range []struct {
		p    Parameters
		flag string
	}{
		{Parameters{Overlay: "gcp"}, "--artifacts-destination"},
		{Parameters{Overlay: "gcp", DefaultArtifactRoot: "gs://team-mlflow"}, ""},
		{Parameters{Overlay: "gcp", DefaultArtifactRoot: "s3://team-mlflow"}, "--default-artifact-root"},
		{Parameters{Overlay: "gcp", DefaultArtifactRoot: "none"}, "--artifacts-destination"},
		{Parameters{CloudSQLInstance: "team-ml:europe-west1:mlflow"}, "--cloudsql-instance"}, // overlay local, unsaid
		{onCloudSQL, ""},
		{with(func(p *Parameters) { p.CloudSQLInstance = "" }), "--cloudsql-instance"},
		{with(func(p *Parameters) { p.AutoIAMAuthn = "true" }), "--database-user"},
		{with(func(p *Parameters) { p.IngressClass = "nginx" }), "--ingress-host"},
		{with(func(p *Parameters) { p.GCOlderThan = "3d" }), "--gc-schedule"},
		{with(func(p *Parameters) { p.BackupKeep = "3" }), "--backup-schedule"},
	} {
		_, err := New(nil, manifests.FS, progress.Discard{}).Render(c.p)
		failed, ok := errors.AsType[*failure.Error](err)
		if c.flag == "" {
			if err != nil {
				t.Errorf("%+v: %v", c.p, err)
			}
		} else if !ok || failed.Class != failure.Invalid || !strings.Contains(failed.Message, c.flag) || failed.Hint == "" {
			t.Errorf("%+v: got %v, want Invalid, %s, and a hint", c.p, err, c.flag)
		}
	}
}

// What takes a thing away takes its details from the record along; what is not said is not taken away.
func TestNoneTakesAwayWithDetails(t *testing.T) {
	installed := Parameters{IngressHost: "mlflow.example.com", IngressClass: "nginx", BasicAuth: "true", StorageClass: "fast"}
	recorded := installed.record()
	again := Parameters{IngressHost: "none", BasicAuth: "false"}.over(recorded)
	if diff := cmp.Diff(map[string]string{"STORAGE_CLASS": "fast"}, again.record()); diff != "" {
		t.Error(diff)
	}
	if err := again.complete(); err != nil {
		t.Error(err)
	}
}
