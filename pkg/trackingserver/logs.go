package trackingserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/logs"
)

// proxy is the component of the containers that lead to Cloud SQL, in pods of their own or of others.
const proxy = "proxy"

// LogComponents are those whose pods have logs: the first four are MLflow itself, the others its Jobs.
func LogComponents() []string {
	return []string{server, database, proxy, migration, "backup", restoreComponent, "gc"}
}

// LogOptions say which logs are read, and what of them.
type LogOptions struct {
	Components []string // of LogComponents; none is MLflow itself
	Follow     bool     // go on with what comes, over the comings and goings of the pods, until ctx ends
	Previous   bool     // of the runs before the last restarts; not with Follow
	Since      time.Time
	Tail       int64        // lines of each container at most; 0 is all
	Say        func(string) // is told where there is nothing to follow yet; may be nil
}

// LogLine is one line that a container has written.
type LogLine struct {
	Source    string // the component, the end of the pod's name and, where there are several, the container: server-x7k2p/schema
	Component string
	Time      time.Time
	Text      string
}

// CheckLogComponents is failure.Invalid for what is none of LogComponents. It needs no cluster.
func CheckLogComponents(names []string) error {
	for _, name := range names {
		if !slices.Contains(LogComponents(), name) {
			return &failure.Error{
				Class: failure.Invalid, Reason: "UnknownComponent", Object: name,
				Message: "no component of MLflow has this name", Hint: "there are " + strings.Join(LogComponents(), ", "),
			}
		}
	}
	return nil
}

// Logs gives show what MLflow's containers have written, in the order of time, and with o.Follow what they write. failure.Diagnosed
// where none of them has a log.
func (c *Client) Logs(ctx context.Context, o LogOptions, show func(LogLine) error) error {
	if err := CheckLogComponents(o.Components); err != nil {
		return err
	}
	record, err := c.installed(ctx)
	if err != nil {
		return err
	}
	r := &rightsIn{namespace: record.Namespace}
	r.add(core("Pod", "", "").GroupVersionKind, "list", "watch")
	r.logs()
	if err := c.may(ctx, readLogs, record.Namespace, r.wanted); err != nil {
		return err
	}
	if len(o.Components) == 0 {
		o.Components = LogComponents()[:4]
	}
	pods, err := logPods(record.Namespace)
	if err != nil {
		return err
	}
	read := logs.Options{Previous: o.Previous, Since: o.Since, Tail: o.Tail, Label: func(pod *corev1.Pod, container string) (string, bool) {
		component := componentOf(pod, container)
		return sourceOf(component, pod, container), slices.Contains(o.Components, component)
	}}
	each := func(l logs.Line) error {
		component, _, _ := strings.Cut(l.Source.Label, "-")
		return show(LogLine{Source: l.Source.Label, Component: component, Time: l.Time, Text: l.Text})
	}
	if o.Follow {
		read.Idle = func() {
			if o.Say != nil {
				o.Say(fmt.Sprintf("There is no pod of %s in namespace %s yet: waiting for one.", strings.Join(o.Components, ", "), record.Namespace))
			}
		}
		return logs.Follow(ctx, c.cluster, pods, read, each)
	}
	n, err := logs.Read(ctx, c.cluster, pods, read, each)
	if err == nil && n == 0 {
		return read.NoLog("namespace/"+record.Namespace, fmt.Sprintf("no container of %s has a log", strings.Join(o.Components, ", ")),
			"kubectl mlflow wait says what keeps pods from starting; with --follow, pods that come are waited for")
	}
	return err
}

// logPods are the pods of all components.
func logPods(namespace string) (cluster.Query, error) {
	part, err := labels.NewRequirement("app.kubernetes.io/part-of", selection.Equals, []string{"mlflow"})
	if err != nil {
		return cluster.Query{}, err
	}
	of, err := labels.NewRequirement(component, selection.Exists, nil)
	if err != nil {
		return cluster.Query{}, err
	}
	return cluster.Query{GroupVersionKind: core("Pod", "", "").GroupVersionKind, Namespace: namespace, Selector: labels.NewSelector().Add(*part, *of)}, nil
}

func componentOf(pod *corev1.Pod, container string) string {
	if container == proxyContainer {
		return proxy
	}
	return pod.Labels[component]
}

// sourceOf names a container as LogLine.Source does.
func sourceOf(component string, pod *corev1.Pod, container string) string {
	name := component + "-" + pod.Name[strings.LastIndex(pod.Name, "-")+1:]
	if len(pod.Spec.Containers)+len(pod.Spec.InitContainers) > 1 && !slices.Contains([]string{serverContainer, proxyContainer}, container) {
		name += "/" + container
	}
	return name
}
