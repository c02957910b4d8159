package serving

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// oldest is the first Knative Serving that has all that is used here.
const oldest = "1.10"

// Version is Knative Serving's, "v1.19.4", by the label that its releases carry; "" where that is not there or may not be read.
// failure.Diagnosed where there is no Knative, or one that is too old.
func (c *Client) Version(ctx context.Context) (string, error) {
	if err := c.Present(ctx); err != nil {
		return "", err
	}
	for _, of := range []cluster.Ref{
		{GroupVersionKind: schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, Name: "services.serving.knative.dev"},
		{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Namespace: "knative-serving", Name: "controller"},
	} {
		live, err := c.cluster.Get(ctx, of)
		if apierrors.IsNotFound(err) || failure.ClassOf(err) == failure.Forbidden {
			continue
		}
		if err != nil {
			return "", err
		}
		runs, err := version.ParseGeneric(live.GetLabels()["app.kubernetes.io/version"])
		if err != nil { // a vendor's own: "devel"
			continue
		}
		if runs.LessThan(version.MustParseGeneric(oldest)) {
			return "", &failure.Error{
				Class: failure.Diagnosed, Reason: "KnativeTooOld", Message: fmt.Sprintf("the cluster has Knative Serving %s, and %s or newer is needed", runs, oldest),
				Hint: "upgrade it, one minor version at a time: https://knative.dev/docs/install/upgrade/",
			}
		}
		return "v" + runs.String(), nil
	}
	return "", nil
}

// Rights are what it takes to deploy, to wait and to take down in a namespace.
func Rights(namespace string) []cluster.Access {
	var wanted []cluster.Access
	for _, of := range []struct {
		kind  schema.GroupVersionKind
		verbs []string
	}{
		{ServiceRef("", "").GroupVersionKind, []string{"get", "list", "watch", "create", "update", "delete"}},
		{revisionRef("", "").GroupVersionKind, []string{"get", "list", "watch"}},
		{schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, []string{"get", "list", "watch"}},
	} {
		for _, verb := range of.verbs {
			wanted = append(wanted, cluster.Access{Verb: verb, GroupVersionKind: of.kind, Namespace: namespace})
		}
	}
	return wanted
}
