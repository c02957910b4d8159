//go:build e2e

package e2e

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const gibi = 1 << 30

// tunnel is a running port-forward to a server of the tests' own, which stands where MLflow's stood.
type tunnel struct {
	*installed
	url string
	pid int
}

// TestTunnel leads port-forward through all that may happen to it in a day: it keeps its port, and nothing that went through it is
// lost or bent.
func TestTunnel(t *testing.T) {
	l := openLab(t)
	n := l.namespace(t, "e2e-tunnel")
	n.mlflow(t, "install")
	n.serve(t)
	url, pid := l.start(t, nil, filepath.Join(l.root, "bin/kubectl-mlflow"), "port-forward", ":5000", "-n", n.namespace)
	tun := &tunnel{n, url, pid}
	type step struct {
		name string
		do   func(*testing.T)
	}
	steps := []step{
		{"one GiB each way", tun.bytes}, {"many connections", tun.connections}, {"a refused upload", tun.refusedUpload},
		{"the pod is deleted", tun.podDeleted}, {"the API server is restarted", tun.restart},
		{"credentials are rotated", tun.rotated},
	}
	if long {
		steps = append(steps, step{"as fast as kubectl", tun.throughput})
	}
	for _, step := range steps {
		if !t.Run(step.name, step.do) {
			return
		}
	}
}

// serve puts testdata/serve.py where MLflow's server was.
func (n *installed) serve(t *testing.T) {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(n.root, "test/e2e/testdata/serve.py"))
	if err != nil {
		t.Fatal(err)
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "add", "path": "/spec/template/spec/containers/0/command", "value": []string{"python", "-c", string(script)}},
		{"op": "add", "path": "/spec/template/spec/containers/0/args", "value": []string{}},
		{"op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.kubectl(t, "patch", "deployment", "mlflow", "--type=json", "--patch", string(patch))
	n.kubectl(t, "rollout", "status", "deployment", "mlflow", "--timeout=3m")
}

// client makes a connection for each request, which takes a minute at most.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
}

// counting is the endless count of 0 to 255 that the server sends.
type counting struct{ at int }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.at + i)
	}
	c.at = (c.at + len(p)) % 256
	return len(p), nil
}

func sum(t *testing.T, n int64) string {
	t.Helper()
	digest := sha256.New()
	if _, err := io.CopyN(digest, &counting{}, n); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(digest.Sum(nil))
}

// get reads n bytes and returns their hash.
func get(url string, n int64) (string, error) {
	digest := sha256.New()
	response, err := client().Get(fmt.Sprintf("%s/bytes/%d", url, n)) //nolint:noctx // it has a timeout
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	if got, err := io.Copy(digest, response.Body); err != nil || got != n {
		return "", fmt.Errorf("%d bytes of %d: %w", got, n, err)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// drain reads n bytes and makes nothing of them: hashing takes as long as the way does.
func drain(url string, n int64) error {
	response, err := client().Get(fmt.Sprintf("%s/bytes/%d", url, n)) //nolint:noctx // it has a timeout
	if err != nil {
		return err
	}
	got, err := io.Copy(io.Discard, response.Body)
	if got != n {
		err = cmp.Or(err, fmt.Errorf("%d bytes of %d", got, n))
	}
	return cmp.Or(err, response.Body.Close())
}

func (tun *tunnel) bytes(t *testing.T) {
	want := sum(t, gibi)
	timed(t, "1 GiB down", func() {
		if got, err := get(tun.url, gibi); err != nil || got != want {
			t.Errorf("down: %q, %v; want %q", got, err, want)
		}
	})
	timed(t, "1 GiB up", func() {
		if got, err := tun.put("/hash", gibi); err != nil || got != want {
			t.Errorf("up: %q, %v; want %q", got, err, want)
		}
	})
}

// put sends n bytes, and returns the answer.
func (tun *tunnel) put(path string, n int64) (string, error) {
	request, err := http.NewRequest(http.MethodPut, tun.url+path, io.LimitReader(&counting{}, n)) //nolint:noctx // the client has a timeout
	if err != nil {
		return "", err
	}
	request.ContentLength = n
	response, err := client().Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// ask is one small request on a connection of its own.
func (tun *tunnel) ask() error {
	_, err := tun.askBy(client())
	return err
}

// askBy is one small request of a client, which the pod answers with its name.
func (tun *tunnel) askBy(c *http.Client) (pod string, err error) {
	response, err := c.Get(tun.url + "/health") //nolint:noctx // it has a timeout
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(response.Body)
	return string(body), cmp.Or(err, response.Body.Close())
}

// connections come and go, and leave nothing behind in the process.
func (tun *tunnel) connections(t *testing.T) {
	many := 500
	if long {
		many = 10_000
	}
	parallel := func(n int) {
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				if err := tun.ask(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	oneByOne := func(n int) {
		for range n {
			if err := tun.ask(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What is made once, and what Go keeps of a peak, is there before: the same again must not be more.
	oneByOne(500)
	parallel(200)
	parallel(200)
	before := tun.holds(t)
	timed(t, fmt.Sprintf("%d connections, one after the other", many), func() { oneByOne(many) })
	timed(t, "200 connections at once", func() { parallel(200) })
	deadline := time.Now().Add(20 * time.Second)
	after := tun.holds(t)
	for after.files > before.files && time.Now().Before(deadline) { // tunnels are closed in the background
		time.Sleep(100 * time.Millisecond)
		after = tun.holds(t)
	}
	t.Logf("before %+v, after %+v", before, after)
	if after.files > before.files {
		t.Errorf("%d file descriptors, and %d before", after.files, before.files)
	}
	if after.memory > before.memory+32<<10 {
		t.Errorf("%d KiB of memory, and %d before", after.memory, before.memory)
	}
}

// holding is what a process holds: file descriptors, and resident memory in KiB.
type holding struct{ files, memory int }

func (tun *tunnel) holds(t *testing.T) holding {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", tun.pid))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tun.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if text, found := strings.CutPrefix(line, "VmRSS:"); found {
			memory, err := strconv.Atoi(strings.Fields(text)[0])
			if err != nil {
				t.Fatal(err)
			}
			return holding{len(files), memory}
		}
	}
	t.Fatal("/proc has no VmRSS")
	return holding{}
}

// refusedUpload is closed by the server after a few bytes of 500 MB. The client has its answer, or a broken connection as it would
// without a tunnel, and other connections do not notice. With kubectl port-forward they do.
func (tun *tunnel) refusedUpload(t *testing.T) {
	try := func(url string) (upload, other error) {
		done := make(chan error, 1)
		go func() {
			_, err := get(url, gibi/4)
			done <- err
		}()
		_, upload = (&tunnel{url: url}).put("/refuse", 500_000_000)
		return upload, <-done
	}
	timed(t, "a refused upload beside a download", func() {
		upload, other := try(tun.url)
		_, next := get(tun.url, 1)
		t.Logf("upload: %v", upload)
		if other != nil || next != nil {
			t.Errorf("the other connection: %v; the next one: %v", other, next)
		}
	})
	if !long {
		return
	}
	url := tun.portForward(t)
	upload, other := try(url)
	began := time.Now()
	_, next := get(url, 1)
	t.Logf("the same through kubectl port-forward: upload: %v; the other connection: %v; the next one, after %.0f s: %v",
		upload, other, time.Since(began).Seconds(), next)
}

// throughput is compared with kubectl's, in turns.
func (tun *tunnel) throughput(t *testing.T) {
	const size, rounds = gibi / 4, 11
	theirs := tun.portForward(t)
	took := map[string][]float64{}
	for range rounds {
		for _, url := range []string{theirs, tun.url} {
			began := time.Now()
			if err := drain(url, size); err != nil {
				t.Fatal(err)
			}
			took[url] = append(took[url], time.Since(began).Seconds())
		}
	}
	median := func(url string) float64 { slices.Sort(took[url]); return took[url][rounds/2] }
	ratio := median(theirs) / median(tun.url)
	t.Logf("%d MiB down, median of %d: kubectl %.2f s, kubectl mlflow %.2f s: %.2f times its throughput (kubectl %.2f, ours %.2f)",
		size>>20, rounds, median(theirs), median(tun.url), ratio, took[theirs], took[tun.url])
	const noise = 0.1 // both are as fast as the API server and the kubelet between, and those have little time on two cores
	if ratio < 1-noise {
		t.Errorf("%.2f times kubectl's throughput", ratio)
	}
}

// podDeleted deletes the pod under load. Connections wait for its successor and are served as soon as that is ready.
func (tun *tunnel) podDeleted(t *testing.T) {
	const patience = 2 * time.Second
	deleted, ready, first := tun.replaced(t, patience)
	if first.IsZero() {
		t.Fatalf("the successor was ready at %s, and did not answer in %s", ready, patience)
	}
	t.Logf("the successor was ready %.1f s after the deletion, and the first answer came %.1f s after that", ready.Sub(deleted).Seconds(), first.Sub(ready).Seconds())
}

// replaced deletes the server's pod under load. It says when that was, when a successor was ready, and when that answered for the first
// time: never, where it does not with some patience.
func (tun *tunnel) replaced(t *testing.T, patience time.Duration) (deleted, ready, first time.Time) {
	t.Helper()
	old := strings.TrimPrefix(tun.kubectl(t, "get", "pods", "-l", "app=mlflow", "-o", "name"), "pod/")
	answered := make(chan time.Time, 1) // for the first time
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	for range 4 {
		load.Go(func() {
			pause := time.NewTicker(10 * time.Millisecond) // a port that nobody listens on refuses at once
			defer pause.Stop()
			for ; ctx.Err() == nil; <-pause.C {
				if pod, err := tun.askBy(client()); err == nil && pod != old { // what was under way in the old pod is broken off
					select {
					case answered <- time.Now():
					default:
					}
				}
			}
		})
	}
	tun.kubectl(t, "delete", "pod", old, "--wait=false")
	deleted = time.Now()
	ready = tun.successorReady(t, old)
	select {
	case first = <-answered:
	case <-time.After(patience):
	}
	return deleted, ready, first
}

// successorReady is when kubectl saw another pod ready.
func (tun *tunnel) successorReady(t *testing.T, old string) time.Time {
	t.Helper()
	cmd := tun.command(t.Context(), nil, tun.Kubectl, "-n", tun.namespace, "get", "pods", "-l", "app=mlflow", "--watch", "-o",
		`jsonpath={.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed by us
	}()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		name, status, _ := strings.Cut(lines.Text(), " ")
		if name != old && status == "True" {
			return time.Now()
		}
	}
	t.Fatal("no successor was ready")
	return time.Time{}
}

// restart kills the API server, which the lab starts again. The tunnel is back with it.
func (tun *tunnel) restart(t *testing.T) {
	kill := exec.CommandContext(t.Context(), "nsenter", "--target", strconv.Itoa(tun.NodePID), "--pid", "--mount", "pkill", "-KILL", "-x", "kube-apiserver")
	if out, err := kill.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	began := time.Now()
	for tun.run(t, nil, tun.Kubectl, "get", "--raw", "/readyz").code != 0 {
		if time.Since(began) > 2*time.Minute {
			t.Fatal("the API server did not come back")
		}
		time.Sleep(500 * time.Millisecond)
	}
	back := time.Now()
	if err := tun.ask(); err != nil {
		t.Error(err)
	}
	t.Logf("the API server was back after %.1f s, and the tunnel %.1f s later", back.Sub(began).Seconds(), time.Since(back).Seconds())
}

// rotated takes the token away with which port-forward has begun, and puts another one into its file.
func (tun *tunnel) rotated(t *testing.T) {
	tun.kubectl(t, "create", "serviceaccount", "visitor")
	tun.kubectl(t, "create", "rolebinding", "visitor", "--clusterrole=edit", "--serviceaccount="+tun.namespace+":visitor")
	token := func(secret string) string {
		tun.kubectl(t, "create", "secret", "generic", secret)
		return tun.quietly(t, "-n", tun.namespace, "create", "token", "visitor", "--bound-object-kind=Secret", "--bound-object-name="+secret)
	}
	first, second := token("first"), token("second")
	file := write(t, "token", first)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	var kubeconfig map[string]any
	if err := json.Unmarshal([]byte(tun.quietly(t, "config", "view", "--raw", "--minify", "--flatten", "-o", "json")), &kubeconfig); err != nil {
		t.Fatal(err)
	}
	for _, user := range kubeconfig["users"].([]any) {
		user.(map[string]any)["user"] = map[string]any{"tokenFile": file}
	}
	text, err := json.Marshal(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	url, pid := tun.start(t, []string{"KUBECONFIG=" + config}, filepath.Join(tun.root, "bin/kubectl-mlflow"), "port-forward", ":5000", "-n", tun.namespace)
	as := &tunnel{tun.installed, url, pid}
	if err := as.ask(); err != nil {
		t.Fatal(err)
	}
	tun.kubectl(t, "delete", "secret", "first")
	if err := os.WriteFile(file, []byte(second), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// The API server remembers for some seconds whom it has let in.
	for tun.command(t.Context(), nil, tun.Kubectl, "--kubeconfig="+os.DevNull, "--server="+tun.Server, "--insecure-skip-tls-verify", "--token="+first, "get", "--raw", "/api").Run() == nil {
		if time.Since(began) > time.Minute {
			t.Fatal("the API server goes on taking the first token")
		}
		time.Sleep(500 * time.Millisecond)
	}
	tun.kubectl(t, "delete", "pods", "-l", "app=mlflow") // so that the tunnel has to look for a pod, too
	asked := time.Now()
	if err := as.ask(); err != nil {
		t.Error(err)
	}
	took := time.Since(asked)
	t.Logf("the first token was refused after %.1f s, and the tunnel went on with the second in %.1f s, in which a pod became ready", asked.Sub(began).Seconds(), took.Seconds())
	if took > 30*time.Second {
		t.Error("the token's file was not read anew")
	}
}

// quietly runs kubectl for what belongs into no log.
func (tun *tunnel) quietly(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tun.command(t.Context(), nil, tun.Kubectl, args...).Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v", args[0], err)
	}
	return strings.TrimSpace(string(out))
}
