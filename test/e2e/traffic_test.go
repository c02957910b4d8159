//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// models is a namespace with a deployment "iris", and versions of its model.
type models struct {
	*installed
	directory string
	request   string
	expected  map[string][][]float64 // by version
	gateway   string                 // HOST:PORT, from outside of the cluster
}

// TestTraffic runs in order: each chapter stands on what the one before left.
func TestTraffic(t *testing.T) {
	l := openLab(t)
	m := &models{installed: l.namespace(t, "e2e-traffic"), directory: t.TempDir()}
	m.create(t)
	m.train(t)
	m.deploy(t, "1")
	m.serves(t, "1")
	for _, chapter := range []struct {
		name string
		test func(*testing.T)
	}{
		{"a version, a canary, its promotion and a rollback lose no request", m.noRequestIsLost},
		{"a version that does not answer its example gets none", m.brokenGetsNothing},
		{"a kill at any point leaves what served, and a second run ends it", m.killed},
		{"two at once: one wins, the other says so", m.twoAtOnce},
		{"a file of deployments, and what it declares no more", m.declared},
		{"a manifest for other tools is one that the server takes", m.manifest},
	} {
		if !t.Run(chapter.name, chapter.test) {
			t.FailNow()
		}
	}
}

func (m *models) train(t *testing.T) {
	t.Helper()
	r := m.run(t, nil, m.python(t), filepath.Join(m.root, "test/e2e/testdata/versions.py"), m.directory)
	var trained struct {
		Request  string
		Expected map[string][][]float64
	}
	if err := json.Unmarshal([]byte(r.stdout), &trained); err != nil || r.code != 0 {
		t.Fatalf("versions.py: exit %d, %v", r.code, err)
	}
	m.request, m.expected = trained.Request, trained.Expected
	server, err := url.Parse(m.Server)
	if err != nil {
		t.Fatal(err)
	}
	port := m.lab.kubectl(t, "-n", "kourier-system", "get", "service", "kourier", "-o", `jsonpath={.spec.ports[?(@.port==80)].nodePort}`)
	m.gateway = net.JoinHostPort(server.Hostname(), port)
}

// deployment is the command line that deploys a version.
func (m *models) deployment(version string, flags ...string) []string {
	return append(append([]string{"deploy", "iris", filepath.Join(m.directory, version), "-n", m.namespace}, m.deployFlags(m.Registry+"/models/iris")...), flags...)
}

func (m *models) deploy(t *testing.T, version string, flags ...string) {
	t.Helper()
	m.lab.mlflow(t, m.deployment(version, flags...)...)
}

// ask sends one request through the gateway and returns the version that has answered.
func (m *models) ask(ctx context.Context) (version string, err error) { return m.askName(ctx, "iris") }

func (m *models) askName(ctx context.Context, name string) (version string, err error) {
	body, err := m.exchange(ctx, http.DefaultClient, name, http.MethodPost, "/invocations", m.request)
	if err != nil {
		return "", err
	}
	return m.versionOf(body)
}

// exchange sends one request to a Service through the gateway, and returns what it answers.
func (m *models) exchange(ctx context.Context, client *http.Client, name, method, path, body string) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+m.gateway+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Host = name + "." + m.namespace + ".lab.example.com"
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	answer, err = io.ReadAll(response.Body)
	if closed := response.Body.Close(); err == nil {
		err = closed
	}
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %w", response.Status, answer, err)
	}
	return answer, nil
}

// versionOf is the version that answers so.
func (m *models) versionOf(body []byte) (version string, err error) {
	var answer struct{ Predictions [][]float64 }
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("%s: %w", body, err)
	}
	for version, want := range m.expected {
		if len(answer.Predictions) == 1 && math.Abs(answer.Predictions[0][0]-want[0][0]) < 1e-6 && math.Abs(answer.Predictions[0][1]-want[0][1]) < 1e-6 {
			return version, nil
		}
	}
	return "", fmt.Errorf("no version answers %s", body)
}

// serves expects a version to answer.
func (m *models) serves(t *testing.T, want string) {
	t.Helper()
	if got, err := m.ask(t.Context()); err != nil || got != want {
		t.Errorf("version %q answers (%v), want %q", got, err, want)
	}
}

// load is a steady stream of requests, counted by who answered.
type load struct {
	mu     sync.Mutex
	counts map[string]int
	lost   []string
	end    func()
}

// every is the pause between two requests: 25 a second.
const every = 40 * time.Millisecond

func (m *models) load(t *testing.T) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{counts: map[string]int{}}
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				running.Go(func() { l.count(m.ask(context.WithoutCancel(ctx))) })
			}
		}
	})
	l.end = func() { cancel(); running.Wait() }
	t.Cleanup(l.end)
	return l
}

func (l *load) count(version string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.lost = append(l.lost, err.Error())
		return
	}
	l.counts[version]++
}

// during lets the load run until n more requests were answered, and returns how many of them each version has.
func (l *load) during(t *testing.T, n int) map[string]int {
	t.Helper()
	l.mu.Lock()
	clear(l.counts)
	l.mu.Unlock()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < 5*time.Minute; <-tick.C {
		l.mu.Lock()
		sum, counts := 0, map[string]int{}
		for version, count := range l.counts {
			sum, counts[version] = sum+count, count
		}
		l.mu.Unlock()
		if sum >= n {
			return counts
		}
	}
	t.Fatalf("%d requests were not answered in five minutes", n)
	return nil
}

func (m *models) noRequestIsLost(t *testing.T) {
	load := m.load(t)
	began := time.Now()
	load.during(t, 100)
	timed(t, "a new version", func() { m.deploy(t, "2") })
	if counts := load.during(t, 200); counts["2"] < 190 {
		t.Errorf("after version 2 was deployed, %v answered", counts)
	}
	timed(t, "a canary", func() { m.deploy(t, "3", "--canary", "10") })
	const n, share = 600, 0.1
	counts := load.during(t, n)
	if off := math.Abs(float64(counts["3"]) - n*share); off > 4*math.Sqrt(n*share*(1-share)) {
		t.Errorf("a canary of 10 %% has %v of %d requests", counts, n)
	}
	timed(t, "its promotion", func() { m.lab.mlflow(t, "traffic", "iris", "--promote", "-n", m.namespace) })
	if counts := load.during(t, 200); counts["3"] < 190 {
		t.Errorf("after the promotion, %v answered", counts)
	}
	back := time.Now()
	m.lab.mlflow(t, "rollback", "iris", "-n", m.namespace)
	if took := time.Since(back); took > 3*time.Second {
		t.Errorf("the rollback took %s", took)
	}
	if counts := load.during(t, 200); counts["2"] < 190 {
		t.Errorf("after the rollback, %v answered", counts)
	}
	load.during(t, max(1, int((time.Minute-time.Since(began))/every)))
	load.end()
	if len(load.lost) > 0 {
		t.Errorf("%d requests were lost in %s, the first: %s", len(load.lost), time.Since(began), load.lost[0])
	}
	if list := m.lab.mlflow(t, "deployments", "list", "-n", m.namespace).stdout; !strings.Contains(list, "file:2") {
		t.Errorf("the list does not say that version 2 serves:\n%s", list)
	}
}

func (m *models) brokenGetsNothing(t *testing.T) {
	m.refused(t, 4, []string{"does not answer the example", "the lookup table is not here", "gets no requests", "hint:"}, "deploy", m.deployment("broken")[1:]...)
	m.serves(t, "2")
	if shown := m.lab.mlflow(t, "traffic", "iris", "-n", m.namespace).stdout; !strings.Contains(shown, "candidate") {
		t.Errorf("the broken version cannot be asked alone:\n%s", shown)
	}
}

func (m *models) killed(t *testing.T) {
	versions := []string{"1", "2"}
	serving := "2"
	for i, line := range []string{"Applying Knative Service", "Waiting for revision", "Asking ", "Giving "} {
		next := versions[i%2]
		m.killAt(t, line, m.deployment(next)...)
		if got, err := m.ask(t.Context()); err != nil || got != serving && line != "Giving " {
			t.Errorf("killed at %q: version %q answers (%v), want %q", line, got, err, serving)
		}
		m.deploy(t, next)
		m.serves(t, next)
		serving = next
	}
}

func (m *models) twoAtOnce(t *testing.T) {
	var both sync.WaitGroup
	results := map[string]result{}
	var mu sync.Mutex
	for _, version := range []string{"1", "3"} {
		both.Go(func() {
			r := m.run(t, nil, filepath.Join(m.root, "bin/kubectl-mlflow"), m.deployment(version)...)
			mu.Lock()
			defer mu.Unlock()
			results[version] = r
		})
	}
	both.Wait()
	template := m.kubectl(t, "get", "services.serving.knative.dev", "iris", "-o", `jsonpath={.spec.template.metadata.annotations.mlflow\.kubectl/model-uri}`)
	last := strings.TrimPrefix(template, "file:")
	if results[last].code != 0 {
		t.Errorf("version %s is deployed, and its command ended with %d", last, results[last].code)
	}
	for version, r := range results {
		if r.code != 0 && (version == last || r.code != 5 || !strings.Contains(r.stderr, "overtaken")) {
			t.Errorf("the deployment of version %s: exit %d:\n%s", version, r.code, r.stderr)
		}
	}
	m.serves(t, last)
}

func (m *models) declared(t *testing.T) {
	file := filepath.Join(t.TempDir(), "models.yaml")
	write := func(entries string) {
		t.Helper()
		text := fmt.Sprintf("set: story\ndefaults: {imageRepository: %s/models/iris, baseImage: %s}\ndeployments:\n%s", m.Registry, m.BaseImage, entries)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf("- {name: one, modelURI: %[1]s/1, env: {SPEED: fast}}\n- {name: two, modelURI: %[1]s/2}\n", m.directory))
	m.mlflow(t, "deploy", "-f", file)
	if list := m.mlflow(t, "deployments", "list").stdout; !strings.Contains(list, "one-00001=100%") || !strings.Contains(list, "two-00001=100%") {
		t.Errorf("the list is\n%s", list)
	}
	write(fmt.Sprintf("- {name: one, modelURI: %s/1}\n", m.directory))
	if planned := m.mlflow(t, "deploy", "-f", file, "--prune", "--dry-run").stdout; !strings.Contains(planned, "delete") {
		t.Errorf("planned is\n%s", planned)
	}
	m.mlflow(t, "deploy", "-f", file, "--prune")
	template := m.kubectl(t, "get", "services.serving.knative.dev", "-o", `jsonpath={range .items[*]}{.metadata.name} {.spec.template.spec.containers[0].env[*].name}{"\n"}{end}`)
	if strings.Contains(template, "two") || strings.Contains(template, "SPEED") || !strings.Contains(template, "iris ") || !strings.Contains(template, "one ") {
		t.Errorf("deployments and their variables are now\n%s", template)
	}
}

func (m *models) manifest(t *testing.T) {
	printed := m.lab.mlflow(t, append(m.deployment("3")[:1], append([]string{"fresh"}, m.deployment("3", "--dry-run", "-o", "yaml", "--limits", "memory=1Gi")[2:]...)...)...).stdout
	if taken := m.kubectl(t, "apply", "--dry-run=server", "-f", write(t, "fresh.yaml", printed)); !strings.Contains(taken, "fresh created (server dry run)") {
		t.Errorf("the server says %q of\n%s", taken, printed)
	}
}
