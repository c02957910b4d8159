//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestDeployFromAJob runs the Job of docs/ci.md: the program in a pod, which has no other rights than those that ship for it.
func TestDeployFromAJob(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	n := l.namespace(t, "lab-ci")
	n.create(t)
	roles := filepath.Join(l.root, "manifests/roles")
	n.kubectl(t, "apply", "-k", filepath.Join(roles, "deployer"))
	model := strings.TrimSpace(n.mlflow(t, "build", append([]string{"iris", l.logged(t)}, l.deployFlags(l.Registry+"/ci/iris")...)...).stdout)
	ci := n.ci(t)

	said := ci.run(t, "deploy", 0, "deploy", "iris", "--image", model)
	for _, text := range []string{"http://iris.lab-ci.", "iris created", "Asking iris-00001 the model's example ... done"} {
		if !strings.Contains(said, text) {
			t.Errorf("it does not say %q:\n%s", text, said)
		}
	}
	if strings.Contains(strings.ToLower(said), "warning") {
		t.Errorf("it warns:\n%s", said)
	}
	if said := ci.run(t, "list", 0, "deployments", "list"); !strings.Contains(said, "iris") || !strings.Contains(said, "True") {
		t.Errorf("the list is\n%s", said)
	}
	for name, args := range map[string][]string{
		"list-elsewhere":   {"deployments", "list", "-n", "default"},
		"deploy-elsewhere": {"deploy", "iris", "-n", "default", "--image", model},
	} {
		if said := ci.run(t, name, 6, args...); !strings.Contains(said, "error: ") || !strings.Contains(said, "in namespace default") || strings.Count(said, "hint: ") != 1 {
			t.Errorf("%s: it says\n%s", name, said)
		}
	}
	request := []string{"predict", "iris", "--input", `{"inputs": [[0.0], [1.0]]}`}
	if said := ci.run(t, "predict-blind", 4, request...); !strings.Contains(said, "manifests/roles/gateway") {
		t.Errorf("without the gateway's role, it says\n%s", said)
	}
	gateway := kustomization(t, fmt.Sprintf(`resources: [roles]
patches:
- target: {kind: RoleBinding}
  patch: '[{"op": "replace", "path": "/subjects/0/namespace", "value": %q}]'
`, n.namespace))
	if err := os.CopyFS(filepath.Join(gateway, "roles"), os.DirFS(filepath.Join(roles, "gateway"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.kubectl(t, "delete", "-k", gateway, "--ignore-not-found") })
	l.kubectl(t, "apply", "-k", gateway)
	if said := ci.run(t, "predict", 0, request...); !strings.Contains(said, `"predictions"`) {
		t.Errorf("the answer is\n%s", said)
	}
}

// ci runs Jobs with the program.
type ci struct {
	*installed
	job, image string
}

// ci pushes the program in an image of nothing else, and reads the Job from the docs.
func (n *installed) ci(t *testing.T) ci {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(n.root, "docs/ci.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```yaml\n(apiVersion: batch/v1\n.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatal("docs/ci.md has no Job")
	}
	program, err := os.ReadFile(filepath.Join(n.root, "bin/kubectl-mlflow"))
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	if err := archive.WriteHeader(&tar.Header{Name: "kubectl-mlflow", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	const repository = "ci/kubectl-mlflow"
	content := n.blob(t, repository, layer.Bytes())
	config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%q]}}`, runtime.GOARCH, content)
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":%d,"digest":%q},"layers":[{"mediaType":%q,"size":%d,"digest":%q}]}`,
		ociManifest, ociConfig, len(config), n.blob(t, repository, config), ociLayer, layer.Len(), content)
	n.manifest(t, repository, digest(manifest), ociManifest, manifest)
	return ci{installed: n, job: string(found[1]), image: n.Registry + "/" + repository + "@" + digest(manifest)}
}

// run runs the program to its end in a Job, expects an exit code, and returns what it says.
func (c ci) run(t *testing.T, name string, code int, args ...string) string {
	t.Helper()
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = "'" + arg + "'"
	}
	job := c.job
	for _, part := range []struct{ pattern, with string }{
		{"name: deploy-iris", "name: " + name},
		{"namespace: models", "namespace: " + c.namespace},
		{"image: .*", "image: " + c.image},
		{"args: .*", "args: [" + strings.Join(quoted, ", ") + "]"},
	} {
		before := job
		if job = regexp.MustCompile(part.pattern).ReplaceAllLiteralString(job, part.with); job == before {
			t.Fatalf("the Job has no %q:\n%s", part.pattern, job)
		}
	}
	condition := "complete"
	if code != 0 {
		condition = "failed"
	}
	c.kubectl(t, "create", "-f", write(t, "job.yaml", job))
	c.kubectl(t, "wait", "--for=condition="+condition, "job/"+name, "--timeout=3m")
	got := c.kubectl(t, "get", "pods", "-l", "job-name="+name, "-o", "jsonpath={.items[*].status.containerStatuses[*].state.terminated.exitCode}")
	if got != fmt.Sprint(code) {
		t.Errorf("%s: exit code %s, want %d", name, got, code)
	}
	return c.kubectl(t, "logs", "job/"+name)
}
