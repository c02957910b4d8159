package check

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const deploymentYAML = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: mlflow, namespace: ml}
spec:
  selector: {matchLabels: {app: mlflow}}
  template:
    metadata:
      labels: {app: mlflow, app.kubernetes.io/name: mlflow, app.kubernetes.io/part-of: mlflow, app.kubernetes.io/component: server}
      annotations: {sidecar.example.com/inject: "true"}
    spec:
      serviceAccountName: mlflow
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      initContainers:
      - {name: cloud-sql-proxy, image: proxy, restartPolicy: Always}
      - {name: schema, image: mlflow}
      containers:
      - {name: mesh, image: mesh}
      - name: mlflow
        image: mlflow:v1
        args: [server]
        envFrom: [{configMapRef: {name: mlflow-config}}, {configMapRef: {name: more}}]
        env: [{name: HOME, value: /tmp}]
        ports: [{containerPort: 5000}]
        livenessProbe: {httpGet: {path: /health, port: 5000}}
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: artifacts, mountPath: /mlflow/artifacts}]
      volumes: [{name: artifacts, persistentVolumeClaim: {claimName: mlflow-artifacts}}]
`

func server(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(deploymentYAML), &obj.Object); err != nil {
		t.Fatal(err)
	}
	return obj
}

func jobOf(t *testing.T, obj *unstructured.Unstructured, err error) *batchv1.Job {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	job := &batchv1.Job{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, job); err != nil {
		t.Fatal(err)
	}
	if job.Spec.TTLSecondsAfterFinished == nil || job.Spec.ActiveDeadlineSeconds == nil || *job.Spec.BackoffLimit != 0 {
		t.Errorf("%s may stay for ever: %+v", job.Name, job.Spec)
	}
	if _, selected := job.Spec.Template.Labels["app"]; selected {
		t.Errorf("%s gets the server's traffic: %v", job.Name, job.Spec.Template.Labels)
	}
	return job
}

func TestAPodLikeTheServersHasAllThatTheServerHas(t *testing.T) {
	obj, err := Like(server(t), "mlflow-check-x", 10*time.Minute, time.Minute)
	job := jobOf(t, obj, err)
	pod := job.Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.InitContainers) != 1 || pod.InitContainers[0].Name != "cloud-sql-proxy" {
		t.Fatalf("it runs %v and %v", pod.InitContainers, pod.Containers)
	}
	c := pod.Containers[0]
	if c.Image != "mlflow:v1" || pod.ServiceAccountName != "mlflow" || len(c.EnvFrom) != 2 || len(c.VolumeMounts) != 1 || len(pod.Volumes) != 1 {
		t.Errorf("it is not like the server: %+v", pod)
	}
	if c.LivenessProbe != nil || len(c.Ports) > 0 || len(c.Args) > 0 || c.SecurityContext == nil || pod.SecurityContext == nil {
		t.Errorf("it is too much like the server: %+v", c)
	}
	if !slices.Equal(c.Command[3:], []string{"all", "600", "60"}) || job.Spec.Template.Labels["mlflow.kubectl/database-client"] != "true" {
		t.Errorf("it runs %q with the labels %v", c.Command[3:], job.Spec.Template.Labels)
	}
}

func TestAStrangerHasNothingOfTheServers(t *testing.T) {
	obj, err := Stranger(server(t), "mlflow-check-door-x", "postgres", "5432")
	job := jobOf(t, obj, err)
	pod := job.Spec.Template.Spec
	c := pod.Containers[0]
	if pod.ServiceAccountName != "" || len(pod.InitContainers)+len(pod.Volumes)+len(c.Env)+len(c.EnvFrom)+len(c.VolumeMounts) > 0 {
		t.Errorf("it has %+v", pod)
	}
	if len(job.Spec.Template.Labels) != 1 || c.SecurityContext == nil || pod.SecurityContext == nil {
		t.Errorf("labels %v, security %v", job.Spec.Template.Labels, pod.SecurityContext)
	}
}

func TestASettingIsTheLastOneThatTheServerReads(t *testing.T) {
	maps := map[string]map[string]string{"mlflow-config": {"DB_HOST": "postgres", "DB_PORT": "5432"}, "more": {"DB_HOST": "other"}}
	for name, want := range map[string]string{"HOME": "/tmp", "DB_HOST": "other", "DB_PORT": "5432", "NONE": ""} {
		got, err := Setting(server(t), name, func(configMap string) (map[string]string, error) { return maps[configMap], nil })
		if err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestReadPassesOverWhatLibrariesSay(t *testing.T) {
	for line, want := range map[string]bool{`{"check": "artifacts", "state": "ok"}`: true, "2026 INFO mlflow": false, `{"level": "info"}`: false, "": false} {
		if _, ok := Read(line); ok != want {
			t.Errorf("Read(%q) = %t", line, ok)
		}
	}
}

func TestEveryTroubleHasACure(t *testing.T) {
	for _, c := range []struct {
		found  Found
		reason string
		says   []string
	}{
		{Found{Check: Artifacts, Reason: "Forbidden", Where: "gs://b/p", Identity: "m@p.iam.gserviceaccount.com", Step: "write", Detail: "403"}, "ArtifactsForbidden",
			[]string{"m@p.iam.gserviceaccount.com may not write at gs://b/p", "add-iam-policy-binding gs://b --member=serviceAccount:m@p.iam.gserviceaccount.com", "objectUser"}},
		{Found{Check: Artifacts, Reason: "Anonymous", Where: "gs://b", Step: "write"}, "ArtifactsAnonymous", []string{"anonymous", "gcp setup"}},
		{Found{Check: Artifacts, Reason: "BucketNotFound", Where: "gs://b/p"}, "ArtifactsBucketNotFound", []string{"there is no gs://b/p"}},
		{Found{Check: Artifacts, Reason: "Other", Step: "delete"}, "ArtifactsOther", []string{"delete what it wrote"}},
		{Found{Check: Artifacts}, "ArtifactsFailed", []string{"cannot work"}},
		{Found{Check: Database, Reason: "NoAnswer", Where: "postgres:5432/mlflowdb"}, "DatabaseNoAnswer", []string{"postgres:5432/mlflowdb does not answer"}},
		{Found{Check: Database, Reason: "SchemaOther"}, "DatabaseSchemaOther", []string{"newer MLflow"}},
	} {
		e := Explain(c.found, nil)
		if e.Class != failure.Diagnosed || e.Reason != c.reason || e.Hint == "" {
			t.Errorf("%+v: %+v", c.found, e)
		}
		for _, want := range c.says {
			if !strings.Contains(e.Message+"\n"+e.Hint, want) {
				t.Errorf("%s: no %q in %q, %q", c.reason, want, e.Message, e.Hint)
			}
		}
		if strings.ContainsAny(e.Message+e.Hint, "{}") {
			t.Errorf("%s: something is left to fill in: %q, %q", c.reason, e.Message, e.Hint)
		}
	}
}

// python runs a program that has imported check.py as check.
func python(t *testing.T, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("SKIPPED: there is no python3 on PATH to run check.py")
	}
	command := exec.CommandContext(t.Context(), "python3", append([]string{"-c", "import check\ncheck.PAUSE = 0.01\n" + program}, args...)...)
	command.Dir = "."
	command.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestWhatMayPassIsWaitedOutAndTheRestIsNot(t *testing.T) {
	const attempt = `
class Attempt:
    def __init__(self, *answers): self.answers, self.known = list(answers), {"where": "gs://b"}
    def __call__(self):
        answer = self.answers.pop(0)
        if answer: raise answer
        return self.known
trouble = check.Trouble
`
	for name, c := range map[string]struct {
		run  string
		want []string
	}{
		"a grant that comes":          {`check.insist("artifacts", 60, Attempt(trouble("Forbidden", "403", None), trouble("Forbidden", "403", None), None))`, []string{"pending", "pending", "ok"}},
		"a grant that does not come":  {`check.insist("artifacts", 0.005, Attempt(*[trouble("Forbidden", "403", None)] * 9))`, []string{"failed"}},
		"no bucket":                   {`check.insist("artifacts", 60, Attempt(trouble("BucketNotFound", "404"), None))`, []string{"failed"}},
		"what nobody has thought of":  {`check.insist("artifacts", 60, Attempt(ValueError("x"), None))`, []string{"failed"}},
		"what passes in less time":    {`check.insist("artifacts", 60, Attempt(trouble("Anonymous", "401", 1), None))`, []string{"pending", "ok"}},
		"what should have passed now": {`check.insist("artifacts", 60, Attempt(trouble("Anonymous", "401", 0.005), None))`, []string{"failed"}},
	} {
		var states []string
		for line := range strings.Lines(python(t, attempt+c.run)) {
			found, ok := Read(line)
			if !ok {
				t.Fatalf("%s: %q is no finding", name, line)
			}
			states = append(states, found.State)
		}
		if !slices.Equal(states, c.want) {
			t.Errorf("%s: %v, want %v", name, states, c.want)
		}
	}
}

// The stores' libraries tell of a refusal each in its own way, and MLflow wraps it.
func TestErrorsOfStoresAreUnderstood(t *testing.T) {
	const explain = `
import os, sys
os.environ["DEFAULT_ARTIFACT_ROOT"] = sys.argv[1]
class Google(Exception): code = int(sys.argv[3])
class Answer: status_code = int(sys.argv[3])
class Requests(Exception): response = Answer
class S3(Exception): response = {"ResponseMetadata": {"HTTPStatusCode": int(sys.argv[3])}}
class RefreshError(Exception): pass
artifacts = check.Artifacts()
artifacts.known["identity"] = sys.argv[4]
try:
    try:
        raise {"google": Google, "requests": Requests, "s3": S3, "refresh": RefreshError, "disk": OSError}[sys.argv[2]]("no")
    except Exception as error:
        if sys.argv[2] == "disk": raise
        raise RuntimeError("wrapped") from error
except Exception as error:
    trouble = artifacts.explain(error)
    print(trouble.reason, trouble.passing)
`
	for _, c := range []struct{ uri, kind, status, identity, want string }{
		{"gs://b", "google", "403", "m@p", "Forbidden None"},
		{"gs://b", "google", "404", "m@p", "BucketNotFound 0"},
		{"gs://b", "google", "401", "anonymous", "Anonymous 45"},
		{"gs://b", "refresh", "0", "m@p", "NoToken None"},
		{"gs://b", "google", "500", "m@p", "Other 0"},
		{"s3://b", "s3", "403", "", "Forbidden None"},
		{"https://b", "requests", "404", "", "BucketNotFound 0"},
		{"/mlflow/artifacts", "disk", "0", "", "NotWritable 0"},
	} {
		if got := strings.TrimSpace(python(t, explain, c.uri, c.kind, c.status, c.identity)); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestADoorIsOpenOrClosed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const look = "import sys\ncheck.door(sys.argv[1], sys.argv[2])"
	if found, _ := Read(python(t, look, host, port)); found.State != Open {
		t.Errorf("a door that is open is %q", found.State)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if found, _ := Read(python(t, look, host, port)); found.State != Closed {
		t.Errorf("a door that is closed is %q", found.State)
	}
}
