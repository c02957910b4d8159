package trackingserver

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

func export(t *testing.T, p Parameters, dir string) string {
	t.Helper()
	overlay, err := New(nil, manifests.FS, progress.Discard{}).Export(p, dir)
	if err != nil {
		t.Fatal(err)
	}
	return overlay
}

// What `kubectl apply -k` makes of an export is what install applies: the order of Argo CD's and Flux's is all that it has besides.
func TestKubectlRendersAnExportAsInstallDoes(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("SKIPPED: there is no kubectl on PATH, so exports were not compared with `kubectl kustomize`")
	}
	all := goldens()
	all["user's"] = Parameters{Kustomization: map[string]string{
		"kustomization.yaml": "patches:\n- path: more.yaml\nresources: [deep/map.yaml]\n",
		"more.yaml":          "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: mlflow, annotations: {team.example.com/owner: ml}}\n",
		"deep/map.yaml":      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndata: {a: b}\n",
	}}
	waves := map[string]string{database: "-2", migration: "-1", server: "0", "backup": "1", "restore": "1", "gc": "1", "": "-3"}
	for name, p := range all {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), kubectl, "kustomize", export(t, p, t.TempDir())).Output()
			if err != nil {
				t.Fatal(err)
			}
			docs := documents(t, out)
			for _, doc := range docs {
				metadata := doc["metadata"].(map[string]any)
				annotations, _ := metadata["annotations"].(map[string]any)
				labels, _ := metadata["labels"].(map[string]any)
				stage, _ := labels[component].(string)
				wave := waves[stage]
				if doc["kind"] == "Ingress" {
					wave = "1"
				}
				if annotations["argocd.argoproj.io/sync-wave"] != wave {
					t.Errorf("%s %s: annotations are %v", doc["kind"], metadata["name"], annotations)
				}
				if hook := annotations["argocd.argoproj.io/hook"]; (hook == "Sync") != (doc["kind"] == "Job") {
					t.Errorf("%s %s: annotations are %v", doc["kind"], metadata["name"], annotations)
				}
				data := doc["kind"] == "PersistentVolumeClaim" || doc["kind"] == "Namespace"
				if (annotations["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false") != data || (annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled") != data {
					t.Errorf("%s %s: annotations are %v", doc["kind"], metadata["name"], annotations)
				}
				for key := range annotations {
					if strings.HasPrefix(key, "argocd.argoproj.io/") || strings.HasPrefix(key, "kustomize.toolkit.fluxcd.io/") {
						delete(annotations, key)
					}
				}
				if len(annotations) == 0 {
					delete(metadata, "annotations")
				}
			}
			want, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
			if err != nil { // this one is not among the golden ones
				want = stream(t, renderAll(t, p))
			}
			if diff := cmp.Diff(docs, documents(t, want)); diff != "" {
				t.Errorf("-kubectl +rendered:\n%s", diff)
			}
		})
	}
}

func TestAnotherExportReplacesTheFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "er")
	export(t, Parameters{BackupSchedule: "manual"}, dir)
	own := filepath.Join(dir, "mine.yaml")
	if err := os.WriteFile(own, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay := export(t, Parameters{Overlay: "gcp", ArtifactsDestination: "gs://team-mlflow"}, dir)
	if overlay != filepath.Join(dir, "overlays", "gcp") {
		t.Errorf("the overlay is in %s", overlay)
	}
	for _, gone := range []string{"overlays/local", "components/backup", "components/artifacts-pvc"} {
		if _, err := os.Stat(filepath.Join(dir, gone)); err == nil {
			t.Errorf("%s is left of the first export", gone)
		}
	}
	if _, err := os.Stat(own); err != nil {
		t.Error(err)
	}
	fresh := t.TempDir()
	export(t, Parameters{Overlay: "gcp", ArtifactsDestination: "gs://team-mlflow"}, fresh)
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(contents(t, fresh), contents(t, dir)); diff != "" {
		t.Errorf("-fresh +replaced:\n%s", diff)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Writing stops at what is not an export's.
func TestExportOverwritesNothingElse(t *testing.T) {
	client := New(nil, manifests.FS, progress.Discard{})
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "README.md"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Export(Parameters{}, foreign); failure.ClassOf(err) != failure.Refused {
		t.Errorf("into a directory with something else: %v", err)
	}
	if diff := cmp.Diff(map[string]string{"README.md": "mine"}, contents(t, foreign)); diff != "" {
		t.Error(diff)
	}

	repository := t.TempDir()
	if err := os.Mkdir(filepath.Join(repository, ".git"), 0o700); err != nil {
		t.Fatal(err)
	}
	export(t, Parameters{}, repository)

	file := filepath.Join(foreign, "README.md")
	if _, err := client.Export(Parameters{}, file); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("into a file: %v", err)
	}

	// A link out of the directory, in place of one of ours.
	outside := t.TempDir()
	if err := os.RemoveAll(filepath.Join(repository, "base")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(repository, "base")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Export(Parameters{}, repository); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("through a link out of the directory: %v", err)
	}
	if left := contents(t, outside); len(left) > 0 {
		t.Errorf("written outside: %v", left)
	}

	// A marker that names files outside of the directory removes none.
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	marked := t.TempDir()
	relative, err := filepath.Rel(marked, victim)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(marked, ".kubectl-mlflow-export"), []byte(relative+"\n"+victim+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	export(t, Parameters{}, marked)
	if _, err := os.Stat(victim); err != nil {
		t.Error(err)
	}
}

// The README says how to make every Secret that the objects read, and no Secret is written.
func TestReadmeNamesTheSecrets(t *testing.T) {
	dir := t.TempDir()
	export(t, Parameters{
		Namespace: "ml-prod", BasicAuth: "true", GoogleKeySecret: "team-key", DatabaseSecret: "team-database", ImagePullSecret: "mirror",
		IngressHost: "mlflow.example.com", IngressTLSSecret: "mlflow-tls",
	}, dir)
	files := contents(t, dir)
	for _, line := range []string{
		"kubectl create secret generic mlflow-auth --namespace ml-prod --from-file=MLFLOW_AUTH_ADMIN_PASSWORD=FILE --from-file=MLFLOW_FLASK_SERVER_SECRET_KEY=FILE\n",
		"kubectl create secret generic mlflow-secret --namespace ml-prod --from-file=MLFLOW_CRYPTO_KEK_PASSPHRASE=FILE\n",
		"kubectl create secret generic team-database --namespace ml-prod --from-file=DB_PASSWORD=FILE\n",
		"kubectl create secret generic team-key --namespace ml-prod --from-file=key.json=FILE\n",
		"kubectl create secret docker-registry mirror --namespace ml-prod --from-file=.dockerconfigjson=FILE\n",
		"kubectl create secret tls mlflow-tls --namespace ml-prod --cert=FILE --key=FILE\n",
		"kubectl apply -k overlays/local\n",
	} {
		if !strings.Contains(files["README.md"], "    "+line) {
			t.Errorf("the README lacks %s", line)
		}
	}
	for name, text := range files {
		if strings.Contains(text, "kind: Secret\n") {
			t.Errorf("%s has a Secret in it", name)
		}
	}
}
