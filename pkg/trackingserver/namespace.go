package trackingserver

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// deleteNamespace deletes the namespace that install made, unless something else lives in it, or cannot be ruled out.
func (c *Client) deleteNamespace(ctx context.Context, namespace cluster.Change) ([]cluster.Change, error) {
	live, err := c.get(ctx, namespace.Ref)
	if err != nil || live == nil || namespace.UID != "" && live.GetUID() != namespace.UID {
		return nil, err
	}
	done := cluster.Change{Ref: namespace.Ref, Action: cluster.Kept, UID: live.GetUID()}
	err = progress.Do(c.progress, fmt.Sprintf("Deleting %s", namespace.Ref), func(s progress.Step) error {
		others, err := c.others(ctx, namespace.Name)
		if failure.ClassOf(err) == failure.Forbidden {
			s.Note("kept: you may not see all that is in it")
			return nil
		}
		if err != nil {
			return err
		}
		if len(others) > 0 {
			s.Note("kept: in it are also " + strings.Join(others, ", "))
			return nil
		}
		if err := c.cluster.Delete(ctx, namespace.Ref, live.GetUID()); err != nil {
			return err
		}
		done.Action = cluster.Pruned
		return c.absent(ctx, []cluster.Query{cluster.QueryOf(namespace.Ref)}, s)
	})
	return []cluster.Change{done}, err
}

// others names what lives in a namespace, beside what Kubernetes puts into every one and what is on its way out.
func (c *Client) others(ctx context.Context, namespace string) ([]string, error) {
	kinds, err := c.kinds(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, kind := range kinds {
		if about(kind.Kind) {
			continue
		}
		objs, err := c.cluster.List(ctx, cluster.Query{GroupVersionKind: kind, Namespace: namespace})
		if err != nil {
			return nil, err
		}
		for _, obj := range objs {
			if obj.GetDeletionTimestamp() == nil && len(obj.GetOwnerReferences()) == 0 && !native(obj) {
				found = append(found, cluster.RefOf(obj).String())
			}
		}
	}
	return found, nil
}

// about tells the kinds that say something about other objects, and go with them.
func about(kind string) bool {
	return kind == "Event" || kind == "Endpoints" || kind == "EndpointSlice"
}

// native tells what Kubernetes puts into every namespace.
func native(obj *unstructured.Unstructured) bool {
	return obj.GetKind() == "ConfigMap" && obj.GetName() == "kube-root-ca.crt" ||
		obj.GetKind() == "ServiceAccount" && obj.GetName() == "default" ||
		obj.GetKind() == "Lease" && obj.GetName() == instance.Name // what our lock may leave behind
}

// namespacedKinds are all kinds whose objects live in a namespace and can be deleted. One that cannot be asked about is an
// error: what cannot be seen must not be deleted.
func namespacedKinds(ctx context.Context, k *cluster.Client) ([]schema.GroupVersionKind, error) {
	config, err := k.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("asking for the cluster's kinds: %w", err)
	}
	var groups metav1.APIGroupList
	if err := get(ctx, client.RESTClient(), "/apis", &groups); err != nil {
		return nil, err
	}
	paths := []string{"/api/v1"}
	for _, group := range groups.Groups {
		for _, version := range group.Versions {
			paths = append(paths, path.Join("/apis", version.GroupVersion))
		}
	}
	var kinds []schema.GroupVersionKind
	seen := map[schema.GroupKind]bool{} // a kind is served in several versions
	for _, at := range paths {
		var served metav1.APIResourceList
		if err := get(ctx, client.RESTClient(), at, &served); err != nil {
			return nil, err
		}
		for _, r := range served.APIResources {
			kind := schema.FromAPIVersionAndKind(served.GroupVersion, r.Kind)
			whole := r.Namespaced && !strings.Contains(r.Name, "/") && slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete")
			if whole && !seen[kind.GroupKind()] {
				seen[kind.GroupKind()] = true
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds, nil
}

func get(ctx context.Context, client rest.Interface, path string, into any) error {
	body, err := client.Get().AbsPath(path).DoRaw(ctx)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		return fmt.Errorf("asking for the cluster's kinds: %s: %w", path, err)
	}
	return nil
}
