package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// resourceOf asks for the one group and version of the kind: unlike a RESTMapper it ends with ctx, and a kind that was
// installed a moment ago is found.
func (c *Client) resourceOf(ctx context.Context, gvk schema.GroupVersionKind) (resource, error) {
	conn, err := c.connect()
	if err != nil {
		return resource{}, err
	}
	conn.mu.Lock()
	found, ok := conn.kinds[gvk]
	conn.mu.Unlock()
	if ok {
		return found, nil
	}
	group := path.Join("/apis", gvk.Group, gvk.Version)
	if gvk.Group == "" {
		group = path.Join("/api", gvk.Version)
	}
	var served metav1.APIResourceList
	err = c.discover(ctx, group, Ref{GroupVersionKind: gvk}, &served)
	if err != nil && !apierrors.IsNotFound(err) {
		return resource{}, err
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	for _, r := range served.APIResources {
		kind := gvk.GroupVersion().WithKind(r.Kind)
		if _, known := conn.kinds[kind]; !known && !strings.Contains(r.Name, "/") { // deployments, not deployments/scale
			conn.kinds[kind] = resource{GroupVersionResource: gvk.GroupVersion().WithResource(r.Name), namespaced: r.Namespaced}
		}
	}
	if found, ok = conn.kinds[gvk]; ok {
		return found, nil
	}
	return resource{}, &failure.Error{
		Class: failure.Diagnosed, Reason: "KindNotServed",
		Message: fmt.Sprintf("the cluster does not serve %s of %s", gvk.Kind, gvk.GroupVersion()),
		Hint:    "see what it serves: kubectl api-resources",
		Err:     ErrNotServed,
	}
}

// NamespacedKinds are all kinds whose objects live in a namespace and can be deleted, each once. One that cannot be asked about
// is an error: what cannot be seen must not be deleted.
func (c *Client) NamespacedKinds(ctx context.Context) ([]schema.GroupVersionKind, error) {
	var groups metav1.APIGroupList
	if err := c.discover(ctx, "/apis", Ref{}, &groups); err != nil {
		return nil, fmt.Errorf("asking for the cluster's kinds: %w", err)
	}
	paths := []string{"/api/v1"}
	for _, group := range groups.Groups {
		for _, version := range group.Versions {
			paths = append(paths, path.Join("/apis", version.GroupVersion))
		}
	}
	served := make([]metav1.APIResourceList, len(paths))
	err := each(ctx, len(paths), func(ctx context.Context, i int) error {
		if err := c.discover(ctx, paths[i], Ref{}, &served[i]); err != nil {
			return fmt.Errorf("asking for the cluster's kinds: %s: %w", paths[i], err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var kinds []schema.GroupVersionKind
	seen := map[schema.GroupKind]bool{} // a kind is served in several versions
	for _, list := range served {
		for _, r := range list.APIResources {
			kind := schema.FromAPIVersionAndKind(list.GroupVersion, r.Kind)
			whole := r.Namespaced && !strings.Contains(r.Name, "/") && slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete")
			if whole && !seen[kind.GroupKind()] {
				seen[kind.GroupKind()] = true
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds, nil
}

// discover reads what the API server says of itself at a path.
func (c *Client) discover(ctx context.Context, at string, r Ref, into any) error {
	return c.do(ctx, "get", r, func(ctx context.Context, conn *connection) error {
		result := conn.raw.Get().AbsPath(at).Do(ctx)
		if err := result.Error(); err != nil { // unlike Raw, it reads the server's words: whether it will pass is in there
			return err
		}
		body, err := result.Raw()
		if err != nil {
			return err
		}
		return json.Unmarshal(body, into)
	})
}
