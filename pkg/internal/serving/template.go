package serving

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"knative.dev/serving/pkg/apis/serving"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// service is s as a whole Knative Service: what is created where there is none, and what merge lays over one that is there.
func (s Spec) service() (*knative.Service, error) {
	if !strings.Contains(s.Image, "@sha256:") {
		return nil, fmt.Errorf("image %q of %s/%s: not by digest", s.Image, s.Namespace, s.Name)
	}
	template, err := s.template()
	if err != nil {
		return nil, err
	}
	annotations := maps.Clone(s.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[envKey] = strings.Join(slices.Sorted(maps.Keys(s.Env)), ",")
	if s.ModelName != "" {
		annotations[modelNameKey] = s.ModelName
	}
	return &knative.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: knative.SchemeGroupVersion.String(), Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name,
			Labels:      map[string]string{cluster.ManagedByLabel: cluster.FieldManager},
			Annotations: annotations,
		},
		Spec: knative.ServiceSpec{
			ConfigurationSpec: knative.ConfigurationSpec{Template: *template},
			RouteSpec:         knative.RouteSpec{Traffic: []knative.TrafficTarget{{LatestRevision: new(true), Percent: new(int64(100))}}},
		},
	}, nil
}

// template is the revision's, with the hash of all that decides its content.
func (s Spec) template() (*knative.RevisionTemplateSpec, error) {
	t := &knative.RevisionTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Annotations: maps.Clone(s.Annotations)},
		Spec: knative.RevisionSpec{PodSpec: corev1.PodSpec{
			Containers: []corev1.Container{s.container()},
			// The root file system is read-only; emptyDir is allowed by Knative's defaults since 1.10.
			Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		}},
	}
	if t.Annotations == nil {
		t.Annotations = map[string]string{}
	}
	content, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("template of %s/%s: %w", s.Namespace, s.Name, err)
	}
	sum := sha256.Sum256(content)
	t.Annotations[hashKey] = hex.EncodeToString(sum[:])
	if deadline := s.deadline(); deadline != "" {
		t.Annotations[serving.ProgressDeadlineAnnotationKey] = deadline
	}
	return t, nil
}

// deadline is how long Knative waits for the revision, "" for as long as the cluster's default says.
func (s Spec) deadline() string {
	if s.Timeout < time.Second {
		return ""
	}
	return s.Timeout.Truncate(time.Second).String()
}

func (s Spec) container() corev1.Container {
	env := make([]corev1.EnvVar, 0, len(s.Env))
	for name, value := range s.Env {
		env = append(env, corev1.EnvVar{Name: name, Value: value})
	}
	slices.SortFunc(env, func(a, b corev1.EnvVar) int { return cmp.Compare(a.Name, b.Name) })
	return corev1.Container{
		Image: s.Image,
		Ports: []corev1.ContainerPort{{Name: "http1", ContainerPort: s.Port, Protocol: corev1.ProtocolTCP}},
		Env:   env,
		// Asked every second, so that a new version answers as soon as it can; Knative's default costs up to ten seconds.
		// One worker that computes does not answer meanwhile: that is half a minute's patience, and no reason to lose the pod.
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: s.ReadyPath, Port: intstr.FromInt32(s.Port), Scheme: corev1.URISchemeHTTP}},
			PeriodSeconds:    1,
			TimeoutSeconds:   1,
			SuccessThreshold: 1,
			FailureThreshold: 30,
		},
		// What is idle: what a model needs above that is the user's to say, and is kept on an update.
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(100, resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(512<<20, resource.BinarySI),
		}},
		// Pod Security "restricted".
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			ReadOnlyRootFilesystem:   new(true),
			RunAsGroup:               new(int64(1000)),
			RunAsNonRoot:             new(true),
			RunAsUser:                new(int64(1000)),
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
	}
}

// Manifest is the Service as it would be created, for those who have it applied by another tool.
func (s Spec) Manifest() (map[string]any, error) {
	service, err := s.service()
	if err != nil {
		return nil, err
	}
	want, err := toUnstructured(service)
	if err != nil {
		return nil, err
	}
	on, err := s.overlays(want)
	if err != nil {
		return nil, err
	}
	on.lay(want.Object)
	return want.Object, nil
}

// toUnstructured is service as it is sent: without what Go's zero values would write. Knative names the container.
func toUnstructured(service *knative.Service) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(service)
	if err != nil {
		return nil, err
	}
	unstructured.RemoveNestedField(content, "status")
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(content, "spec", "template", "metadata", "creationTimestamp")
	containers, _, err := unstructured.NestedSlice(content, "spec", "template", "spec", "containers")
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		if container, ok := c.(map[string]any); ok && container["name"] == "" {
			delete(container, "name")
		}
	}
	return &unstructured.Unstructured{Object: content}, unstructured.SetNestedSlice(content, containers, "spec", "template", "spec", "containers")
}
