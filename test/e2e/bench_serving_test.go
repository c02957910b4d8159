//go:build e2e && bench

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestBenchServing is what those who ask a deployed model wait for, against mlflow-knative's Service of the same version, beside it on the
// same node; and what it takes to bring up ten models.
func TestBenchServing(t *testing.T) {
	v := newVersions(t, "e2e-bench-serving")
	s := &serving{versions: v, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}}
	t.Cleanup(s.client.CloseIdleConnections)
	v.deploy(t, served)
	v.peer(t, v.buildPeer(t, served), served)
	s.scale(t, awake())
	t.Run("latency", s.latency)
	t.Run("throughput", s.throughput)
	s.scale(t, drowsy())
	t.Run("cold start", s.coldStart)
	t.Run("ten models", s.tenModels)
}

const (
	served  = "1" // the version that both serve
	clients = 8   // that ask side by side
)

// serving is one model as ours, the Service iris, and as the peer's, the Service peer.
type serving struct {
	*versions
	client *http.Client // of connections that are kept
}

// awake and drowsy are how Knative scales the pods: there is always one, or none as soon as it may be.
func awake() map[string]string {
	return map[string]string{"autoscaling.knative.dev/min-scale": "1", "autoscaling.knative.dev/max-scale": "1"}
}

func drowsy() map[string]string {
	return map[string]string{
		"autoscaling.knative.dev/min-scale": "0", "autoscaling.knative.dev/max-scale": "1",
		"autoscaling.knative.dev/window": "6s", "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "0s",
	}
}

// scale tells it to both Services.
func (s *serving) scale(t *testing.T, annotations map[string]string) {
	t.Helper()
	s.rescale(t, "peer", annotations)
	var flags []string
	for name, value := range annotations {
		flags = append(flags, "--annotation", name+"="+value)
	}
	s.deploy(t, served, flags...)
	s.answers(t, "peer", served)
	s.answers(t, "iris", served)
}

// rescale tells it to a Service that is not ours.
func (s *serving) rescale(t *testing.T, name string, annotations map[string]string) {
	t.Helper()
	values, err := json.Marshal(annotations)
	if err != nil {
		t.Fatal(err)
	}
	patch := fmt.Sprintf(`{"spec": {"template": {"metadata": {"annotations": %s}}}}`, values)
	s.kubectl(t, "patch", "services.serving.knative.dev", name, "--type=merge", "--patch", patch)
	s.kubectl(t, "wait", "services.serving.knative.dev", name, "--for=condition=Ready", "--timeout=5m")
}

// question is something that is asked of a Service, and fails where the answer is not right.
type question func(ctx context.Context) error

// predicts asks for a prediction.
func (s *serving) predicts(name string) question {
	return func(ctx context.Context) error {
		body, err := s.exchange(ctx, s.client, name, http.MethodPost, "/invocations", s.request)
		if err != nil {
			return err
		}
		if version, err := s.versionOf(body); err != nil || version != served {
			return fmt.Errorf("%s answers as version %q: %w", name, version, err)
		}
		return nil
	}
}

// gets asks for what no model has to do with.
func (s *serving) gets(name, path string) question {
	return func(ctx context.Context) error {
		_, err := s.exchange(ctx, s.client, name, http.MethodGet, path, "")
		return err
	}
}

// contest is the same question to each way, and what the floor is asked.
func (s *serving) contest() (floor, peer, ours question) {
	return s.gets("iris", "/ping"), s.predicts("peer"), s.predicts("iris")
}

// latency is of one client.
func (s *serving) latency(t *testing.T) {
	middle := row{what: "prediction through the gateway, one client, median of 500", unit: "ms", digits: 2}
	slow := row{what: "the same, 99th percentile of 500", unit: "ms", digits: 2}
	floor, peer, ours := s.contest()
	turn := func(ask question, middle, slow *way) {
		times := s.times(t, ask)
		middle.values = append(middle.values, times[len(times)/2])
		slow.values = append(slow.values, times[len(times)*99/100])
	}
	for range rounds(t, 3) {
		turn(floor, &middle.floor, &slow.floor)
		turn(peer, &middle.peer, &slow.peer)
		turn(ours, &middle.ours, &slow.ours)
	}
	for _, r := range []row{middle, slow} {
		r.floor.name, r.peer.name = "`GET /ping` of the same server", "mlflow-knative's Service"
		r.print(t)
	}
}

// times are how long 500 answers took, in ms, the shortest first.
func (s *serving) times(t *testing.T, ask question) (times []float64) {
	t.Helper()
	const asked, before = 500, 20 // the first ones find connections and caches cold
	for i := range before + asked {
		began := time.Now()
		if err := ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i >= before {
			times = append(times, time.Since(began).Seconds()*1000)
		}
	}
	return slices.Sorted(slices.Values(times))
}

// throughput is of clients side by side.
func (s *serving) throughput(t *testing.T) {
	floor, peer, ours := s.contest()
	measure := func(ask question) func(t *testing.T) float64 {
		return func(t *testing.T) float64 { t.Helper(); return s.rate(t, ask) }
	}
	row{
		what: fmt.Sprintf("predictions, %d clients side by side (more is better)", clients), unit: "/s", digits: 0,
		floor: way{name: "`GET /ping` of the same server", once: measure(floor)},
		peer:  way{name: "mlflow-knative's Service", once: measure(peer)},
		ours:  way{once: measure(ours)},
	}.measure(t, 3)
}

// rate is how many questions are answered in a second. All that were asked have to be.
func (s *serving) rate(t *testing.T, ask question) float64 {
	t.Helper()
	const long = 5 * time.Second
	var running sync.WaitGroup
	counts, errs := make([]int, clients), make([]error, clients)
	began := time.Now()
	for i := range clients {
		running.Go(func() {
			for ; time.Since(began) < long && errs[i] == nil; counts[i]++ {
				errs[i] = ask(t.Context())
			}
		})
	}
	running.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("a request was lost: %v", err)
	}
	answered := 0
	for _, count := range counts {
		answered += count
	}
	return float64(answered) / took.Seconds()
}

// importingService is a Service that does nothing else than what every start of a scikit-learn model does before it can read the model.
const importingService = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: importing}
spec:
  template:
    spec:
      containers:
      - image: %s
        command: [python, -c, %q]
`

// coldStart is from a request to a Service that has no pods to its answer.
func (s *serving) coldStart(t *testing.T) {
	program := `import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
` + importing + `
http.server.HTTPServer(("", 8080), http.server.SimpleHTTPRequestHandler).serve_forever()`
	s.kubectl(t, "apply", "-f", write(t, "importing.yaml", fmt.Sprintf(importingService, s.image(t), program)))
	s.rescale(t, "importing", drowsy())
	asleep := func(name string, ask question) func(t *testing.T) float64 {
		return func(t *testing.T) float64 {
			t.Helper()
			s.kubectl(t, "wait", "pod", "-l", "serving.knative.dev/service="+name, "--for=delete", "--timeout=5m")
			return seconds(func() {
				if err := ask(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	row{
		what: "first prediction of a model that was scaled to zero", unit: "s", digits: 2,
		floor: way{name: "a Service that imports MLflow and scikit-learn, and loads nothing", once: asleep("importing", s.gets("importing", "/"))},
		peer:  way{name: "mlflow-knative's Service", once: asleep("peer", s.predicts("peer"))},
		ours:  way{once: asleep("iris", s.predicts("iris"))},
	}.measure(t, 3)
}

// tenModels are new deployments of models that have one environment.
func (s *serving) tenModels(t *testing.T) {
	var names []string
	for i := range 10 {
		name := fmt.Sprintf("model-%d", i)
		if err := os.CopyFS(filepath.Join(s.directory, name), os.DirFS(filepath.Join(s.directory, served))); err != nil {
			t.Fatal(err)
		}
		again(t, filepath.Join(s.directory, name))
		names = append(names, name)
	}
	row{
		what: "ten models of one environment, new deployments, to the last one's first prediction", unit: "s", digits: 1,
		floor: way{name: "ten bare pods of the image at once, that import MLflow and scikit-learn", once: func(t *testing.T) float64 { t.Helper(); return s.pods(t, len(names)) }},
		peer: way{name: "for each `build_docker`, warm, `docker push`, `kubectl apply`", once: func(t *testing.T) float64 {
			defer s.remove(t, names)
			return seconds(func() { s.oneByOne(t, names) })
		}},
		ours: way{name: "`deploy -f`", once: func(t *testing.T) float64 {
			defer s.remove(t, names)
			return seconds(func() { s.together(t, names) })
		}},
	}.measure(t, 1)
}

// together deploys the models by one file. A node of two cores has no room for ten pods that each ask for a tenth of one.
func (s *serving) together(t *testing.T, names []string) {
	t.Helper()
	var file strings.Builder
	fmt.Fprintf(&file, "defaults: {imageRepository: %s/models/iris, baseImage: %s, requests: {cpu: 10m}}\ndeployments:\n", s.Registry, s.BaseImage)
	for _, name := range names {
		fmt.Fprintf(&file, "- {name: %s, modelURI: %s}\n", name, filepath.Join(s.directory, name))
	}
	s.mlflow(t, "deploy", "-f", write(t, "models.yaml", file.String()))
	for _, name := range names {
		s.answers(t, name, served)
	}
}

// oneByOne waits for no Service before it builds the next image, and asks each as soon as it is ready: later it may have scaled to zero.
func (s *serving) oneByOne(t *testing.T, names []string) {
	t.Helper()
	var starting sync.WaitGroup
	for _, name := range names {
		image, _ := s.engine.buildDocker(t, filepath.Join(s.directory, name))
		manifest := strings.Replace(fmt.Sprintf(peerService, image), "name: peer", "name: "+name, 1)
		s.kubectl(t, "apply", "-f", write(t, name+".yaml", manifest))
		starting.Go(func() {
			r := s.run(t, nil, s.Kubectl, "-n", s.namespace, "wait", "services.serving.knative.dev", name, "--for=condition=Ready", "--timeout=5m")
			if version, err := s.askName(t.Context(), name); err != nil || version != served {
				t.Errorf("%s answers as version %q: %v\n%s", name, version, err, r.stderr)
			}
		})
	}
	starting.Wait()
}

// remove has the Services and their pods gone.
func (s *serving) remove(t *testing.T, names []string) {
	t.Helper()
	s.kubectl(t, append([]string{"delete", "services.serving.knative.dev"}, names...)...)
	s.kubectl(t, "wait", "pod", "-l", "serving.knative.dev/service in ("+strings.Join(names, ",")+")", "--for=delete", "--timeout=6m")
}
