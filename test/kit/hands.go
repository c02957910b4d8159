package kit

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// Apply writes objects as another field manager does, who takes what he wants: YAML documents, in which NAMESPACE stands for
// the namespace. A status in them is written too. What lives in no namespace is removed when the test ends.
func (c *Controller) Apply(t testing.TB, namespace, manager, documents string) {
	t.Helper()
	for _, text := range strings.Split(strings.ReplaceAll(documents, "NAMESPACE", namespace), "\n---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		at := c.at(obj.GroupVersionKind(), namespace)
		body, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		options := metav1.PatchOptions{FieldManager: manager, Force: new(true)}
		if _, err := at.Patch(t.Context(), obj.GetName(), types.ApplyPatchType, body, options); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if obj.Object["status"] != nil {
			if _, err := at.Patch(t.Context(), obj.GetName(), types.ApplyPatchType, body, options, "status"); err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
		}
		if global(obj.GetKind()) && obj.GetKind() != "Namespace" {
			t.Cleanup(func() {
				err := at.Delete(context.WithoutCancel(t.Context()), obj.GetName(), metav1.DeleteOptions{})
				if ignore(err, apierrors.IsNotFound) != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Edit changes an object as a person does with kubectl edit: by a merge patch. resource is as in "deployments.v1.apps".
func (c *Controller) Edit(t testing.TB, namespace, resource, name, patch string) {
	t.Helper()
	_, err := c.resource(namespace, resource).Patch(context.WithoutCancel(t.Context()), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
}

// Delete deletes an object and does not wait for its end.
func (c *Controller) Delete(t testing.TB, namespace, resource, name string) {
	t.Helper()
	if err := c.resource(namespace, resource).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Await returns when an object is as wanted; nil is one that is not there.
func (c *Controller) Await(t testing.TB, namespace, resource, name string, is func(*unstructured.Unstructured) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at := c.resource(namespace, resource)
	for {
		list, err := at.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			t.Fatal(err)
		}
		var found *unstructured.Unstructured
		if len(list.Items) > 0 {
			found = &list.Items[0]
		}
		if is(found) {
			return
		}
		w, err := at.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: list.GetResourceVersion()})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.ResultChan():
			w.Stop()
		case <-ctx.Done():
			t.Fatalf("%s %s did not become what the test waits for: %v", resource, name, found)
		}
	}
}

// resource is as in "deployments.v1.apps"; without a namespace it is one that lives in none.
func (c *Controller) resource(namespace, resource string) dynamic.ResourceInterface {
	at, _ := schema.ParseResourceArg(resource)
	if at == nil {
		at = new(core(resource))
	}
	if namespace == "" {
		return c.client.Resource(*at)
	}
	return c.client.Resource(*at).Namespace(namespace)
}

func (c *Controller) at(kind schema.GroupVersionKind, namespace string) dynamic.ResourceInterface {
	resource, _ := meta.UnsafeGuessKindToResource(kind)
	if global(kind.Kind) {
		return c.client.Resource(resource)
	}
	return c.client.Resource(resource).Namespace(namespace)
}

// global tells which kinds of the tests live in no namespace.
func global(kind string) bool {
	return kind == "Namespace" || strings.HasPrefix(kind, "Cluster") || strings.HasSuffix(kind, "WebhookConfiguration") || kind == "StorageClass"
}

// AwaitRight returns when the API server has heard that a user may do something.
func (c *Controller) AwaitRight(t testing.TB, user, namespace, verb, group, resource string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	resource, sub, _ := strings.Cut(resource, "/")
	reviews := c.client.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews"})
	for {
		said, err := reviews.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
			"spec": map[string]any{"user": user, "resourceAttributes": map[string]any{
				"namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": sub,
			}},
		}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if allowed, _, err := unstructured.NestedBool(said.Object, "status", "allowed"); err == nil && allowed {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("%s may not %s %s in namespace %s", user, verb, resource, namespace)
		}
	}
}
