// Package check asks in pods like MLflow's whether it can do its work, and says what to do where it cannot.
package check

import (
	_ "embed" // for check.py
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

//go:embed check.py
var script string

const (
	// Container is the one of the Jobs' pods that says what it found.
	Container = "check"

	component      = "app.kubernetes.io/component"
	databaseClient = "mlflow.kubectl/database-client"
	// afterwards is how long a Job stays where nobody was left to delete it.
	afterwards = 5 * time.Minute
)

// The names of the checks, as check.py has them.
const (
	Artifacts = "artifacts"
	Database  = "database"
	Door      = "door"
)

// The states of a check, as check.py has them; Open and Closed are those of a door.
const (
	Pending = "pending"
	OK      = "ok"
	Failed  = "failed"
	Open    = "open"
	Closed  = "closed"
)

// Found is what a check says of one of the things that it tries.
type Found struct {
	Check    string `json:"check"`
	State    string `json:"state"`
	Reason   string `json:"reason"` // of what is not ok; see Explain
	Detail   string `json:"detail"` // in the words of whoever refused
	Where    string `json:"where"`  // the store or the database
	Identity string `json:"identity"`
	Step     string `json:"step"` // write, read or delete
	Schema   string `json:"schema"`
}

// Read is what a line of a pod's log says; false where it says nothing of a check.
func Read(line string) (Found, bool) {
	found := Found{}
	err := json.Unmarshal([]byte(line), &found)
	return found, err == nil && found.Check != "" && found.State != ""
}

// Like is a Job with a pod that has the image, the identity, the environment and the volumes of the server, and its sidecars. It
// tries the artifact store and the database for so long.
func Like(server *unstructured.Unstructured, name string, artifacts, database time.Duration) (*unstructured.Unstructured, error) {
	job, container, err := like(server, name)
	if err != nil {
		return nil, err
	}
	container.Command = []string{"python", "-c", script, "all", seconds(artifacts), seconds(database)}
	pod := &job.Spec.Template
	pod.Labels[databaseClient] = "true"
	pod.Spec.InitContainers = slices.DeleteFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
	})
	// A volume of the server's may be at one node only.
	pod.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
		Weight:          100,
		PodAffinityTerm: corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{MatchLabels: serving(server)}, TopologyKey: corev1.LabelHostname},
	}}}}
	return finished(job, *container)
}

// Stranger is a Job with a pod that has nothing to do with MLflow but the image. It tries the door of the database.
func Stranger(server *unstructured.Unstructured, name, host, port string) (*unstructured.Unstructured, error) {
	job, container, err := like(server, name)
	if err != nil {
		return nil, err
	}
	pod := &job.Spec.Template
	pod.Labels = map[string]string{component: "check"}
	pod.Spec.InitContainers, pod.Spec.Volumes, pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = nil, nil, "", ""
	container.Env, container.EnvFrom, container.VolumeMounts = nil, nil, nil
	container.Command = []string{"python", "-c", script, "door", host, port}
	return finished(job, *container)
}

// Setting is an environment variable that the server has literally, or by way of a ConfigMap that lookup reads.
func Setting(server *unstructured.Unstructured, name string, lookup func(configMap string) (map[string]string, error)) (string, error) {
	typed, err := deployment(server)
	if err != nil {
		return "", err
	}
	for _, e := range typed.Spec.Containers[0].Env {
		if e.Name == name {
			return e.Value, nil
		}
	}
	for _, from := range slices.Backward(typed.Spec.Containers[0].EnvFrom) {
		if from.ConfigMapRef == nil {
			continue
		}
		values, err := lookup(from.ConfigMapRef.Name)
		if err != nil {
			return "", err
		}
		if value, there := values[name]; there {
			return value, nil
		}
	}
	return "", nil
}

// like is what both Jobs have in common; the container is not in it yet.
func like(server *unstructured.Unstructured, name string) (*batchv1.Job, *corev1.Container, error) {
	template, err := deployment(server)
	if err != nil {
		return nil, nil, err
	}
	container := template.Spec.Containers[0]
	container.Name, container.Args, container.WorkingDir = Container, nil, ""
	container.Ports, container.Lifecycle, container.StartupProbe, container.ReadinessProbe, container.LivenessProbe = nil, nil, nil, nil, nil
	container.Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
	}
	labels := map[string]string{}
	for key, value := range template.Labels {
		if key != "app" && strings.HasPrefix(key, "app.kubernetes.io/") { // the server's own select it for traffic
			labels[key] = value
		}
	}
	labels[component] = "check"
	once, left, most, soon := int32(0), int32(afterwards.Seconds()), int64(time.Hour.Seconds()), int64(1)
	template.Labels = labels
	template.Annotations = nil
	template.Spec.Containers = nil
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	template.Spec.TerminationGracePeriodSeconds = &soon
	job := &batchv1.Job{}
	job.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("Job"))
	job.Namespace, job.Name, job.Labels = server.GetNamespace(), name, labels
	job.Spec = batchv1.JobSpec{BackoffLimit: &once, TTLSecondsAfterFinished: &left, ActiveDeadlineSeconds: &most, Template: *template}
	job.Spec.Template.Labels = map[string]string{}
	for key, value := range labels {
		job.Spec.Template.Labels[key] = value
	}
	return job, &container, nil
}

// finished is the Job with its container.
func finished(job *batchv1.Job, container corev1.Container) (*unstructured.Unstructured, error) {
	job.Spec.Template.Spec.Containers = []corev1.Container{container}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(job)
	if err != nil {
		return nil, fmt.Errorf("job.batch/%s: %w", job.Name, err)
	}
	delete(object, "status")
	return &unstructured.Unstructured{Object: object}, nil
}

// deployment is the template of the server's pods, the server's container first.
func deployment(server *unstructured.Unstructured) (*corev1.PodTemplateSpec, error) {
	raw, _, err := unstructured.NestedMap(server.Object, "spec", "template")
	template := &corev1.PodTemplateSpec{}
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(raw, template)
	}
	if err != nil {
		return nil, fmt.Errorf("deployment.apps/%s: %w", server.GetName(), err)
	}
	of := slices.IndexFunc(template.Spec.Containers, func(c corev1.Container) bool { return c.Name == server.GetName() })
	if of < 0 {
		return nil, fmt.Errorf("deployment.apps/%s has no container of that name", server.GetName())
	}
	template.Spec.Containers[0], template.Spec.Containers[of] = template.Spec.Containers[of], template.Spec.Containers[0]
	return template, nil
}

// serving selects the server's pods.
func serving(server *unstructured.Unstructured) map[string]string {
	selector, _, err := unstructured.NestedStringMap(server.Object, "spec", "selector", "matchLabels")
	if err != nil {
		return nil
	}
	return selector
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }
