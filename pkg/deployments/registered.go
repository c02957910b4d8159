package deployments

import (
	"context"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Models names the registered models of the tracking server that r means, in its order.
func (c *Client) Models(ctx context.Context, r Request) (names []string, err error) {
	err = c.withServer(ctx, r, func(src source) error {
		names, err = src.ListModels(ctx)
		return err
	})
	return names, err
}

// Versions names what can stand behind a registered model's name: the numbers of its versions, newest first, and its aliases.
func (c *Client) Versions(ctx context.Context, r Request, model string) (numbers, aliases []string, err error) {
	err = c.withServer(ctx, r, func(src source) error {
		if numbers, err = src.ListVersions(ctx, model); err != nil {
			return err
		}
		aliases, err = src.ListAliases(ctx, model)
		return err
	})
	return numbers, aliases, err
}

// withServer calls f with the tracking server that r means.
func (c *Client) withServer(ctx context.Context, r Request, f func(src source) error) error {
	return progress.Do(c.progress, "Asking the tracking server", func(s progress.Step) error {
		src, closer, err := c.connect(ctx, r, s)
		if err != nil {
			return err
		}
		defer closer()
		return f(src)
	})
}
