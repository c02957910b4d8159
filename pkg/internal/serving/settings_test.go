package serving

import (
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func allSettings() Settings {
	return Settings{
		Requests: map[string]string{"cpu": "1000m"}, Limits: map[string]string{"memory": "4096Mi"}, GPU: new(int64(2)),
		MinScale: new(int64(1)), MaxScale: new(int64(5)), Concurrency: new(int64(7)), ServingTimeout: &metav1.Duration{Duration: time.Minute},
		Env: map[string]string{"MODE": "fast"}, EnvFrom: []string{"secret/keys", "configmap/plain"}, ServiceAccount: "models", PullSecrets: []string{"pull"},
		Labels: map[string]string{"team": "blue"}, Annotations: map[string]string{"autoscaling.knative.dev/metric": "rps", "networking.knative.dev/http-protocol": "redirected", "owner": "ann"},
		ClusterLocal: new(true),
	}
}

func TestSettingsReachTheirPlaces(t *testing.T) {
	w := newWorld(t)
	s := iris("1")
	s.Settings = allSettings()
	apply(t, w, s)
	service := w.service()
	template := service.Spec.Template
	container := template.Spec.Containers[0]
	if service.Labels["networking.knative.dev/visibility"] != "cluster-local" || service.Labels["team"] != "blue" || template.Labels["team"] != "blue" || template.Labels["networking.knative.dev/visibility"] != "" {
		t.Errorf("labels are %v and %v", service.Labels, template.Labels)
	}
	if service.Annotations["owner"] != "ann" || template.Annotations["owner"] != "ann" || service.Annotations["autoscaling.knative.dev/metric"] != "" || template.Annotations["networking.knative.dev/http-protocol"] != "" ||
		template.Annotations["autoscaling.knative.dev/metric"] != "rps" || service.Annotations["networking.knative.dev/http-protocol"] != "redirected" ||
		template.Annotations["autoscaling.knative.dev/min-scale"] != "1" || template.Annotations["autoscaling.knative.dev/max-scale"] != "5" {
		t.Errorf("annotations are %v and %v", service.Annotations, template.Annotations)
	}
	if *template.Spec.ContainerConcurrency != 7 || *template.Spec.TimeoutSeconds != 60 || template.Spec.ServiceAccountName != "models" || template.Spec.ImagePullSecrets[0].Name != "pull" {
		t.Errorf("revision is %+v", template.Spec)
	}
	// What was not said of the requests is as it is for everybody.
	if r := container.Resources; r.Requests.Cpu().String() != "1" || r.Requests.Memory().String() != "512Mi" || r.Limits.Memory().String() != "4Gi" || r.Limits.Name(gpu, "").String() != "2" {
		t.Errorf("resources are %+v", container.Resources)
	}
	if len(container.EnvFrom) != 2 || container.EnvFrom[0].SecretRef.Name != "keys" || container.EnvFrom[1].ConfigMapRef.Name != "plain" || !hasEnv(container, "MODE", "fast") || !hasEnv(container, "WORKERS", "1") {
		t.Errorf("environment is %+v, from %+v", container.Env, container.EnvFrom)
	}

	if again := apply(t, w, s); again.Action != Unchanged {
		t.Errorf("the same settings again: %s", again.Action)
	}
	if without := apply(t, w, iris("1")); without.Action != Unchanged {
		t.Errorf("without a word on settings: %s, want them as they are", without.Action)
	}
}

func hasEnv(c corev1.Container, name, value string) bool {
	for _, v := range c.Env {
		if v.Name == name && v.Value == value {
			return true
		}
	}
	return false
}

func TestSettingMakesARevisionWhereItIsOne(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	s := iris("1")
	s.Settings = Settings{Limits: map[string]string{"cpu": "2"}}
	if a := apply(t, w, s); a.Action != Configured || a.Revision.Name != "iris-00002" {
		t.Errorf("more of a CPU: %+v", a)
	}
	s.Settings = Settings{ClusterLocal: new(true)}
	if a := apply(t, w, s); a.Action != Configured || a.Revision.Name != "iris-00002" {
		t.Errorf("who reaches it is no matter of a revision: %+v", a)
	}
}

func TestSettingsAreTakenAway(t *testing.T) {
	w := newWorld(t)
	s := iris("1")
	s.Settings = allSettings()
	apply(t, w, s)
	s.Settings = Settings{
		GPU: new(int64(0)), ClusterLocal: new(false), MinScale: new(int64(0)),
		Without: Without{Env: []string{"MODE"}, Labels: []string{"team"}, Annotations: []string{"owner"}},
	}
	apply(t, w, s)
	service := w.service()
	template := service.Spec.Template
	container := template.Spec.Containers[0]
	if _, there := container.Resources.Limits[gpu]; there || hasEnv(container, "MODE", "fast") || !hasEnv(container, "WORKERS", "1") || container.Resources.Limits.Memory().IsZero() {
		t.Errorf("container is %+v", container)
	}
	for _, left := range []string{
		service.Labels["networking.knative.dev/visibility"], service.Labels["team"], template.Labels["team"], service.Annotations["owner"], template.Annotations["owner"],
	} {
		if left != "" {
			t.Errorf("%q was left", left)
		}
	}
	if template.Annotations["autoscaling.knative.dev/min-scale"] != "0" {
		t.Errorf("annotations are %v", template.Annotations)
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	if err := allSettings().Validate(); err != nil {
		t.Error(err)
	}
	for object, s := range map[string]Settings{
		"requests":            {Requests: map[string]string{"cpu": "much"}},
		"limits":              {Limits: map[string]string{"memory": "-1Gi"}},
		"gpu":                 {GPU: new(int64(-1))},
		"min-scale":           {MinScale: new(int64(3)), MaxScale: new(int64(2))},
		"serving-timeout":     {ServingTimeout: &metav1.Duration{Duration: 1500 * time.Millisecond}},
		"env":                 {Env: map[string]string{"A B": ""}},
		"env-from":            {EnvFrom: []string{"keys"}},
		"label or annotation": {Annotations: map[string]string{"mlflow.kubectl/model-uri": "x"}},
	} {
		err := s.Validate()
		refused(t, err, failure.Invalid, "SettingInvalid")
		if !strings.Contains(err.Error(), object) {
			t.Errorf("%v does not name %s", err, object)
		}
	}
	w := newWorld(t)
	s := iris("1")
	s.Settings.Env = map[string]string{"WORKERS": "9"}
	_, err := New(w).Apply(t.Context(), s)
	refused(t, err, failure.Invalid, "SettingInvalid")
}

func TestSetTakesBackWhatItDeclaresNoMore(t *testing.T) {
	w := newWorld(t)
	s := iris("1")
	apply(t, w, s)
	before := w.service()
	s.Set = new("blue")
	s.Settings = allSettings()
	apply(t, w, s)
	w.edit(func(s *knative.Service) { s.Spec.Template.Annotations["autoscaling.knative.dev/window"] = "30s" })
	typed := iris("1")
	typed.Settings.Limits = map[string]string{"cpu": "2"}
	apply(t, w, typed)
	if a := apply(t, w, s); a.Action != Unchanged {
		t.Errorf("the declaration again: %+v", a)
	}
	s.Settings = Settings{Env: map[string]string{"MODE": "slow"}}
	apply(t, w, s)
	after := w.service()
	container := after.Spec.Template.Spec.Containers[0]
	if !hasEnv(container, "MODE", "slow") || len(container.EnvFrom) != 0 || !reflect.DeepEqual(container.Resources.Requests, before.Spec.Template.Spec.Containers[0].Resources.Requests) {
		t.Errorf("container is %+v", container)
	}
	if limits := container.Resources.Limits; len(limits) != 1 || limits.Cpu().String() != "2" {
		t.Errorf("limits are %v, want what was typed", limits)
	}
	annotations := after.Spec.Template.Annotations
	if annotations["autoscaling.knative.dev/min-scale"] != "" || annotations["owner"] != "" || annotations["autoscaling.knative.dev/window"] != "30s" || after.Labels["team"] != "" || after.Labels[setLabel] != "blue" {
		t.Errorf("annotations are %v, labels %v", annotations, after.Labels)
	}
	if spec := after.Spec.Template.Spec; spec.ServiceAccountName != "" || len(spec.ImagePullSecrets) != 0 || *spec.ContainerConcurrency != 0 {
		t.Errorf("revision is %+v", spec)
	}
}

const manifest = `
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: $name
  namespace: ${namespace}
  labels: {team: blue}
spec:
  template:
    metadata:
      annotations: {autoscaling.knative.dev/target: "10"}
    spec:
      timeoutSeconds: 120
      nodeSelector: {pool: $name-pool}
      containers:
      - image: $image
        args: ["costs $$5 of $names in $(POD_IP)"]
        env: [{name: WHERE, value: "${namespace}/$name"}]
        resources: {requests: {cpu: 1500m}}
        readinessProbe: {httpGet: {path: /ping}, periodSeconds: 3}
        volumeMounts: [{name: scratch, mountPath: /scratch}]
      - name: sidecar
        image: example.com/sidecar:1
      volumes:
      - name: scratch
        emptyDir: {sizeLimit: 1Gi}
`

func template(t *testing.T, text string) *Template {
	t.Helper()
	parsed, err := ParseTemplate("service.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestServiceTemplate(t *testing.T) {
	w := newWorld(t)
	s := iris("1")
	s.Template = template(t, manifest)
	apply(t, w, s)
	service := w.service()
	pod := service.Spec.Template.Spec
	model := pod.Containers[0]
	if model.Image != s.Image || pod.NodeSelector["pool"] != "iris-pool" || model.Args[0] != "costs $5 of $names in $(POD_IP)" || !hasEnv(model, "WHERE", "models/iris") || !hasEnv(model, "WORKERS", "1") {
		t.Errorf("model's container is %+v", model)
	}
	if model.ReadinessProbe.HTTPGet.Path != "/ping" || model.ReadinessProbe.PeriodSeconds != 3 || model.Resources.Requests.Cpu().String() != "1500m" || model.Resources.Requests.Memory().String() != "512Mi" {
		t.Errorf("probe %+v, resources %+v", model.ReadinessProbe, model.Resources)
	}
	if *pod.TimeoutSeconds != 120 || len(pod.Containers) != 2 || pod.Containers[1].Name != "sidecar" || len(pod.Volumes) != 2 || len(model.VolumeMounts) != 2 || !*model.SecurityContext.RunAsNonRoot {
		t.Errorf("pod is %+v", pod)
	}
	if service.Labels["team"] != "blue" || service.Spec.Template.Annotations["autoscaling.knative.dev/target"] != "10" || service.Annotations[VersionKey] != "1" {
		t.Errorf("service is %+v", service.ObjectMeta)
	}

	for name, again := range map[string]*Template{"the same": template(t, manifest), "none named": nil} {
		s.Template = again
		if a := apply(t, w, s); a.Action != Unchanged {
			t.Errorf("%s: %s", name, a.Action)
		}
	}
	s = iris("2")
	apply(t, w, s)
	if probe := w.service().Spec.Template.Spec.Containers[0].ReadinessProbe; probe.HTTPGet.Path != "/ping" || probe.PeriodSeconds != 3 {
		t.Errorf("the next version has lost the template: %+v", probe)
	}
}

func TestServiceTemplateIsTakenBack(t *testing.T) {
	w := newWorld(t)
	plain := iris("1")
	apply(t, w, plain)
	before := w.service().Spec.Template.Spec
	s := iris("1")
	s.Template = template(t, manifest)
	apply(t, w, s)
	w.edit(func(s *knative.Service) {
		s.Spec.Template.Spec.Containers[0].Env = append(s.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "MINE", Value: "1"})
	})
	s.Template = &Template{}
	apply(t, w, s)
	after := w.service()
	if kept := after.Annotations[templateKey]; kept != "" {
		t.Errorf("the Service still stands on %s", kept)
	}
	pod := after.Spec.Template.Spec
	if !hasEnv(pod.Containers[0], "MINE", "1") || hasEnv(pod.Containers[0], "WHERE", "models/iris") {
		t.Errorf("environment is %+v", pod.Containers[0].Env)
	}
	pod.Containers[0].Env = before.Containers[0].Env
	if pod.TimeoutSeconds = before.TimeoutSeconds; !reflect.DeepEqual(pod, before) {
		t.Errorf("pod is\n%+v\nwas\n%+v", pod, before)
	}
	if _, left := after.Labels["team"]; left || after.Spec.Template.Annotations["autoscaling.knative.dev/target"] != "" {
		t.Errorf("service is %+v", after.ObjectMeta)
	}
}

func TestServiceTemplateOnAServiceThatIsThere(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	s := iris("2")
	s.Template = template(t, strings.ReplaceAll(manifest, "- image: $image", "- name: model\n        image: ${image}"))
	s.Settings.Requests = map[string]string{"cpu": "3"}
	apply(t, w, s)
	model := w.service().Spec.Template.Spec.Containers[0]
	if model.Image != s.Image || model.Resources.Requests.Cpu().String() != "3" || len(w.service().Spec.Template.Spec.Containers) != 2 {
		t.Errorf("containers are %+v", w.service().Spec.Template.Spec.Containers)
	}
	if a := apply(t, w, s); a.Action != Unchanged {
		t.Errorf("again: %+v", a)
	}
}

func TestServiceTemplatesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"another kind":     {"kind: Service", "kind: Route", "Route"},
		"another API":      {"serving.knative.dev/v1", "v1", "of v1"},
		"two documents":    {"\napiVersion", "\na: b\n---\napiVersion", "2 documents"},
		"no YAML":          {"metadata:", "metadata: [", "not YAML"},
		"key twice":        {"timeoutSeconds: 120", "timeoutSeconds: 120\n      timeoutSeconds: 5", "timeoutSeconds"},
		"unknown field":    {"timeoutSeconds", "timeOut", "timeOut"},
		"another name":     {"name: $name\n", "name: wine\n", "metadata.name"},
		"traffic":          {"spec:\n  template", "spec:\n  traffic: []\n  template", "spec.traffic"},
		"status":           {"kind: Service", "kind: Service\nstatus: {}", "status"},
		"finalizers":       {"labels: {team", "finalizers: [a]\n  labels: {team", "metadata.finalizers"},
		"revision's name":  {"      annotations: {auto", "      name: iris-7\n      annotations: {auto", "spec.template.metadata.name"},
		"our annotation":   {"{autoscaling.knative.dev/target:", "{mlflow.kubectl/spec-hash:", "spec-hash"},
		"host's network":   {"timeoutSeconds: 120", "hostNetwork: true", "hostNetwork"},
		"host's path":      {"emptyDir: {sizeLimit: 1Gi}", "hostPath: {path: /}", "hostPath"},
		"privileged":       {"resources: {requests", "securityContext: {privileged: true}\n        resources: {requests", "privileged"},
		"another image":    {"$image", "example.com/model:1", "0 containers"},
		"every image ours": {"example.com/sidecar:1", "$image", "2 containers"},
	} {
		_, err := ParseTemplate("service.yaml", []byte(strings.Replace(manifest, c.from, c.to, 1)))
		if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "service.yaml") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := iris("1")
	s.Template = template(t, strings.Replace(manifest, "name: WHERE", "name: WORKERS", 1))
	_, err := New(newWorld(t)).Apply(t.Context(), s)
	refused(t, err, failure.Invalid, "SettingInvalid")
	s.Template = template(t, strings.Replace(manifest, "resources:", "ports: [{containerPort: 9000}]\n        resources:", 1))
	_, err = New(newWorld(t)).Apply(t.Context(), s)
	refused(t, err, failure.Invalid, "SettingInvalid")
}

func TestNothingThatIsFilledInBecomesYAML(t *testing.T) {
	s := iris("1")
	s.Namespace = "a\": {evil: true}\n---\nb: &x"
	filled := fill(map[string]any{"k": []any{"$namespace", "${namespace}$$name", "$namespaces", 5}}, map[string]string{"name": s.Name, "namespace": s.Namespace})
	want := map[string]any{"k": []any{s.Namespace, s.Namespace + "$name", "$namespaces", 5}}
	if !reflect.DeepEqual(filled, want) {
		t.Errorf("%q", filled)
	}
}
