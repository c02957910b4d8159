package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Access is one thing that a user may or may not do.
type Access struct {
	Verb string // get, list, watch, create, update, patch, delete, deletecollection
	schema.GroupVersionKind
	Subresource string // "scale", "log"; or ""
	Namespace   string // "" is all namespaces, or a kind that has none
	Name        string // "" is all names
	Resource    string // the kind as RBAC names it, "deployments": filled in by Missing
}

// Missing asks the API server which of these the user may not do, and returns them in their order. No object and no
// namespace needs to exist. A kind that is not served is left out: nobody can be allowed to use it. Where the cluster lets
// nobody ask, nothing is known to be missing.
func (c *Client) Missing(ctx context.Context, accesses []Access) ([]Access, error) {
	asked := distinct(accesses)
	open := make([]bool, len(asked)) // questions
	err := each(ctx, len(asked), func(ctx context.Context, i int) error {
		a := &asked[i]
		res, err := c.resourceOf(ctx, a.GroupVersionKind)
		if errors.Is(err, ErrNotServed) {
			return nil
		}
		if err != nil {
			return err
		}
		open[i], a.Resource = true, res.Resource
		if !res.namespaced {
			a.Namespace = ""
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("asking what you may do: %w", err)
	}
	// Who may do everything, as most who install may, is asked once.
	everything := map[string]bool{}
	for i, a := range asked {
		may, known := everything[a.Namespace]
		if open[i] && !known {
			denied, err := c.denied(ctx, Access{Verb: "*", GroupVersionKind: schema.GroupVersionKind{Group: "*", Version: "*"}, Resource: "*", Namespace: a.Namespace})
			if err != nil {
				return nil, fmt.Errorf("asking what you may do: %w", err)
			}
			may = !denied
			everything[a.Namespace] = may
		}
		open[i] = open[i] && !may
	}
	denied := make([]bool, len(asked))
	err = each(ctx, len(asked), func(ctx context.Context, i int) error {
		if !open[i] {
			return nil
		}
		var err error
		denied[i], err = c.denied(ctx, asked[i])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("asking what you may do: %w", err)
	}
	var missing []Access
	for i, a := range asked {
		if denied[i] {
			missing = append(missing, a)
		}
	}
	return distinct(missing), nil
}

// RightsMissing is failure.Forbidden for what why, a verb of ours, needs in namespace, with the Role that grants it.
func RightsMissing(why, namespace string, missing []Access) error {
	names := make([]string, 0, len(missing))
	for _, m := range missing {
		what := m.Resource
		if m.Subresource != "" {
			what += "/" + m.Subresource
		}
		names = append(names, m.Verb+" "+what)
	}
	const most = 3
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", more))
	}
	return &failure.Error{
		Class: failure.Forbidden, Reason: "RightsMissing", Object: "namespace/" + namespace,
		Message:  fmt.Sprintf("you may not do what %s needs: %s", why, strings.Join(names, ", ")),
		Hint:     "ask for what is missing; bound to you, this grants it:",
		Evidence: []string{Roles(missing)},
	}
}

// denied asks about one access.
func (c *Client) denied(ctx context.Context, a Access) (bool, error) {
	namespace := a.Namespace
	if a.GroupKind() == (schema.GroupKind{Kind: "Namespace"}) && a.Verb != "create" {
		namespace = a.Name // to the authorizer a namespace lies within itself: a Role there may allow it
	}
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{
			"verb": a.Verb, "group": a.Group, "version": a.Version, "resource": a.Resource, "subresource": a.Subresource,
			"namespace": namespace, "name": a.Name,
		}},
	}}
	answer, err := c.one(ctx, "create", RefOf(review), func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Create(ctx, review, metav1.CreateOptions{})
	})
	if failure.ClassOf(err) == failure.Forbidden && !hopeless(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	allowed, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
	return !allowed, err
}

// distinct is accesses without repetitions.
func distinct(accesses []Access) []Access {
	var list []Access
	seen := make(map[Access]bool, len(accesses))
	for _, a := range accesses {
		if !seen[a] {
			seen[a] = true
			list = append(list, a)
		}
	}
	return list
}
