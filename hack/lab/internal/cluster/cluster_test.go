package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
)

func TestDefaultCache(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"KUBECTL_MLFLOW_LAB_CACHE": "/c", "HOME": "/h"}, "/c"},
		{map[string]string{"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/kubectl-mlflow/lab"},
		{map[string]string{"HOME": "/h"}, "/h/.cache/kubectl-mlflow/lab"},
		{nil, ""},
	} {
		got, err := DefaultCache(func(name string) string { return test.env[name] })
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%v: %q, %v", test.env, got, err)
		}
	}
}

func TestLayoutOfProfilesAndNames(t *testing.T) {
	for _, test := range []struct {
		layout Layout
		run    string
		wrong  string
	}{
		{Layout{Cache: "/c", Profile: artifacts.Full}, "/c/run/full", ""},
		{Layout{Cache: "/c", Profile: artifacts.API}, "/c/run/api", ""},
		{Layout{Cache: "/c", Profile: artifacts.API, Name: "my-1"}, "/c/run/api-my-1", ""},
		{Layout{Cache: "/c", Profile: artifacts.API, Name: "../x"}, "", "letters"},
		{Layout{Cache: "/c", Profile: artifacts.Full, Name: "my"}, "", "only profile api"},
		{Layout{Cache: "/c", Profile: "half"}, "", "unknown profile"},
	} {
		err := test.layout.Validate()
		if test.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("%+v: %v", test.layout, err)
			}
			continue
		}
		if err != nil || test.layout.Run() != test.run {
			t.Errorf("%+v: %s, %v", test.layout, test.layout.Run(), err)
		}
	}
}

func TestCleanRemovesOnlyItsOwn(t *testing.T) {
	mine := filepath.Join(t.TempDir(), "cache")
	if err := EnsureCache(mine); err != nil {
		t.Fatal(err)
	}
	readOnly := filepath.Join(mine, "gomod")
	if err := os.Mkdir(readOnly, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(readOnly, "f"), nil, 0o400), os.Chmod(readOnly, 0o500)); err != nil { // #nosec G302 -- a folder
		t.Fatal(err)
	}
	for range 2 {
		if err := Clean(mine); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(mine); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cache is still there: %v", err)
	}

	others := t.TempDir()
	if err := os.WriteFile(filepath.Join(others, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := EnsureCache(others); err != nil {
		t.Fatal(err)
	}
	if err := Clean(others); err == nil {
		t.Error("somebody's folder was removed")
	}
	if _, err := os.Stat(filepath.Join(others, "thesis.tex")); err != nil {
		t.Error(err)
	}
}

func TestFullSpec(t *testing.T) {
	l := Layout{Cache: t.TempDir(), Profile: artifacts.Full}
	set := artifacts.Set{Bin: "/artifacts/bin", CNI: "/artifacts/cni", Registry: "/artifacts/registry", Key: "k"}
	spec := l.fullSpec(set)
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range spec.Components {
		names = append(names, c.Name)
		if filepath.Dir(c.Command[0]) != set.Bin {
			t.Errorf("%s is run from %s, not from the artifacts", c.Name, c.Command[0])
		}
		if len(c.Ready) == 0 {
			t.Errorf("nothing tells whether %s is ready", c.Name)
		}
	}
	// Ended from the last to the first: nothing may be ended before what uses it.
	if slices.Index(names, "kubelet") < slices.Index(names, "containerd") || slices.Index(names, "kube-apiserver") < slices.Index(names, "etcd") {
		t.Errorf("would end in the wrong order: %v reversed", names)
	}
	for _, m := range spec.Isolation.Mounts {
		if m.Type == "bind" && !strings.HasPrefix(m.Source, l.Run()) {
			t.Errorf("%s is backed by %s, outside the run folder", m.Target, m.Source)
		}
	}
}

func TestAPISpecNeedsNothingOfTheMachine(t *testing.T) {
	l := Layout{Cache: t.TempDir(), Profile: artifacts.API}
	endpoints, err := freeEndpoints()
	if err != nil {
		t.Fatal(err)
	}
	if endpoints.etcd == endpoints.etcdPeer || strings.HasSuffix(endpoints.etcd, ":"+endpoints.port) {
		t.Errorf("the same port twice: %+v", endpoints)
	}
	spec := l.apiSpec(artifacts.Set{Bin: "/artifacts/bin"}, endpoints)
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	if spec.Isolation != nil {
		t.Error("profile api would need root")
	}
}

func TestConfigurationIsWellFormed(t *testing.T) {
	l := Layout{Cache: t.TempDir(), Profile: artifacts.Full}
	if err := l.writeConfig(artifacts.Set{Bin: "/b", CNI: "/c"}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"kubelet.yaml", "registry.yaml", "cni/10-lab.conflist"} {
		text, err := os.ReadFile(filepath.Join(l.Run(), file)) // #nosec G304 -- a file of this test
		if err != nil {
			t.Fatal(err)
		}
		var parsed map[string]any
		if err := yaml.UnmarshalStrict(text, &parsed); err != nil || strings.Contains(string(text), "<no value>") {
			t.Errorf("%s: %v\n%s", file, err, text)
		}
	}
	for _, name := range append(mirrored(), Registry, example) {
		text, err := os.ReadFile(filepath.Join(l.Run(), "certs.d", name, "hosts.toml")) // #nosec G304 -- a file of this test
		if err != nil {
			t.Fatal(err)
		}
		// containerd 1.6 refuses a file without a host table, and falls back to https.
		if !strings.Contains(string(text), `[host."http://`+Registry) || strings.Contains(string(text), "https") {
			t.Errorf("images of %s: %s", name, text)
		}
	}
}

func TestTailor(t *testing.T) {
	list, err := parse([]byte(`# a comment
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: activator}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: activator}
spec: {template: {spec: {containers: [{name: a, resources: {requests: {cpu: 300m, memory: 60Mi}}}, {name: b}]}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-network}
data: {_example: text}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: local-path-config}
data: {config.json: '{"paths":["/opt/local-path-provisioner"]}'}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local-path}
`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := render(tailor(list))
	if err != nil {
		t.Fatal(err)
	}
	const want = `---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: activator
spec:
  template:
    spec:
      containers:
      - name: a
        resources:
          requests:
            cpu: 20m
            memory: 60Mi
      - name: b
        resources:
          requests:
            cpu: 20m
---
apiVersion: v1
data:
  _example: text
  ingress-class: kourier.ingress.networking.knative.dev
kind: ConfigMap
metadata:
  name: config-network
---
apiVersion: v1
data:
  config.json: '{"paths":["/var/lib/local-path-provisioner"]}'
kind: ConfigMap
metadata:
  name: local-path-config
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  annotations:
    storageclass.kubernetes.io/is-default-class: "true"
  name: local-path
`
	if string(got) != want {
		t.Errorf("tailored:\n%s", got)
	}
}

func TestNoObjectIsSentToAWebhookThatDoesNotRun(t *testing.T) {
	list := []object{{"kind": "A"}, {"kind": "MutatingWebhookConfiguration"}, {"kind": "B"}, {"kind": "ValidatingWebhookConfiguration"}, {"kind": "C"}}
	var kinds []string
	for _, o := range webhooksLast(list) {
		kinds = append(kinds, o.kind())
	}
	if got := strings.Join(kinds, " "); got != "A B C MutatingWebhookConfiguration ValidatingWebhookConfiguration" {
		t.Error(got)
	}
}

func TestEnvForAShell(t *testing.T) {
	e := Env{Profile: "api", Kubeconfig: "/it's/here", NodePID: 7}
	const want = `export KUBECONFIG='/it'\''s/here'
export LAB_PROFILE='api'
export LAB_NODE_PID='7'
`
	if got := e.Shell(); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestNothingIsUpInAnEmptyCache(t *testing.T) {
	l := Layout{Cache: t.TempDir(), Profile: artifacts.API}
	if _, err := l.Env(); !errors.Is(err, ErrDown) {
		t.Errorf("env: %v", err)
	}
	if _, err := l.Status(context.Background()); !errors.Is(err, ErrDown) {
		t.Errorf("status: %v", err)
	}
	if err := l.Down(context.Background()); err != nil {
		t.Errorf("down: %v", err)
	}
}

// answers is an API server that answers each path with a text, and everything else with 404.
func answers(t *testing.T, paths map[string]string) *client {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := paths[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			text = `{"message":"the server could not find the requested resource"}`
		}
		_, _ = fmt.Fprint(w, text)
	}))
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return &client{server: server.URL, http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}}
}

func TestChecksSayWhatIsNotReadyAndWhy(t *testing.T) {
	c := answers(t, map[string]string{
		"/version":          `{"gitVersion":"v1.34.4"}`,
		"/api/v1/nodes/lab": `{"status":{"conditions":[{"type":"Ready","status":"False","message":"cni plugin not initialized"}]}}`,
		"/apis/apps/v1/deployments": `{"items":[
			{"metadata":{"namespace":"kube-system","name":"coredns","generation":1},"spec":{"replicas":1},"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"readyReplicas":1}},
			{"metadata":{"namespace":"knative-serving","name":"webhook","generation":2},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"webhook"}}},"status":{"observedGeneration":1}},
			{"metadata":{"namespace":"users","name":"broken","generation":1},"spec":{"replicas":1},"status":{}}]}`,
		"/api/v1/namespaces/knative-serving/pods":                  `{"items":[{"status":{"containerStatuses":[{"name":"webhook","state":{"waiting":{"reason":"ErrImagePull","message":"not found"}}}]}}]}`,
		"/apis/storage.k8s.io/v1/storageclasses":                   `{"items":[{"metadata":{"name":"slow"}}]}`,
		"/apis/serving.knative.dev/v1/namespaces/default/services": `{"metadata":{"name":"lab-probe"}}`,
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	list := append([]Check{c.apiCheck(ctx), c.nodeCheck(ctx)}, c.deploymentChecks(ctx, systemNamespaces())...)
	list = append(list, c.storageCheck(ctx), c.webhookCheck(ctx))
	var got []string
	for _, check := range list {
		got = append(got, fmt.Sprintf("%s|%v|%s", check.Name, check.Ready, check.Detail))
	}
	want := []string{
		"API server|true|Kubernetes v1.34.4 at " + c.server,
		"node lab|false|cni plugin not initialized",
		"deployment kube-system/coredns|true|1 of 1 ready",
		"namespace local-path-storage|false|has no deployment yet",
		"deployment knative-serving/webhook|false|0 of 1 ready; ErrImagePull not found",
		"namespace kourier-system|false|has no deployment yet",
		"default StorageClass|false|there is none yet",
		"Knative webhook|false|is not called yet",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if left := pending(list); len(left) != 6 {
		t.Errorf("%d checks are pending: %v", len(left), left)
	}
}
