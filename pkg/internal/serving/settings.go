package serving

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"knative.dev/serving/pkg/apis/autoscaling"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// gpu is the resource that NVIDIA's device plugin offers.
const gpu = "nvidia.com/gpu"

// visibilityKey is the label of Services that only the cluster reaches.
const visibilityKey = "networking.knative.dev/visibility"

// Settings are what a user may say of how a model runs. What is not said stays as the Service has it, whoever has set it.
type Settings struct {
	// Requests and Limits are resources of the model's container: {"cpu": "500m", "memory": "2Gi"}.
	Requests map[string]string `json:"requests,omitempty"`
	Limits   map[string]string `json:"limits,omitempty"`
	// GPU is how many of NVIDIA's it gets; 0 takes them away.
	GPU *int64 `json:"gpu,omitempty"`
	// MinScale and MaxScale bound how many pods a version has. A MaxScale of 0 is no bound.
	MinScale *int64 `json:"minScale,omitempty"`
	MaxScale *int64 `json:"maxScale,omitempty"`
	// Concurrency is how many requests a pod gets at once; 0 is no bound.
	Concurrency *int64 `json:"concurrency,omitempty"`
	// ServingTimeout is how long a request may take, in whole seconds.
	ServingTimeout *metav1.Duration `json:"servingTimeout,omitempty"`
	// Env are variables of the model's container.
	Env map[string]string `json:"env,omitempty"`
	// EnvFrom name where further variables are from: secret/NAME or configmap/NAME.
	EnvFrom []string `json:"envFrom,omitempty"`
	// ServiceAccount that the pods run as.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// PullSecrets are names of Secrets with which the pods' images are pulled.
	PullSecrets []string `json:"pullSecrets,omitempty"`
	// Labels and Annotations are the Service's and its revisions', as far as Knative takes them there.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// ClusterLocal tells that only the cluster reaches the model.
	ClusterLocal *bool `json:"clusterLocal,omitempty"`
	// Without names what is to go.
	Without Without `json:"-"`
}

// Without are names of variables, labels and annotations that are taken away.
type Without struct{ Env, Labels, Annotations []string }

// Validate needs no network. failure.Invalid names the setting.
func (s Settings) Validate() error {
	for setting, values := range map[string]map[string]string{"requests": s.Requests, "limits": s.Limits} {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if q, err := resource.ParseQuantity(values[name]); err != nil || q.Sign() < 0 {
				return settingInvalid(setting, name+"="+values[name]+" is not a quantity", "write it as cpu=500m or memory=2Gi")
			}
		}
	}
	for _, n := range []struct {
		setting string
		value   *int64
	}{{"gpu", s.GPU}, {"min-scale", s.MinScale}, {"max-scale", s.MaxScale}, {"concurrency", s.Concurrency}} {
		if n.value != nil && *n.value < 0 {
			return settingInvalid(n.setting, strconv.FormatInt(*n.value, 10)+" is less than nothing", "write 0 or more")
		}
	}
	if s.MinScale != nil && s.MaxScale != nil && *s.MaxScale > 0 && *s.MinScale > *s.MaxScale {
		return settingInvalid("min-scale", fmt.Sprintf("%d is more than max-scale %d", *s.MinScale, *s.MaxScale), "lower it, or raise max-scale")
	}
	if t := s.ServingTimeout; t != nil && (t.Duration < time.Second || t.Duration%time.Second != 0) {
		return settingInvalid("serving-timeout", t.Duration.String()+" are no whole seconds", "write 30s or 5m")
	}
	return s.validateNames()
}

func (s Settings) validateNames() error {
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(s.Env)), s.Without.Env) {
		if errs := validation.IsEnvVarName(name); len(errs) > 0 {
			return settingInvalid("env", fmt.Sprintf("%q: %s", name, strings.Join(errs, "; ")), "write NAME=VALUE")
		}
	}
	for _, from := range s.EnvFrom {
		if _, err := envFrom(from); err != nil {
			return err
		}
	}
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(s.Labels)), slices.Sorted(maps.Keys(s.Annotations)), s.Without.Labels, s.Without.Annotations) {
		if errs := validation.IsQualifiedName(name); len(errs) > 0 {
			return settingInvalid("label or annotation", fmt.Sprintf("%q: %s", name, strings.Join(errs, "; ")), "write KEY=VALUE")
		}
		if reserved(name) {
			return settingInvalid("label or annotation", name+" says what this plugin knows of the deployment", "choose another key")
		}
	}
	return nil
}

func settingInvalid(setting, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "SettingInvalid", Object: setting, Message: message, Hint: hint}
}

// reserved tells the labels and annotations that are ours.
func reserved(key string) bool {
	return strings.HasPrefix(key, prefix) || key == RunIDKey || key == cluster.ManagedByLabel
}

func envFrom(from string) (corev1.EnvFromSource, error) {
	kind, name, _ := strings.Cut(from, "/")
	of := corev1.LocalObjectReference{Name: name}
	switch {
	case name == "" || len(validation.IsDNS1123Subdomain(name)) > 0:
	case kind == "secret":
		return corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: of}}, nil
	case kind == "configmap":
		return corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: of}}, nil
	}
	return corev1.EnvFromSource{}, settingInvalid("env-from", fmt.Sprintf("%q names nothing that holds variables", from), "write secret/NAME or configmap/NAME")
}

// service is a Service that says what the settings say, and no more.
func (s Settings) service() (*knative.Service, error) {
	service := &knative.Service{}
	template := &service.Spec.Template
	service.Labels, template.Labels = maps.Clone(s.Labels), maps.Clone(s.Labels)
	if s.ClusterLocal != nil && *s.ClusterLocal {
		set(&service.Labels, visibilityKey, "cluster-local")
	}
	for key, value := range s.Annotations {
		if !ofRevisionOnly(key) {
			set(&service.Annotations, key, value)
		}
		if !ofServiceOnly(key) {
			set(&template.Annotations, key, value)
		}
	}
	for key, n := range map[string]*int64{autoscaling.MinScaleAnnotationKey: s.MinScale, autoscaling.MaxScaleAnnotationKey: s.MaxScale} {
		if n != nil {
			set(&template.Annotations, key, strconv.FormatInt(*n, 10))
		}
	}
	template.Spec.ContainerConcurrency = s.Concurrency
	if s.ServingTimeout != nil {
		template.Spec.TimeoutSeconds = new(int64(s.ServingTimeout.Duration / time.Second))
	}
	template.Spec.ServiceAccountName = s.ServiceAccount
	for _, name := range s.PullSecrets {
		template.Spec.ImagePullSecrets = append(template.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	container, err := s.container()
	template.Spec.Containers = []corev1.Container{container}
	return service, err
}

func (s Settings) container() (corev1.Container, error) {
	var c corev1.Container
	for name, value := range s.Env {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
	}
	slices.SortFunc(c.Env, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	for _, from := range s.EnvFrom {
		source, err := envFrom(from)
		if err != nil {
			return c, err
		}
		c.EnvFrom = append(c.EnvFrom, source)
	}
	var err error
	if c.Resources.Requests, err = quantities(s.Requests); err != nil {
		return c, err
	}
	if c.Resources.Limits, err = quantities(s.Limits); err != nil {
		return c, err
	}
	if s.GPU != nil && *s.GPU > 0 {
		if c.Resources.Limits == nil {
			c.Resources.Limits = corev1.ResourceList{}
		}
		c.Resources.Limits[gpu] = *resource.NewQuantity(*s.GPU, resource.DecimalSI)
	}
	return c, nil
}

func quantities(values map[string]string) (corev1.ResourceList, error) {
	if len(values) == 0 {
		return nil, nil
	}
	list := corev1.ResourceList{}
	for name, value := range values {
		q, err := resource.ParseQuantity(value)
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w", name, value, err)
		}
		list[corev1.ResourceName(name)] = q
	}
	return list, nil
}

func set(values *map[string]string, key, value string) {
	if *values == nil {
		*values = map[string]string{}
	}
	(*values)[key] = value
}

// ofRevisionOnly and ofServiceOnly tell the annotations that Knative takes, or reads, in one of the two places.
func ofRevisionOnly(key string) bool {
	return slices.ContainsFunc([]string{"autoscaling.knative.dev/", "features.knative.dev/", "queue.sidecar.serving.knative.dev/", "serving.knative.dev/progress-deadline"},
		func(p string) bool { return strings.HasPrefix(key, p) })
}

func ofServiceOnly(key string) bool {
	return strings.HasPrefix(key, "networking.knative.dev/") || key == "serving.knative.dev/rollout-duration"
}

// remove takes away from service what the settings say is to go.
func (s Settings) remove(service map[string]any) {
	metadata, template := mapAt(service, "metadata"), mapAt(service, "spec", "template")
	for _, of := range []map[string]any{metadata, mapAt(template, "metadata")} {
		drop(mapAt(of, "labels"), s.Without.Labels...)
		drop(mapAt(of, "annotations"), s.Without.Annotations...)
	}
	if s.ClusterLocal != nil && !*s.ClusterLocal {
		drop(mapAt(metadata, "labels"), visibilityKey)
	}
	container := modelOf(service)
	if env, ok := container["env"].([]any); ok && len(s.Without.Env) > 0 {
		container["env"] = slices.DeleteFunc(slices.Clone(env), func(item any) bool { return slices.Contains(s.Without.Env, keyOf(item, "name")) })
	}
	if s.GPU != nil && *s.GPU == 0 {
		drop(mapAt(container, "resources", "limits"), gpu)
		drop(mapAt(container, "resources", "requests"), gpu)
	}
}

// mapAt is the map at a path; nil where there is none.
func mapAt(of map[string]any, path ...string) map[string]any {
	for _, field := range path {
		of, _ = of[field].(map[string]any)
	}
	return of
}

func drop(of map[string]any, keys ...string) {
	for _, key := range keys {
		delete(of, key)
	}
}
