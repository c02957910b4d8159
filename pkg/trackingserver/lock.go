package trackingserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// locked does work that nobody else does in the namespace at the same time. Its context ends when the lock is lost.
func (c *Client) locked(ctx context.Context, namespace string, why intent, work func(context.Context) error) error {
	var waiting progress.Step // only where there is something to wait for
	held, unlock, err := c.cluster.Lock(ctx, namespace, instance.Name, string(why), func(note string) {
		if waiting == nil {
			waiting = c.progress.Start(fmt.Sprintf("Waiting for the lock of namespace %s", namespace))
		}
		waiting.Note(note)
	})
	if waiting != nil {
		waiting.End(err)
	}
	if err != nil {
		return err
	}
	return errors.Join(work(held), unlock())
}
