package deployments

import (
	"cmp"
	"context"
	"slices"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

// Deployment is one deployed model.
type Deployment struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	ModelURI  string `json:"modelURI,omitempty"`
	Version   string `json:"version,omitempty"`
	RunID     string `json:"runID,omitempty"`
	Image     string `json:"image,omitempty"`
	URL       string `json:"url,omitempty"`
	Ready     bool   `json:"ready"`
	// Reason is why it is not ready.
	Reason string `json:"reason,omitempty"`
}

// List returns the deployments of a namespace, or of all where it is "", in order of namespace and name. Those that the Python
// plugin mlflow-knative has made are among them.
func (c *Client) List(ctx context.Context, namespace string) ([]Deployment, error) {
	var all []Deployment
	err := c.knative.List(ctx, namespace, func(d serving.Deployment) error {
		all = append(all, Deployment(d))
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Deployment) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// Get returns one deployment, whoever has made it; an empty namespace is the kubeconfig context's. failure.Invalid where there is none.
func (c *Client) Get(ctx context.Context, namespace, name string) (*Deployment, error) {
	if err := validateName(namespace, name); err != nil {
		return nil, err
	}
	namespace, err := c.in(namespace)
	if err != nil {
		return nil, err
	}
	found, err := c.knative.Get(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	d := Deployment(found)
	return &d, nil
}

// Delete removes a deployment; an empty namespace is the kubeconfig context's. failure.Refused where it is not ours,
// failure.Invalid where there is none.
func (c *Client) Delete(ctx context.Context, namespace, name string) error {
	if err := validateName(namespace, name); err != nil {
		return err
	}
	namespace, err := c.in(namespace)
	if err != nil {
		return err
	}
	return c.knative.Delete(ctx, namespace, name)
}
