package deployments

import (
	"context"
	"fmt"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Example is the request that the deployed model was logged with, as JSON for /invocations: its own input example, read from where the model
// is. r names the deployment, and the tracking server as for Deploy; its model URI is the deployment's. failure.Invalid where there is
// no deployment, or the model has no example.
func (c *Client) Example(ctx context.Context, r Request) ([]byte, error) {
	deployed, err := c.Get(ctx, r.Namespace, r.Name)
	if err != nil {
		return nil, err
	}
	none := &failure.Error{Class: failure.Invalid, Reason: "NoExample", Hint: "send a request of your own: -f FILE, or --input JSON"}
	if deployed.ModelURI == "" {
		none.Message = fmt.Sprintf("%s does not say which model it serves, so that its example cannot be read", r.Name)
		return nil, none
	}
	if _, ok := directoryOf(deployed.ModelURI); ok {
		none.Message = fmt.Sprintf("%s serves a model from a directory, whose place is not known here", r.Name)
		none.Hint = "name its example: -f DIRECTORY/serving_input_example.json"
		return nil, none
	}
	r.Namespace, r.ModelURI = deployed.Namespace, deployed.ModelURI
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var example []byte
	err = progress.Do(c.progress, "Reading the example of "+r.ModelURI, func(s progress.Step) error {
		d := &deployment{close: func() {}}
		files, err := c.locate(ctx, r, d, s)
		defer d.close()
		if err != nil {
			return err
		}
		m, err := model.Read(ctx, files)
		if err != nil {
			return fmt.Errorf("%s: %w", r.ModelURI, err)
		}
		example = m.InputExample
		return nil
	})
	if err != nil {
		return nil, inTime(ctx, err)
	}
	if example == nil {
		none.Message = fmt.Sprintf("%s was logged without an input example", r.ModelURI)
		none.Hint += "; log_model(..., input_example=...) keeps one with the model"
		return nil, none
	}
	return example, nil
}
