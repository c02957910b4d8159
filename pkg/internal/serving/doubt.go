package serving

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Doubt keeps on the Service that the revision which a made has not answered its example though it serves, or takes that back: Apply of
// the same content is Unchanged, and says so then. Where another deployment has overtaken it there is nothing to keep.
func (c *Client) Doubt(ctx context.Context, a Applied, doubted bool) error {
	return retried(ctx, func() error {
		live, err := c.cluster.Get(ctx, a.Service)
		if err != nil || marks(live) != a.mark || isDoubted(live) == doubted {
			return err
		}
		if doubted {
			err = unstructured.SetNestedField(live.Object, a.mark.generation, "metadata", "annotations", doubtKey)
		} else {
			unstructured.RemoveNestedField(live.Object, "metadata", "annotations", doubtKey)
		}
		if err != nil {
			return err
		}
		_, err = c.cluster.Update(ctx, live, false)
		return err
	})
}

// isDoubted tells whether the revision of the Service's present template has not answered its example.
func isDoubted(service *unstructured.Unstructured) bool {
	generation, found := service.GetAnnotations()[doubtKey]
	return found && generation == marks(service).generation
}
