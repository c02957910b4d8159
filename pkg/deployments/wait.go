package deployments

import (
	"context"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Wait returns when the newest version of a deployment is ready to serve, with pods or scaled to zero. An empty namespace is the
// kubeconfig context's. failure.Invalid where there is no such deployment, failure.Diagnosed where waiting will not help, and
// failure.TimedOut when ctx ends first: both say what is not ready.
func (c *Client) Wait(ctx context.Context, namespace, name string) error {
	namespace, err := c.existing(ctx, namespace, name)
	if err != nil {
		return err
	}
	return progress.Do(c.progress, "Waiting for "+name, func(s progress.Step) error {
		service := readiness.Target{Object: serving.ServiceRef(namespace, name), Pods: serving.PodsOf(name), Status: serving.ServiceStatus}
		return c.wait(ctx, []readiness.Target{service}, s)
	})
}
