package cluster

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Replicas is how many pods a workload is to have. apierrors.IsNotFound recognises that there is no such workload.
func (c *Client) Replicas(ctx context.Context, r Ref) (int64, error) {
	scale, err := c.one(ctx, "get", r, func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Get(ctx, r.Name, metav1.GetOptions{}, "scale")
	})
	if err != nil {
		return 0, err
	}
	n, _, err := unstructured.NestedInt64(scale.Object, "spec", "replicas") // 0 is left out
	if err != nil {
		return 0, fmt.Errorf("%s: reading its scale: %w", r, err)
	}
	return n, nil
}

// Scale sets how many pods a workload is to have, and touches nothing else of it. ApplyObject takes the number back.
func (c *Client) Scale(ctx context.Context, r Ref, replicas int64) error {
	body := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	_, err := c.one(ctx, "patch", r, func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Patch(ctx, r.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: FieldManager}, "scale")
	})
	return err
}
