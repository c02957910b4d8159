package deployments

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/logs"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

// LogOptions say what of a deployment's logs is read.
type LogOptions struct {
	AllContainers bool // those that Knative adds, too
	Follow        bool // go on with what comes, over the comings and goings of the pods, until ctx ends
	Previous      bool // of the runs before the last restarts; not with Follow
	Since         time.Time
	Tail          int64        // lines of each container at most; 0 is all
	Say           func(string) // is told where there is nothing to follow yet; may be nil
}

// LogLine is one line that a container has written.
type LogLine struct {
	Source   string // the revision, the end of the pod's name and, with AllContainers, the container
	Revision string
	Time     time.Time
	Text     string
}

// Logs gives show what the pods of a deployment have written, in the order of time, and with o.Follow what they write. An empty
// namespace is the kubeconfig context's. failure.Invalid where there is no such deployment, failure.Diagnosed where it has no pod
// with a log: without requests, Knative scales to zero.
func (c *Client) Logs(ctx context.Context, namespace, name string, o LogOptions, show func(LogLine) error) error {
	namespace, err := c.existing(ctx, namespace, name)
	if err != nil {
		return err
	}
	pods := cluster.Query{GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Pod"), Namespace: namespace, Selector: serving.PodsOf(name)}
	read := logs.Options{Previous: o.Previous, Since: o.Since, Tail: o.Tail, Label: func(pod *corev1.Pod, container string) (string, bool) {
		source := serving.RevisionOf(pod.Labels) + "-" + pod.Name[strings.LastIndex(pod.Name, "-")+1:]
		if o.AllContainers {
			source += "/" + container
		}
		return source, o.AllContainers || container == serving.ModelContainer
	}}
	each := func(l logs.Line) error {
		revision, _, _ := strings.Cut(l.Source.Label, "/")
		revision = revision[:strings.LastIndex(revision, "-")]
		return show(LogLine{Source: l.Source.Label, Revision: revision, Time: l.Time, Text: l.Text})
	}
	if o.Follow {
		read.Idle = func() {
			if o.Say != nil {
				o.Say(fmt.Sprintf("%s has no pod now: waiting for one. A request brings one: kubectl mlflow predict %s", name, name))
			}
		}
		return logs.Follow(ctx, c.logged, pods, read, each)
	}
	n, err := logs.Read(ctx, c.logged, pods, read, each)
	if err == nil && n == 0 {
		return read.NoLog(name, "it has no pod with a log in namespace "+namespace+": without requests, Knative scales to zero",
			"a request brings one: kubectl mlflow predict "+name+"; or wait for it with --follow")
	}
	return err
}
