//go:build e2e && bench

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestBenchMany is what many models cost, on an API server without nodes. What Knative's controller has to do with it is done by a double at once.
func TestBenchMany(t *testing.T) {
	s := newStore(t)
	m := &many{store: s, api: newAPIServer(t, s.lab)}
	t.Run("list", m.list)
	t.Run("deploy", m.deploy)
}

type many struct {
	*store
	api *apiServer
}

const services = "/apis/serving.knative.dev/v1/namespaces/%s/services"

// namespace makes one, which goes with the API server.
func (m *many) namespace(t *testing.T, name string) {
	t.Helper()
	if err := m.api.create(t.Context(), "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name}}); err != nil {
		t.Fatal(err)
	}
}

func (m *many) list(t *testing.T) {
	const namespace, n = "listed", 1000
	m.namespace(t, namespace)
	ready := controller(t, m.api, namespace)
	var making sync.WaitGroup
	for part := range 8 {
		making.Go(func() {
			for i := part; i < n; i += 8 {
				if err := m.api.create(t.Context(), fmt.Sprintf(services, namespace), model(fmt.Sprintf("model-%04d", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	making.Wait()
	ready(t, n)
	lines := func(t *testing.T, program string, args ...string) float64 {
		t.Helper()
		var r result
		took := seconds(func() { r = m.api.run(t, nil, program, append(args, "-n", namespace)...) })
		if got := strings.Count(r.stdout, "\n"); r.code != 0 || got != n+1 {
			t.Fatalf("%s %s: exit %d, %d lines", program, args, r.code, got)
		}
		return took
	}
	row{
		what: "list of 1,000 deployed models", unit: "s", digits: 2,
		floor: way{name: "one GET of them", once: func(t *testing.T) float64 {
			return seconds(func() {
				if err := m.api.get(t.Context(), fmt.Sprintf(services, namespace), nil); err != nil {
					t.Fatal(err)
				}
			})
		}},
		peer: way{name: "`kubectl get ksvc -o wide`", once: func(t *testing.T) float64 { return lines(t, m.Kubectl, "get", "ksvc", "-o", "wide") }},
		ours: way{once: func(t *testing.T) float64 { return lines(t, m.Kubectl, "mlflow", "deployments", "list") }},
	}.measure(t, 7)
}

// model is a Service as deploy makes it, in short.
func model(name string) map[string]any {
	annotations := map[string]any{"mlflow.kubectl/model-uri": "models:/" + name + "/1", "mlflow.kubectl/model-version": "1"}
	return map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"app.kubernetes.io/managed-by": "kubectl-mlflow"}, "annotations": annotations},
		"spec": map[string]any{"template": map[string]any{
			"metadata": map[string]any{"annotations": annotations},
			"spec": map[string]any{"containers": []any{map[string]any{
				"image": "registry.example.com/models@sha256:" + strings.Repeat("0", 64), "ports": []any{map[string]any{"containerPort": 8080}},
				"env": []any{map[string]any{"name": "KUBECTL_MLFLOW_MODEL_NAME", "value": name}},
			}}},
		}},
	}
}

// fifty is how many models a file declares.
const fifty = 50

// deploy has a namespace for each round, with the same models, whose images are in the registry: what is measured is the declaring.
func (m *many) deploy(t *testing.T) {
	entries := m.models(t)
	file := write(t, "models.yaml", fmt.Sprintf("set: many\ndefaults: {imageRepository: %s/many, baseImage: %s, platform: linux/amd64}\ndeployments:\n%s", m.host, m.BaseImage, entries))
	var plain []map[string]any
	var manifests bytes.Buffer
	for i := range fifty {
		plain = append(plain, model(fmt.Sprintf("model-%02d", i)))
		if err := json.NewEncoder(&manifests).Encode(plain[i]); err != nil { // which is YAML
			t.Fatal(err)
		}
		manifests.WriteString("---\n")
	}
	applied := write(t, "services.yaml", manifests.String())
	round := 0
	fresh := func(t *testing.T, who string) (namespace string, ready func(*testing.T, int)) {
		t.Helper()
		round++
		namespace = fmt.Sprintf("%s-%d", who, round)
		m.namespace(t, namespace)
		return namespace, controller(t, m.api, namespace)
	}
	ours := func(t *testing.T, namespace string) {
		t.Helper()
		if r := m.api.run(t, nil, m.Kubectl, "mlflow", "deploy", "-n", namespace, "-f", file, "--no-verify"); r.code != 0 {
			t.Fatalf("deploy -f: exit %d\n%s", r.code, r.stderr)
		}
	}
	warm, _ := fresh(t, "warm") // images
	ours(t, warm)
	first := row{what: "50 models declared in a file, whose images are there, until all are ready", unit: "s", digits: 2}
	again := row{what: "the same file again, with nothing changed", unit: "s", digits: 2}
	var applying way
	for range rounds(t, 3) {
		namespace, ready := fresh(t, "plain")
		path := fmt.Sprintf(services, namespace)
		first.floor.values = append(first.floor.values, seconds(func() {
			for _, service := range plain {
				if err := m.api.create(t.Context(), path, service); err != nil {
					t.Fatal(err)
				}
			}
			ready(t, fifty)
		}))
		again.floor.values = append(again.floor.values, seconds(func() {
			if err := m.api.get(t.Context(), path, nil); err != nil {
				t.Fatal(err)
			}
		}))
		namespace, _ = fresh(t, "kubectl")
		apply := func() {
			applying.values = append(applying.values, seconds(func() { m.api.kubectl(t, "apply", "-n", namespace, "-f", applied) }))
			m.api.kubectl(t, "wait", "-n", namespace, "ksvc", "--all", "--for=condition=Ready")
		}
		first.peer.values = append(first.peer.values, seconds(apply))
		again.peer.values = append(again.peer.values, seconds(apply))
		namespace, _ = fresh(t, "ours")
		first.ours.values = append(first.ours.values, seconds(func() { ours(t, namespace) }))
		again.ours.values = append(again.ours.values, seconds(func() { ours(t, namespace) }))
	}
	first.floor.name, again.floor.name = "50 POSTs on one connection, and the double of Knative's controller", "one GET of them"
	for _, r := range []row{first, again} {
		r.peer.name = "`kubectl apply -f` and `kubectl wait` of Services whose images are known"
		r.print(t)
	}
	t.Logf("- Of kubectl's way to 50 Services, `kubectl apply` takes %.2f s (n=%d), and `kubectl wait` the rest.", applying.median(), len(applying.values))
}

// models are entries of a file for as many directories, each with a model of its own.
func (m *many) models(t *testing.T) (entries string) {
	t.Helper()
	base, all := m.logged(t), strings.Builder{}
	for i := range fifty {
		dir := filepath.Join(t.TempDir(), "model")
		if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "number"), fmt.Append(nil, i), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "- {name: model-%02d, modelURI: %s}\n", i, dir)
	}
	return all.String()
}

// controller does to a namespace's Services what Knative's does, without pods, until the test ends. ready waits for as many.
func controller(t *testing.T, a *apiServer, namespace string) (ready func(t *testing.T, n int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{}, 1<<10)
	var running sync.WaitGroup
	running.Go(func() {
		defer close(done)
		err := a.watch(ctx, fmt.Sprintf(services, namespace), func(service object) error {
			did, err := a.reconcile(ctx, service)
			if did {
				done <- struct{}{}
			}
			return err
		})
		if ctx.Err() == nil {
			t.Errorf("the double of Knative's controller: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return func(t *testing.T, n int) {
		t.Helper()
		for range n {
			if _, ok := <-done; !ok {
				t.Fatal("the double of Knative's controller has ended")
			}
		}
	}
}

// object is what there is to know of a Service.
type object struct {
	Metadata struct {
		Name, Namespace, UID, ResourceVersion string
		Generation                            int64
	}
	Spec struct {
		Template struct {
			Metadata struct{ Annotations, Labels map[string]string }
			Spec     json.RawMessage
		}
		Traffic []map[string]any
	}
	Status struct{ ObservedGeneration int64 }
}

// reconcile makes a revision of the template, ready, and gives the Service the status that follows, where it has none yet.
func (a *apiServer) reconcile(ctx context.Context, service object) (did bool, err error) {
	meta, template := service.Metadata, service.Spec.Template
	if service.Status.ObservedGeneration == meta.Generation {
		return false, nil
	}
	revision := fmt.Sprintf("%s-%05d", meta.Name, meta.Generation)
	labels := map[string]string{"serving.knative.dev/service": meta.Name, "serving.knative.dev/serviceUID": meta.UID, "serving.knative.dev/configurationGeneration": fmt.Sprint(meta.Generation)}
	conditions := func(types ...string) (all []map[string]any) {
		for _, kind := range types {
			all = append(all, map[string]any{"type": kind, "status": "True"})
		}
		return all
	}
	revisions := "/apis/serving.knative.dev/v1/namespaces/" + meta.Namespace + "/revisions"
	made := map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Revision",
		"metadata": map[string]any{"name": revision, "annotations": template.Metadata.Annotations, "labels": labels}, "spec": template.Spec,
	}
	if err := a.create(ctx, revisions, made); err != nil {
		return false, err
	}
	patch := func(path string, status map[string]any) error {
		return a.send(ctx, "PATCH", path+"/status", map[string]any{"status": status}, nil)
	}
	if err := patch(revisions+"/"+revision, map[string]any{"observedGeneration": 1, "conditions": conditions("Ready")}); err != nil {
		return false, err
	}
	traffic := service.Spec.Traffic
	if len(traffic) == 0 {
		traffic = []map[string]any{{"latestRevision": true, "percent": 100}}
	}
	for _, target := range traffic {
		if target["revisionName"] == nil {
			target["revisionName"] = revision
		}
	}
	return true, patch(fmt.Sprintf(services, meta.Namespace)+"/"+meta.Name, map[string]any{
		"observedGeneration": meta.Generation, "latestCreatedRevisionName": revision, "latestReadyRevisionName": revision, "traffic": traffic,
		"url": "http://" + meta.Name + "." + meta.Namespace + ".models.example.com", "conditions": conditions("ConfigurationsReady", "Ready", "RoutesReady"),
	})
}
