//go:build e2e && bench

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// peerService is the Service that mlflow-knative makes of an image, at its best: one worker, and without the nginx that MLflow puts before
// its server.
const peerService = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: peer}
spec:
  template:
    spec:
      containers:
      - image: %s
        ports: [{containerPort: 8000}]
        env:
        - {name: DISABLE_NGINX, value: "true"}
        - {name: UVICORN_HOST, value: 0.0.0.0}
        - {name: MLFLOW_MODELS_WORKERS, value: "1"}
        readinessProbe: {httpGet: {path: /version, port: 8000}}
`

// TestBenchVersions is what a data scientist waits for between a version of a model and its first correct prediction, against MLflow's
// build_docker, a push and mlflow-knative's Service. The environment is on the node.
func TestBenchVersions(t *testing.T) {
	v := newVersions(t, "e2e-bench")
	v.deploy(t, "3")
	v.peer(t, v.buildPeer(t, "3"), "3")
	t.Run("further", v.further)
	t.Run("redeploy", v.redeploy)
	t.Run("rollback", v.rollback)
}

type versions struct {
	*models
	engine *engine
	turn   int
}

// newVersions makes a namespace for ours and the peer's.
func newVersions(t *testing.T, namespace string) *versions {
	t.Helper()
	l := openLab(t)
	m := &models{installed: l.namespace(t, namespace), directory: t.TempDir()}
	v := &versions{models: m, engine: newEngine(t, &store{lab: l, host: l.Registry})}
	m.create(t)
	m.kubectl(t, "label", "namespace", m.namespace, "pod-security.kubernetes.io/enforce-") // the peer's pods are not restricted
	m.train(t)
	return v
}

// next changes the model of the next turn, and says which version it is.
func (v *versions) next(t *testing.T) string {
	t.Helper()
	version := fmt.Sprint(v.turn%3 + 1)
	again(t, filepath.Join(v.directory, version))
	return version
}

// buildPeer makes and pushes the peer's image of a version.
func (v *versions) buildPeer(t *testing.T, version string) (image string) {
	t.Helper()
	image, _ = v.engine.buildDocker(t, filepath.Join(v.directory, version))
	return image
}

// peer applies the peer's Service, and asks until a version answers.
func (v *versions) peer(t *testing.T, image, version string) {
	t.Helper()
	v.kubectl(t, "apply", "-f", write(t, "peer.yaml", fmt.Sprintf(peerService, image)))
	v.answers(t, "peer", version)
}

// answers asks until a version answers. Until it is there another one does, or none.
func (v *versions) answers(t *testing.T, name, version string) {
	t.Helper()
	began := time.Now()
	for answered := ""; answered != version; {
		var err error
		if answered, err = v.askName(t.Context(), name); time.Since(began) > 5*time.Minute {
			t.Fatalf("%s does not answer as version %s does: %s, %v", name, version, answered, err)
		}
	}
}

// further has the phases of ours, too, and what a pod of the model takes that nothing but the kubelet has to do with.
func (v *versions) further(t *testing.T) {
	phases := map[string]*way{}
	row{
		what: "further version of a deployed model, its example asked first, to its first correct prediction", unit: "s", digits: 2,
		floor: way{name: "a bare pod of its image, that imports MLflow and scikit-learn", once: v.pod},
		peer: way{name: "`build_docker`, warm, `docker push`, mlflow-knative's Service", once: func(t *testing.T) float64 {
			version := v.next(t)
			return seconds(func() { v.peer(t, v.buildPeer(t, version), version) })
		}},
		ours: way{once: func(t *testing.T) float64 {
			version := v.next(t)
			v.turn++
			var out result
			took := seconds(func() {
				out = v.lab.mlflow(t, v.deployment(version, "-o", "json")...)
				v.serves(t, version)
			})
			var deployed struct{ Timings map[string]time.Duration }
			if err := json.Unmarshal([]byte(out.stdout), &deployed); err != nil {
				t.Fatal(err)
			}
			for phase, took := range deployed.Timings {
				if phases[phase] == nil {
					phases[phase] = &way{}
				}
				phases[phase].values = append(phases[phase].values, took.Seconds())
			}
			return took
		}},
	}.measure(t, 5)
	var parts []string
	for _, phase := range []string{"resolve", "environment", "model", "apply", "ready", "verify", "traffic"} {
		if w := phases[phase]; w != nil && w.median() > 0 {
			parts = append(parts, fmt.Sprintf("%s %.2f s", phase, w.median()))
		}
	}
	t.Logf("- A further version's phases, medians: %s.", strings.Join(parts, ", "))
}

// importing is what every start of a scikit-learn model does before it can read the model.
const importing = "import mlflow.pyfunc, sklearn.linear_model"

// image is what the deployment runs.
func (v *versions) image(t *testing.T) string {
	t.Helper()
	return v.kubectl(t, "get", "revisions.serving.knative.dev", "-l", "serving.knative.dev/service=iris", "--sort-by=.metadata.creationTimestamp", "-o", "jsonpath={.items[-1:].spec.containers[0].image}")
}

// pod runs a container of the deployment's image to its end: nothing but its start, and Python's.
func (v *versions) pod(t *testing.T) float64 {
	t.Helper()
	return v.pods(t, 1)
}

// pods runs n of them side by side.
func (v *versions) pods(t *testing.T, n int) float64 {
	t.Helper()
	image := v.image(t)
	var manifest strings.Builder
	for i := range n {
		fmt.Fprintf(&manifest, `---
apiVersion: v1
kind: Pod
metadata: {name: bare-%d, labels: {run: bare}}
spec: {restartPolicy: Never, containers: [{name: bare, image: %q, command: [python, -c, %q]}]}
`, i, image, importing)
	}
	defer v.kubectl(t, "delete", "pod", "-l", "run=bare", "--now")
	return seconds(func() {
		v.kubectl(t, "create", "-f", write(t, "bare.yaml", manifest.String()))
		v.kubectl(t, "wait", "pod", "-l", "run=bare", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=5m")
	})
}

// redeploy is of what is deployed already.
func (v *versions) redeploy(t *testing.T) {
	directory := filepath.Join(v.directory, "1")
	image, _ := v.engine.buildDocker(t, directory)
	v.deploy(t, "1")
	v.peer(t, image, "1")
	row{
		what: "unchanged model deployed again", unit: "s", digits: 2,
		floor: way{name: "`kubectl get` of the Service", once: func(t *testing.T) float64 {
			return seconds(func() { v.kubectl(t, "get", "services.serving.knative.dev", "iris", "-o", "yaml") })
		}},
		peer: way{name: "`build_docker`, all of it cached, `docker push`, `kubectl apply`", once: func(t *testing.T) float64 {
			took := v.engine.buildAs(t, directory, image)
			return took.Seconds() + seconds(func() { v.peer(t, image, "1") })
		}},
		ours: way{once: func(t *testing.T) float64 {
			return seconds(func() {
				if r := v.lab.mlflow(t, v.deployment("1")...); !strings.Contains(r.stderr, "nothing changed") {
					t.Errorf("it was not unchanged:\n%s", r.stderr)
				}
			})
		}},
	}.measure(t, 5)
}

// rollback is to the revision before, right after it had the requests, and again when its pods have ended. The floor is of a Service of its
// own, which is left alone otherwise.
func (v *versions) rollback(t *testing.T) {
	images := map[string]string{"1": v.buildPeer(t, "1"), "2": v.buildPeer(t, "2")}
	revisions := map[string]string{}
	for _, version := range []string{"1", "2"} {
		v.kubectl(t, "apply", "-f", write(t, "patched.yaml", strings.Replace(fmt.Sprintf(peerService, images[version]), "name: peer", "name: patched", 1)))
		v.answers(t, "patched", version)
		revisions[version] = v.kubectl(t, "get", "services.serving.knative.dev", "patched", "-o", "jsonpath={.status.latestReadyRevisionName}")
		v.deploy(t, version)
	}
	patch := func(t *testing.T, version string) {
		patch := fmt.Sprintf(`{"spec": {"traffic": [{"revisionName": %q, "percent": 100}]}}`, revisions[version])
		v.kubectl(t, "patch", "services.serving.knative.dev", "patched", "--type=merge", "--patch", patch)
		v.answers(t, "patched", version)
	}
	peer := func(t *testing.T, version string) { v.peer(t, images[version], version) }
	ours := func(t *testing.T, version string) {
		v.lab.mlflow(t, "rollback", "iris", "-n", v.namespace)
		v.answers(t, "iris", version)
	}
	backAndForth := func(to func(t *testing.T, version string)) func(t *testing.T) float64 {
		return func(t *testing.T) float64 {
			to(t, "1")
			return seconds(func() { to(t, "2") })
		}
	}
	row{
		what: "rollback at once, to the first prediction of the version before", unit: "s", digits: 2,
		floor: way{name: "`kubectl patch` of the traffic to a revision whose name is known", once: backAndForth(patch)},
		peer:  way{name: "mlflow-knative's Service with the image before", once: backAndForth(peer)},
		ours:  way{once: backAndForth(ours)},
	}.measure(t, 3)

	other := map[string]string{"1": "2", "2": "1"}
	to := "2"
	row{
		what: "rollback when its pods have ended, to the first prediction of the version before", unit: "s", digits: 2,
		floor: way{name: "a bare pod of its image, that imports MLflow and scikit-learn", once: v.pod},
		peer: way{name: "mlflow-knative's Service with the image before", once: func(t *testing.T) float64 {
			return seconds(func() { peer(t, other[to]) })
		}},
		ours: way{once: func(t *testing.T) float64 {
			to = other[to]
			v.ended(t, to)
			return seconds(func() { ours(t, to) })
		}},
	}.measure(t, 2)
}

// ended waits for the pods to go of the revision that has no requests.
func (v *versions) ended(t *testing.T, version string) {
	t.Helper()
	var shares struct {
		Status struct {
			Traffic []struct{ RevisionName string }
		}
	}
	if err := json.Unmarshal([]byte(v.kubectl(t, "get", "services.serving.knative.dev", "iris", "-o", "json")), &shares); err != nil || len(shares.Status.Traffic) != 1 {
		t.Fatalf("the traffic before version %s gets it: %+v, %v", version, shares, err)
	}
	v.kubectl(t, "wait", "pods", "-l", "serving.knative.dev/service=iris,serving.knative.dev/revision!="+shares.Status.Traffic[0].RevisionName,
		"--for=delete", "--timeout=10m")
}
