package deployments

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

// Deployment is one deployed model.
type Deployment struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	ModelURI  string `json:"modelURI,omitempty"`
	Version   string `json:"version,omitempty"`
	RunID     string `json:"runID,omitempty"`
	URL       string `json:"url,omitempty"`
	// ModelName is what clients of the Open Inference Protocol ask the model by, where that is not Name.
	ModelName string `json:"modelName,omitempty"`
	// Image by digest. List does not know that of a version which serves and is not the newest.
	Image string `json:"image,omitempty"`
	Ready bool   `json:"ready"`
	// Reason is why it is not ready.
	Reason string `json:"reason,omitempty"`
	// Generation counts the changes of the Service.
	Generation int64     `json:"generation"`
	Created    time.Time `json:"created,omitzero"`
	// Traffic is who gets the requests, as the gateway knows it.
	Traffic []Share `json:"traffic,omitempty"`
	// Set is the name of the set that declares it.
	Set string `json:"set,omitempty"`
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
	namespace, err := c.place(namespace, name)
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

// Delete removes a deployment; an empty namespace is the kubeconfig context's. failure.Refused where neither this package
// nor mlflow-knative has made it, failure.Invalid where there is none.
func (c *Client) Delete(ctx context.Context, namespace, name string) error {
	namespace, err := c.place(namespace, name)
	if err != nil {
		return err
	}
	return c.knative.Delete(ctx, namespace, name)
}
