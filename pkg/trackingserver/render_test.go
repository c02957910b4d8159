package trackingserver

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files anew")
	flag.Parse()
	os.Exit(m.Run())
}

func updating() bool { return flag.Lookup("update").Value.String() == "true" }

func renderOf(p Parameters) ([]*unstructured.Unstructured, error) {
	return New(nil, manifests.FS, progress.Discard{}).Render(p)
}

func renderAll(t *testing.T, p Parameters) []*unstructured.Unstructured {
	t.Helper()
	objs, err := renderOf(p)
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

// documents reads a stream of YAML documents.
func documents(t *testing.T, stream []byte) []map[string]any {
	t.Helper()
	var docs []map[string]any
	for _, text := range bytes.Split(stream, []byte("\n---\n")) {
		doc := map[string]any{}
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		docs = append(docs, doc)
	}
	return docs
}

func stream(t *testing.T, objs []*unstructured.Unstructured) []byte {
	t.Helper()
	texts := make([][]byte, 0, len(objs))
	for _, obj := range objs {
		text, err := yaml.Marshal(obj.Object)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return bytes.Join(texts, []byte("---\n"))
}

// goldens are the installs whose renders are kept: all overlays, and every parameter in at least one of them.
func goldens() map[string]Parameters {
	const bucket, instance = "gs://team-mlflow/artifacts", "team-ml:europe-west1:mlflow"
	return map[string]Parameters{
		"local":        {},
		"gcp":          {Overlay: "gcp", ArtifactsDestination: bucket},
		"gcp-cloudsql": {Overlay: "gcp-cloudsql", ArtifactsDestination: "gs://team-mlflow", CloudSQLInstance: instance},
		"gcp-cloudsql-sidecar": {
			Overlay: "gcp-cloudsql", DefaultArtifactRoot: "gs://team-mlflow", CloudSQLInstance: "example.com:team-ml:europe-west1:mlflow", CloudSQLProxy: "sidecar",
			PrivateIP: "true", AutoIAMAuthn: "true", DatabaseUser: "mlflow@team-ml.iam", DatabaseName: "tracking", GoogleServiceAccount: "mlflow@team-ml.iam.gserviceaccount.com",
		},
		"gcp-cloudsql-sidecar-all": {
			Overlay: "gcp-cloudsql", ArtifactsDestination: bucket, CloudSQLInstance: instance, CloudSQLProxy: "sidecar", DatabaseName: "tracking",
			GoogleKeySecret: "mlflow-google-key", BasicAuth: "true", NetworkPolicies: "true", GCSchedule: "@weekly", GCOlderThan: "1d12h",
			BackupSchedule: "30 1 * * *", BackupDestination: "gs://team-mlflow/backups", BackupKeep: "14",
		},
		"gcp-cloudsql-identities": {
			Overlay: "gcp-cloudsql", ArtifactsDestination: "gs://team-mlflow", CloudSQLInstance: instance, PSC: "true",
			GoogleServiceAccount: "mlflow@team-ml.iam.gserviceaccount.com", CloudSQLServiceAccount: "mlflow-cloudsql@team-ml.iam.gserviceaccount.com",
			ImageRegistry: "registry.example.com/mirror", ImagePullSecret: "mirror", CloudSQLProxyImage: "registry.example.com/proxy:2",
			AllowedHosts: "mlflow.corp,mlflow.corp:*", CORSAllowedOrigins: "https://mlflow.corp", Requests: "cpu=1", Limits: "cpu=2,memory=4Gi",
		},
		"gcp-cloudsql-keys": {
			Overlay: "gcp-cloudsql", ArtifactsDestination: bucket, CloudSQLInstance: instance, GoogleKeySecret: "team-key", CloudSQLKeySecret: "proxy-key",
			DatabaseSecret: "team-database", BackupSchedule: "manual", BackupDestination: "gs://team-mlflow/backups", NetworkPolicies: "true",
		},
		"gcp-all": {
			Overlay: "gcp", ArtifactsDestination: bucket, GoogleKeySecret: "mlflow-google-key", DatabaseSecret: "team-database", PostgresImage: "registry.example.com/postgres:17.6",
			BasicAuth: "true", ServiceMonitor: "true", GCSchedule: "0 3 * * 0", BackupSchedule: "0 2 * * *", BackupStorage: "100Gi", StorageClass: "premium-rwo",
			ImageRegistry: "registry.example.com/mirror", ImagePullSecret: "mirror", NetworkPolicies: "true", DatabaseStorage: "50Gi",
		},
		"local-basic-auth": {BasicAuth: "true"},
		"local-ingress":    {IngressHost: "mlflow.example.com", IngressClass: "nginx", IngressTLSSecret: "mlflow-tls", CORSAllowedOrigins: "https://ui.example.com"},
		"local-metrics":    {ServiceMonitor: "true"},
		"local-gc":         {GCSchedule: "0 3 * * 0"},
		"local-backup":     {BackupSchedule: "0 2 * * *"},
		"local-closed":     {NetworkPolicies: "true"},
		"local-all-parameters": {
			Overlay: "local", Namespace: "ml-prod", Image: "registry.example.com:5000/mlflow@sha256:" + strings.Repeat("0123456789abcdef", 4),
			StorageClass: "premium-rwo", DatabaseStorage: "50Gi", ArtifactsStorage: "1Ti",
		},
	}
}

// Golden files hold whole renders: a change of the manifests is seen as what it does. Write them with -update. Whatever is rendered,
// its pods are hardened and have the labels of their kind.
func TestRenderIsAsInTheGoldenFiles(t *testing.T) {
	for name, p := range goldens() {
		t.Run(name, func(t *testing.T) {
			objs := renderAll(t, p)
			for component, pod := range templates(t, objs) {
				hardened(t, component, pod)
				labelled(t, component, pod, p.overlay() != CloudSQLOverlay)
			}
			golden, got := filepath.Join("testdata", name+".yaml"), stream(t, objs)
			if updating() {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(documents(t, want), documents(t, got)); diff != "" {
				t.Errorf("differs from %s (-golden +rendered); write it anew with -update if that is meant:\n%s", golden, diff)
			}
		})
	}
}

// kustomize passes in silence over replacements and patches that meet nothing: what is said has to be found in what is rendered.
func TestEveryParameterIsInAGoldenFile(t *testing.T) {
	seen := map[string]bool{}
	for name, p := range goldens() {
		text, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if placeholder := regexp.MustCompile(`(?m): "?([A-Z]+_)?(STORAGE_SIZE|SCHEDULE|HOST_NAME|KEY_SECRET)"?$|BUCKET_NAME_MLFLOW$|PROJECT_ID|image: mlflow$`).Find(text); placeholder != nil {
			t.Errorf("%s: %q is left of the manifests", name, placeholder)
		}
		for _, row := range p.table() {
			if *row.value == "" {
				continue
			}
			seen[row.flag] = true
			values := []string{*row.value}
			switch row.flag {
			case "--cloudsql-proxy", "--basic-auth", "--service-monitor", "--network-policies": // are components
				continue
			case "--requests", "--limits":
				amounts, err := parseResources(*row.value)
				if err != nil {
					t.Fatal(err)
				}
				values = slices.Collect(maps.Values(amounts))
			case "--database-user":
				values = []string{strings.ReplaceAll(*row.value, "@", "%40")}
			case "--backup-schedule":
				if *row.value == manual {
					values = []string{"suspend: true"}
				}
			}
			for _, value := range values {
				if !strings.Contains(string(text), value) {
					t.Errorf("%s: %s %s is nowhere in it", name, row.flag, *row.value)
				}
			}
		}
	}
	var p Parameters
	for _, row := range p.table() {
		if !seen[row.flag] {
			t.Errorf("%s is in no golden file", row.flag)
		}
	}
}

// kubectl's kustomize and ours read the same tree in the same way. The migration Job alone differs: in its name.
func TestKubectlRendersTheSame(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("SKIPPED: there is no kubectl on PATH, so the manifests were not compared with `kubectl kustomize`")
	}
	overlays, err := manifests.FS.ReadDir("overlays")
	if err != nil {
		t.Fatal(err)
	}
	for _, overlay := range overlays {
		t.Run(overlay.Name(), func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), kubectl, "kustomize", filepath.Join("../../manifests/overlays", overlay.Name())).Output()
			if err != nil {
				t.Fatal(err)
			}
			tree, err := render.Open(manifests.FS, overlay.Name())
			if err != nil {
				t.Fatal(err)
			}
			objs, err := build(tree)
			if err != nil {
				t.Fatal(err)
			}
			for _, obj := range objs {
				if stageOf(obj) == migration {
					obj.SetName("mlflow-migration")
				}
			}
			if diff := cmp.Diff(documents(t, out), documents(t, stream(t, objs))); diff != "" {
				t.Errorf("-kubectl +rendered:\n%s", diff)
			}
		})
	}
}

// templates are the pod templates of a render, by their component.
func templates(t *testing.T, objs []*unstructured.Unstructured) map[string]corev1.PodTemplateSpec {
	t.Helper()
	found := map[string]corev1.PodTemplateSpec{}
	for _, obj := range objs {
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
		var pod corev1.PodTemplateSpec
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(template, &pod, true); err != nil {
			t.Fatalf("%s %s: %v", obj.GetKind(), obj.GetName(), err)
		}
		found[obj.GetLabels()[component]] = pod
	}
	return found
}

// pods are the pod templates of the overlay local.
func pods(t *testing.T, objs []*unstructured.Unstructured) map[string]corev1.PodTemplateSpec {
	t.Helper()
	found := templates(t, objs)
	if len(found) != 3 {
		t.Fatalf("%d workloads, want database, migration and server", len(found))
	}
	return found
}

func hardened(t *testing.T, name string, pod corev1.PodTemplateSpec) {
	t.Helper()
	spec := pod.Spec
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks || spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		t.Errorf("%s: service links or the token of its ServiceAccount are on", name)
	}
	if s := spec.SecurityContext; s == nil || !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: its security context is %v", name, s)
	}
	for _, container := range append(spec.InitContainers, spec.Containers...) {
		s := container.SecurityContext
		if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s, container %s: its security context is %v", name, container.Name, s)
		}
		if container.Resources.Requests.Memory().IsZero() || container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s, container %s: its resources are %v", name, container.Name, container.Resources)
		}
		for _, word := range slices.Concat(container.Command, container.Args) {
			if strings.Contains(word, "PASSWORD") || strings.Contains(word, "_URI") {
				t.Errorf("%s, container %s: %q would put the password where `ps` shows it", name, container.Name, word)
			}
		}
		defined := map[string]bool{}
		for _, variable := range container.Env {
			if strings.Contains(variable.Value, "$(DB_PASSWORD)") && !defined["DB_PASSWORD"] {
				t.Errorf("%s, container %s: %s is made of a variable that comes after it", name, container.Name, variable.Name)
			}
			defined[variable.Name] = true
		}
	}
}

// labelled holds pods to their labels: what a pod has of the network, and whether the guide's `kubectl wait` waits for it, is decided by them.
func labelled(t *testing.T, name string, pod corev1.PodTemplateSpec, inCluster bool) {
	t.Helper()
	app := map[string]string{database: "postgres", server: "mlflow"}[name]
	if name == database && !inCluster {
		app = ""
	}
	client := map[bool]string{true: "true"}[name != database]
	if pod.Labels["app"] != app || pod.Labels["app.kubernetes.io/part-of"] != "mlflow" || pod.Labels[component] != name || pod.Labels["mlflow.kubectl/database-client"] != client {
		t.Errorf("%s: labels are %v", name, pod.Labels)
	}
}

// What is said of the server's image and environment holds wherever the image runs, and what the database is started with
// is what MLflow connects to.
func TestPodsAgree(t *testing.T) {
	objs := renderAll(t, Parameters{Image: "registry.example.com/mlflow:v3"})
	all := pods(t, objs)
	serving := all[server].Spec.Containers[0]
	for name, container := range map[string]corev1.Container{"init": all[server].Spec.InitContainers[0], "migration": all[migration].Spec.Containers[0]} {
		if container.Image != "registry.example.com/mlflow:v3" || container.Image != serving.Image {
			t.Errorf("%s runs %s, the server %s", name, container.Image, serving.Image)
		}
		if diff := cmp.Diff(serving.Env, container.Env); diff != "" {
			t.Errorf("%s: environment differs from the server's:\n%s", name, diff)
		}
	}
	config := map[string]string{}
	for _, obj := range objs {
		if obj.GetKind() == "ConfigMap" && strings.HasPrefix(obj.GetName(), "mlflow-config-") {
			data, _, err := unstructured.NestedStringMap(obj.Object, "data")
			if err != nil {
				t.Fatal(err)
			}
			config = data
		}
	}
	postgres := map[string]string{}
	for _, variable := range all[database].Spec.Containers[0].Env {
		postgres[variable.Name] = variable.Value
	}
	if config["DB_USER"] != postgres["POSTGRES_USER"] || config["DB_NAME"] != postgres["POSTGRES_DB"] || config["DB_USER"] == "" {
		t.Errorf("MLflow connects to %s as %s, the database has %s and %s", config["DB_NAME"], config["DB_USER"], postgres["POSTGRES_DB"], postgres["POSTGRES_USER"])
	}
	for _, key := range []string{keyDatabasePassword, "MLFLOW_CRYPTO_KEK_PASSPHRASE"} {
		if !slices.ContainsFunc(serving.Env, func(e corev1.EnvVar) bool {
			return e.Name == key && e.ValueFrom.SecretKeyRef.Name == secretName && e.ValueFrom.SecretKeyRef.Key == key
		}) {
			t.Errorf("the server does not read %s from the Secret", key)
		}
	}
}

func TestMigrationIsNamedByItsContent(t *testing.T) {
	name := func(p Parameters) string {
		for _, obj := range renderAll(t, p) {
			if stageOf(obj) == migration {
				return obj.GetName()
			}
		}
		t.Fatal("there is no migration")
		return ""
	}
	plain := name(Parameters{})
	if again := name(Parameters{DatabaseStorage: "50Gi"}); again != plain {
		t.Errorf("another size of the volume is another migration: %s, %s", plain, again)
	}
	if other := name(Parameters{Image: "mlflow:v4"}); other == plain {
		t.Errorf("another image is the same migration: %s", plain)
	}
}

// The lab has no way to a registry: what the manifests run must be among the images that it builds.
func TestTheLabHasEveryImage(t *testing.T) {
	text, err := os.ReadFile("../../hack/lab/images.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var lab struct{ Images []struct{ Name string } }
	if err := yaml.Unmarshal(text, &lab); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, image := range lab.Images {
		names = append(names, strings.TrimPrefix(image.Name, "docker.io/library/"))
	}
	for _, golden := range []string{"local", "local-backup", "gcp-cloudsql", "gcp-cloudsql-sidecar-all"} {
		for component, pod := range templates(t, renderAll(t, goldens()[golden])) {
			for _, container := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
				if !slices.Contains(names, container.Image) {
					t.Errorf("%s: %s runs %s, which hack/lab/images.yaml lacks", golden, component, container.Image)
				}
			}
		}
	}
}
