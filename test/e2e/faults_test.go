//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault is one thing that goes wrong on the cluster, made for real.
type fault struct {
	name    string
	slow    bool                 // it is met with the tag long; TestRealTroubles has its like in every run, without a kubelet
	make    func() (undo func()) // beforehand; may be nil
	flags   []string             // of the install that meets it
	at      string               // the component that it hits: server, migration, database
	code    int
	told    time.Duration // the cause is on the screen so long after the pod, or what should make it, was there
	says    []string      // in the failure
	cause   string        // what of it is the cause; "" is the first
	seen    string        // what a pod's status or an event says of it first; "" is the cause
	rollout string        // what kubectl rollout status is asked about; a Job has none
}

// TestFaultsAreTold makes faults on a cluster with a real kubelet, one after the other under one MLflow. install tells the cause
// within seconds, ends with the right exit code, and the next install goes on as if nothing had been.
func TestFaultsAreTold(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	n := l.namespace(t, "e2e-faults")
	n.create(t)
	n.mlflow(t, "install")
	data := n.log(t)
	image := n.kubectl(t, "get", "deployment", "mlflow", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	for _, f := range n.faults(t, image[strings.LastIndex(image, ":"):]) {
		if f.slow && !long {
			continue
		}
		t.Run(f.name, func(t *testing.T) { n.meets(t, f, image) })
	}
	if long {
		t.Run("volume that nobody provides", func(t *testing.T) { noVolume(t, l) })
	}
	n.mlflow(t, "install", "--image", image, "-k", "none")
	n.check(t, data)
}

// faults are those of an MLflow whose image has a tag.
func (n *installed) faults(t *testing.T, tag string) []fault {
	t.Helper()
	server := func(path, value string) []string {
		return []string{"-k", patch(t, "Deployment", path, value)}
	}
	const container = "/spec/template/spec/containers/0"
	return []fault{
		{
			name: "image not found", flags: []string{"--image", n.Registry + "/none/mlflow" + tag}, at: "migration",
			code: 4, told: 30 * time.Second, says: []string{"/none/mlflow" + tag, "not found", "hint: check the image's name and tag"}, seen: "ErrImagePull",
		}, {
			name: "registry with a password", make: func() func() { return n.closedRegistry(t, "127.0.0.1:5055") },
			flags: []string{"--image", "127.0.0.1:5055/mlflow" + tag}, at: "migration",
			code: 4, told: 30 * time.Second, says: []string{"127.0.0.1:5055/mlflow" + tag, "hint: let the cluster pull it"}, seen: "ErrImagePull",
		}, {
			name: "image of another platform", make: func() func() { n.pushForeign(t, "foreign/mlflow", strings.TrimPrefix(tag, ":")); return nil },
			flags: []string{"--image", n.Registry + "/foreign/mlflow" + tag}, at: "migration",
			code: 4, told: 30 * time.Second, says: []string{"/foreign/mlflow" + tag, "hint: build the image for the nodes' platform"},
		}, {
			slow: true, name: "migration ends with an error", flags: []string{"-k", patch(t, "Job", container+"/command", `[python, -c, "import sys; sys.exit('no such revision')"]`)}, at: "migration",
			code: 4, told: 30 * time.Second, says: []string{"no such revision", "job.batch/mlflow-migration"},
		}, {
			name: "entry point crashes", flags: server(container+"/command", `[python, -c, "import sys; sys.exit('boom')"]`), at: "server", rollout: "deployment/mlflow",
			code: 4, told: 30 * time.Second, says: []string{"container mlflow: it ended with exit code 1", "boom", "hint: the log says why"}, cause: "boom", seen: `"exitCode": 1,`,
		}, {
			name: "memory limit", flags: server(container+"/resources", "{limits: {memory: 64Mi}, requests: {memory: 64Mi}}"), at: "server", rollout: "deployment/mlflow",
			code: 4, told: 30 * time.Second, says: []string{"container mlflow: it used more memory than its limit (64Mi)", "hint: raise the container's memory limit"}, seen: "OOMKilled",
		}, {
			slow: true, name: "no node has room", flags: append(server(container+"/resources/requests", "{cpu: 64}"), "--timeout=20s"), at: "server", rollout: "deployment/mlflow",
			code: 3, told: 10 * time.Second, says: []string{"no node takes it", "deployment.apps/mlflow", "Insufficient cpu"},
		}, {
			name: "key missing in a Secret", flags: server(container+"/env/-", "{name: TOKEN, valueFrom: {secretKeyRef: {name: mlflow-secret, key: TOKEN}}}"), at: "server", rollout: "deployment/mlflow",
			code: 4, told: 30 * time.Second, says: []string{"couldn't find key TOKEN", "mlflow-secret", "hint: create the Secret"},
		}, {
			name: "a host that MLflow does not know", flags: append(server(container+"/readinessProbe",
				"{httpGet: {path: /, port: http, httpHeaders: [{name: Host, value: evil.example.com}]}, periodSeconds: 2}"), "--timeout=25s"), at: "server", rollout: "deployment/mlflow",
			code: 3, told: 25 * time.Second, says: []string{"statuscode: 403", "--allowed-hosts"},
		}, {
			name: "quota", make: func() func() {
				n.kubectl(t, "create", "quota", "tight", "--hard=pods=1")
				return func() { n.kubectl(t, "delete", "quota", "tight") }
			}, flags: server("/spec/template/metadata/annotations", "{rolled: anew}"), at: "server", rollout: "deployment/mlflow",
			code: 4, told: 30 * time.Second, says: []string{"exceeded quota: tight", "hint: raise the namespace's ResourceQuota"},
		}, {
			name: "Pod Security", flags: server(container+"/securityContext/allowPrivilegeEscalation", "true"), at: "server", rollout: "deployment/mlflow",
			code: 4, told: 30 * time.Second, says: []string{"violates PodSecurity", "allowPrivilegeEscalation", "hint: "},
		}, {
			name: "database does not answer", flags: []string{"-k", patch(t, "StatefulSet", container+"/readinessProbe/exec/command", "[pg_isready, --port=9999]"), "--timeout=25s"},
			at: "database", rollout: "statefulset/postgres",
			code: 3, told: 25 * time.Second, says: []string{"Readiness probe failed", "pod/postgres-0", "no response"},
		},
	}
}

// patch is a folder with a kustomization that sets one field of the objects of a kind.
func patch(t *testing.T, kind, path, value string) string {
	t.Helper()
	return kustomization(t, fmt.Sprintf("patches:\n- target: {kind: %s}\n  patch: |-\n    - {op: add, path: %s, value: %s}\n", kind, path, value))
}

// noVolume installs with a storage class that no provisioner serves.
func noVolume(t *testing.T, l *lab) {
	n := l.namespace(t, "e2e-no-volume")
	n.create(t)
	n.meets(t, n.noVolume(t), "")
}

func (n *installed) noVolume(t *testing.T) fault {
	t.Helper()
	class := write(t, "class.yaml", "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: e2e-nobody}\nprovisioner: example.com/nobody\n")
	return fault{
		name: "volume that nobody provides", make: func() func() {
			n.lab.kubectl(t, "apply", "-f", class)
			return func() { n.lab.kubectl(t, "delete", "-f", class) }
		}, flags: []string{"--storage-class", "e2e-nobody", "--timeout=20s"}, at: "database", rollout: "statefulset/postgres",
		code: 3, told: 20 * time.Second, says: []string{"example.com/nobody", "postgres-data"},
	}
}

// prepared makes the fault.
func (f fault) prepared() (undo func()) {
	if f.make != nil {
		if undo := f.make(); undo != nil {
			return undo
		}
	}
	return func() {}
}

// sign is what tells that the cause is known.
func (f fault) sign() string { return cmp.Or(f.cause, f.says[0]) }

// meets installs into the fault, and says how long it took to tell; then kubectl is asked about the same.
func (n *installed) meets(t *testing.T, f fault, image string) {
	t.Helper()
	defer f.prepared()()
	args := []string{"install", "-n", n.namespace}
	if image != "" {
		args = append(args, "--image", image, "-k", "none")
	}
	began := time.Now()
	met := n.tells(t, f, filepath.Join(n.root, "bin/kubectl-mlflow"), append(args, f.flags...)...)
	since := n.first(t, f.at, began)
	if took := met.told.Sub(since); took > f.told {
		t.Errorf("the cause was told after %s, want %s", took.Round(time.Second), f.told)
	}
	row := fmt.Sprintf("| %s | %.0f s | %.0f s | %d | %s |", f.name, met.told.Sub(since).Seconds(), met.ended.Sub(since).Seconds(), f.code, met.line)
	if long {
		for _, said := range n.kubectlSays(t, f.kubectl(t, n)) {
			last := strings.Split(strings.TrimSpace(said.text), "\n")
			row += fmt.Sprintf(" %.0f s, exit %d: %s |", said.took.Seconds(), said.code, last[len(last)-1])
		}
	}
	t.Log(row)
}

// met is when the plugin told a cause, and in which line; and when it ended.
type met struct {
	told, ended time.Time
	line        string
}

// tells runs a program into a fault, and looks at what it says.
func (n *installed) tells(t *testing.T, f fault, program string, args ...string) met {
	t.Helper()
	code, lines := n.lines(t, program, args...)
	m := met{ended: time.Now()}
	whole := strings.Builder{}
	for _, l := range lines {
		whole.WriteString(l.text + "\n")
		if m.told.IsZero() && strings.Contains(l.text, f.sign()) {
			m.told, m.line = l.at, l.text
		}
	}
	t.Logf("%s %s\n(exit %d)\n%s", filepath.Base(program), strings.Join(args, " "), code, whole.String())
	if code != f.code {
		t.Errorf("exit code %d, want %d", code, f.code)
	}
	for _, text := range f.says {
		if !strings.Contains(whole.String(), text) {
			t.Errorf("stderr lacks %q", text)
		}
	}
	if m.told.IsZero() {
		m.told = m.ended
	}
	return m
}

// timedLine is a line, and when it was written.
type timedLine struct {
	at   time.Time
	text string
}

// lines runs a program and returns what it said on stderr.
func (n *installed) lines(t *testing.T, program string, args ...string) (code int, lines []timedLine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := n.command(ctx, nil, program, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
		lines = append(lines, timedLine{time.Now(), scanner.Text()})
	}
	_ = cmd.Wait() // its exit code is looked at
	return cmd.ProcessState.ExitCode(), lines
}

// first is when the first pod of a component was made since began, or else what makes its pods: with the API server's resolution of
// a second.
func (n *installed) first(t *testing.T, component string, began time.Time) time.Time {
	t.Helper()
	for _, kind := range []string{"pods", "replicasets,statefulsets,jobs"} {
		var first time.Time
		for _, text := range strings.Fields(n.kubectl(t, "get", kind, "-l", "app.kubernetes.io/component="+component, "-o", "jsonpath={.items[*].metadata.creationTimestamp}")) {
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				t.Fatal(err)
			}
			if at.After(began.Add(-time.Second)) && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
		if !first.IsZero() {
			return first
		}
	}
	t.Fatalf("nothing of component %s was made", component)
	return time.Time{}
}

// kubectl are the guide's `kubectl wait` and `kubectl rollout status` for what the fault hits, which has to be there already. They are given
// a minute.
func (f fault) kubectl(t *testing.T, n *installed) [][]string {
	t.Helper()
	waits := []string{"wait", "--for=condition=ready", "pod", "-l", "app.kubernetes.io/component=" + f.at, "--timeout=60s"}
	if f.at == "migration" {
		jobs := strings.Fields(n.kubectl(t, "get", "jobs", "-l", "app.kubernetes.io/component="+f.at, "--sort-by=.metadata.creationTimestamp", "-o", "name"))
		waits = []string{"wait", "--for=condition=complete", jobs[len(jobs)-1], "--timeout=60s"}
	}
	if f.rollout == "" {
		return [][]string{waits}
	}
	return [][]string{waits, {"rollout", "status", f.rollout, "--timeout=60s"}}
}

// said is what kubectl has said, and after how long it ended.
type said struct {
	took time.Duration
	code int
	text string
}

// kubectlSays runs commands of kubectl beside each other.
func (n *installed) kubectlSays(t *testing.T, commands [][]string) []said {
	t.Helper()
	all := make([]said, len(commands))
	var running sync.WaitGroup
	for i, args := range commands {
		running.Go(func() {
			began := time.Now()
			cmd := n.command(t.Context(), nil, n.Kubectl, append([]string{"-n", n.namespace}, args...)...)
			out, err := cmd.CombinedOutput()
			all[i] = said{took: time.Since(began), code: -1, text: string(out)}
			if cmd.ProcessState == nil {
				all[i].text = err.Error()
				return
			}
			all[i].code = cmd.ProcessState.ExitCode()
		})
	}
	running.Wait()
	return all
}

// closedRegistry is a registry with a password at an address of the node's own: for the loopback containerd does without TLS.
func (n *installed) closedRegistry(t *testing.T, address string) (stop func()) {
	t.Helper()
	folder := t.TempDir()
	// The registry makes a password of its own where the file is not there.
	config := write(t, "registry.yaml", fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\nauth: {htpasswd: {realm: closed, path: %q}}\n",
		filepath.Join(folder, "data"), address, filepath.Join(folder, "htpasswd")))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := n.command(ctx, nil, "nsenter", "--target", strconv.Itoa(n.NodePID), "--net", filepath.Join(n.Bin, "docker-registry"), "serve", config)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		cancel()
		_ = cmd.Wait() // killed by us
		if t.Failed() {
			t.Log(said.String())
		}
	}
}

// pushForeign puts an image for a platform that the node is not of into the lab's registry.
func (n *installed) pushForeign(t *testing.T, repository, tag string) {
	t.Helper()
	config := []byte(`{"architecture":"s390x","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`)
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":%d,"digest":%q},"layers":[]}`, ociManifest, ociConfig, len(config), n.blob(t, repository, config))
	n.manifest(t, repository, digest(manifest), ociManifest, manifest)
	index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":%d,"digest":%q,"platform":{"architecture":"s390x","os":"linux"}}]}`, ociIndex, ociManifest, len(manifest), digest(manifest))
	n.manifest(t, repository, tag, ociIndex, index)
}
