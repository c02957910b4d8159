package trackingserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestFilesOfTheGuideBecomeParameters(t *testing.T) {
	for name, c := range map[string]struct {
		said  Parameters
		files []string
		want  Parameters
		notes []string
	}{
		"config.env": {
			files: []string{"DEFAULT_ARTIFACT_ROOT=gs://team-mlflow\n"},
			want:  Parameters{ArtifactsDestination: "gs://team-mlflow"},
			notes: []string{"DEFAULT_ARTIFACT_ROOT of file0.env becomes --artifacts-destination"},
		},
		"all of the guide's config.env": {
			said:  Parameters{Overlay: "gcp"},
			files: []string{"DEFAULT_ARTIFACT_ROOT=gs://team-mlflow\nDB_USER=mlflow\nDB_NAME=mlflowdb\nDB_DIALECT=postgresql\nDB_HOST=postgres\nDB_PORT=5432\nDB_PASSWORD=\n"},
			want:  Parameters{Overlay: "gcp", ArtifactsDestination: "gs://team-mlflow"},
			notes: []string{
				"DEFAULT_ARTIFACT_ROOT of file0.env becomes --artifacts-destination",
				"DB_NAME of file0.env is left out: overlay gcp has just that", "DB_USER of file0.env is left out: overlay gcp has just that",
				"DB_DIALECT of file0.env is left out: the overlay settles it", "DB_HOST of file0.env is left out: the overlay settles it", "DB_PORT of file0.env is left out: the overlay settles it",
			},
		},
		"as shells and other systems write it": {
			files: []string{"\ufeff# a comment\r\nexport GCP_CLOUDSQL_INSTANCE_NAME=\"team-ml:europe-west1:mlflow\"\r\n\r\n  BACKUP_SCHEDULE = '0 2 * * *'\r\n#GC_SCHEDULE=0 3 * * 0\r\nBACKUP_KEEP=7\r\nBACKUP_KEEP=7"},
			want:  Parameters{CloudSQLInstance: "team-ml:europe-west1:mlflow", BackupSchedule: "0 2 * * *", BackupKeep: "7"},
		},
		"shell variables of the guide": {
			files: []string{"BUCKET_NAME_MLFLOW=team-mlflow\nPROJECT_ID=team-ml\nMLFLOW_SERVICE_ACCOUNT_ID=mlflow\nMLFLOW_CLOUDSQL_SERVICE_ACCOUNT_ID=proxy"},
			want: Parameters{ArtifactsDestination: "gs://team-mlflow", GoogleServiceAccount: "mlflow@team-ml.iam.gserviceaccount.com",
				CloudSQLServiceAccount: "proxy@team-ml.iam.gserviceaccount.com"},
			notes: []string{
				"BUCKET_NAME_MLFLOW of file0.env becomes DEFAULT_ARTIFACT_ROOT=gs://team-mlflow",
				"MLFLOW_SERVICE_ACCOUNT_ID of file0.env becomes MLFLOW_SERVICE_ACCOUNT=mlflow@team-ml.iam.gserviceaccount.com",
				"MLFLOW_CLOUDSQL_SERVICE_ACCOUNT_ID of file0.env becomes MLFLOW_CLOUDSQL_SERVICE_ACCOUNT=proxy@team-ml.iam.gserviceaccount.com",
			},
		},
		"what is said wins, then the later file": {
			said:  Parameters{DatabaseStorage: "1Gi", ArtifactsDestination: "gs://said"},
			files: []string{"POSTGRES_STORAGE_SIZE=2Gi\nBACKUP_KEEP=2\nDEFAULT_ARTIFACT_ROOT=gs://team-mlflow", "BACKUP_KEEP=3\nOVERLAY=gcp"},
			want:  Parameters{Overlay: "gcp", DatabaseStorage: "1Gi", BackupKeep: "3", ArtifactsDestination: "gs://said"},
		},
		"nothing": {said: Parameters{BasicAuth: "true"}, want: Parameters{BasicAuth: "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			var files []EnvFile
			for i, text := range c.files {
				files = append(files, EnvFile{Name: "/some/where/file" + string(rune('0'+i)) + ".env", Text: text})
			}
			got, notes, err := c.said.WithFiles(files...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.notes, notes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFilesAreRefusedByLine(t *testing.T) {
	for text, want := range map[string]struct{ line, says string }{
		"\nBACKUP_KEP=3":                                         {"line 2", "BACKUP_KEEP"},
		"DB_PASSWORD=hunter2":                                    {"line 1", "--database-password-file"},
		"export DB_PASSWORD='hunter2'":                           {"line 1", "--database-secret"},
		"MLFLOW_AUTH_ADMIN_PASSWORD=hunter2":                     {"line 1", "there is no key"},
		"A_PASSWORD=hunter2\nA_PASSWORD=hunter2x":                {"line 2", "another value in line 1"},
		"BACKUP_KEEP=3\n# again\nBACKUP_KEEP=4":                  {"line 3", "line 1"},
		"BACKUP_KEEP=\"3":                                        {"line 1", "quote"},
		"BACKUP_KEEP=3'":                                         {"line 1", "quote"},
		"BACKUP_KEEP":                                            {"line 1", "KEY=VALUE"},
		"apiVersion: v1":                                         {"line 1", "KEY=VALUE"},
		"DEFAULT_ARTIFACT_ROOT=gs://<BUCKET>":                    {"line 1", "gs://BUCKET"},
		"GCP_CLOUDSQL_INSTANCE_NAME=team-ml.europe-west1.mlflow": {"line 1", "team-ml:europe-west1:mlflow"},
		"DB_DIALECT=mysql+mysqldb":                               {"line 1", "postgresql"},
		"OVERLAY=gke":                                            {"line 1", "gcp-cloudsql"},
		"MLFLOW_SERVICE_ACCOUNT_ID=mlflow":                       {"line 1", "PROJECT_ID"},
		"BASIC_AUTH=yes":                                         {"line 1", "true, false"},
	} {
		_, _, err := Parameters{}.WithFiles(EnvFile{Name: "params.env", Text: text})
		failed, ok := errors.AsType[*failure.Error](err)
		if !ok || failed.Class != failure.Invalid || failed.Object != "params.env, "+want.line || !strings.Contains(failed.Message+failed.Hint, want.says) {
			t.Errorf("%q: got %+v, want Invalid, %s, %s", text, failed, want.line, want.says)
			continue
		}
		if strings.Contains(failed.Error()+failed.Hint, "hunter2") {
			t.Errorf("%q: %v shows a secret", text, err)
		}
	}
}

// The manifests' own parameter files, filled in, are files that install takes.
func TestFilesOfTheManifestsAreTaken(t *testing.T) {
	params, err := os.ReadFile(filepath.Join("../../manifests/overlays/gcp-cloudsql/params.env"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(params), "PROJECT_ID:REGION:CLOUDSQL_INSTANCE_NAME", "team-ml:europe-west1:mlflow")
	p, _, err := Parameters{}.WithFiles(EnvFile{Name: "params.env", Text: text})
	if err != nil || p.CloudSQLInstance != "team-ml:europe-west1:mlflow" {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestReadKustomization(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("secret.txt", "hunter2")
	write("mine/kustomization.yaml", "patches:\n- path: more.yaml\nconfigMapGenerator:\n- name: mlflow-config\n  behavior: merge\n  literals: [MLFLOW_HTTP_REQUEST_TIMEOUT=60]\nresources: [extra]\n")
	write("mine/more.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: mlflow, annotations: {team.example.com/owner: ml}}\n")
	write("mine/extra/kustomization.yaml", "resources: [map.yaml]\n")
	write("mine/extra/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndata: {a: b}\n")
	write("mine/unrelated.bin", string([]byte{0xff, 0xfe}))
	files, err := ReadKustomization(filepath.Join(dir, "mine"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 4 {
		t.Errorf("read %v, want what the kustomization names", files)
	}
	objs := map[string]map[string]any{}
	for _, obj := range renderAll(t, Parameters{Kustomization: decodeKustomization(encodeKustomization(files)), Namespace: "ml"}) {
		objs[obj.GetKind()+"/"+obj.GetName()] = obj.Object
		if obj.GetKind() == "Deployment" && obj.GetAnnotations()["team.example.com/owner"] != "ml" {
			t.Error("the patch is not in the Deployment")
		}
		if strings.HasPrefix(obj.GetName(), "mlflow-config-") && obj.Object["data"].(map[string]any)["MLFLOW_HTTP_REQUEST_TIMEOUT"] != "60" {
			t.Error("the variable is not in the ConfigMap")
		}
		if obj.GetName() == "extra" && (obj.GetNamespace() != "ml" || obj.GetLabels()["app.kubernetes.io/managed-by"] == "") {
			t.Errorf("the object of one's own is %v", obj.Object)
		}
	}
	if objs["ConfigMap/extra"] == nil {
		t.Error("the object of one's own is missing")
	}

	if err := os.Symlink("../../secret.txt", filepath.Join(dir, "mine/extra/linked.yaml")); err != nil {
		t.Fatal(err)
	}
	write("mine/extra/kustomization.yaml", "resources: [linked.yaml]\n")
	if files, err := ReadKustomization(filepath.Join(dir, "mine")); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("a symlink out of the directory gave %v, %v", files, err)
	}
	if _, err := ReadKustomization(filepath.Join(dir, "nowhere")); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("no directory gave %v", err)
	}
}

func TestASecretOfTheUsersIsNotRendered(t *testing.T) {
	for _, files := range []map[string]string{
		{"kustomization.yaml": "secretGenerator:\n- name: mine\n  literals: [A=hunter2]\n"},
		{"kustomization.yaml": "resources: [s.yaml]\n", "s.yaml": "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: mine}, stringData: {A: hunter2}}\n"},
	} {
		_, err := renderOf(Parameters{Kustomization: files})
		if failed, ok := errors.AsType[*failure.Error](err); !ok || failed.Reason != "SecretInKustomization" || strings.Contains(failed.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	}
}
