package instance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

const hint = "name one with --tracking-service NAMESPACE/NAME[:PORT], or the server with MLFLOW_TRACKING_URI"

// Find looks in the namespaces given, in order, then in all, where the user may list them. None is failure.Invalid, or
// failure.Forbidden where one may be hidden from the user, with the flag that names a server; more than one that runs is
// failure.Invalid, with their Services.
func Find(ctx context.Context, c *cluster.Client, namespaces ...string) (*Instance, error) {
	var hidden []string
	for n, namespace := range namespaces {
		if namespace == "" || slices.Contains(namespaces[:n], namespace) {
			continue
		}
		i, err := Load(ctx, c, namespace)
		switch {
		case hides(err):
			hidden = append(hidden, namespace)
		case err != nil:
			return nil, err
		case i != nil:
			return i, nil
		}
	}
	all, err := c.List(ctx, cluster.Query{
		GroupVersionKind: configMap(),
		Selector:         labels.SelectorFromSet(labels.Set{Label: "true"}),
	})
	switch {
	case hides(err):
		return nil, notAllowed(namespaces, hidden, err)
	case err != nil:
		return nil, err
	}
	return only(all)
}

// only is the one of the records whose MLflow runs. Where none runs it is any of them: what it was is told by Running.
func only(records []*unstructured.Unstructured) (*Instance, error) {
	if len(records) == 0 {
		return nil, &failure.Error{
			Class: failure.Invalid, Reason: "TrackingServerNotFound", Message: "there is no MLflow on this cluster that kubectl-mlflow installed",
			Hint: "install one with: kubectl mlflow install; or name another's Service with --tracking-service NAMESPACE/NAME[:PORT], or a server with MLFLOW_TRACKING_URI",
		}
	}
	var (
		found, stopped *Instance
		broken         error
		where          []string
	)
	for _, obj := range records {
		i, err := decode(obj)
		switch {
		case err != nil: // it may run all the same, and nobody can tell which of two is meant
			broken = err
			where = append(where, fmt.Sprintf("one in namespace %s whose record cannot be read", obj.GetNamespace()))
		case i.Running() != nil:
			stopped = i
		default:
			found = i
			where = append(where, i.HTTP.Namespace+"/"+i.HTTP.Service)
		}
	}
	switch {
	case len(where) == 0:
		return stopped, nil
	case len(where) > 1:
		slices.Sort(where)
		return nil, &failure.Error{
			Class: failure.Invalid, Reason: "SeveralTrackingServers",
			Message: "there is more than one MLflow on this cluster: " + strings.Join(where, ", "), Hint: hint,
		}
	case found == nil:
		return nil, broken
	}
	return found, nil
}

// hides tells that RBAC is in the way; credentials that are not accepted at all are another matter.
func hides(err error) bool {
	e, ok := errors.AsType[*failure.Error](err)
	return ok && e.Class == failure.Forbidden && e.Reason == "Forbidden"
}

func notAllowed(looked, hidden []string, err error) error {
	message := "you may not look for MLflow in all namespaces"
	if rest := slices.DeleteFunc(slices.Clone(looked), func(n string) bool { return n == "" || slices.Contains(hidden, n) }); len(rest) > 0 {
		message = fmt.Sprintf("there is no MLflow in namespace %s, and %s", strings.Join(slices.Compact(rest), ", "), message)
	}
	if len(hidden) > 0 {
		message += fmt.Sprintf(", nor in %s", strings.Join(hidden, ", "))
	}
	return &failure.Error{Class: failure.Forbidden, Reason: "TrackingServerNotFound", Message: message, Hint: hint, Err: err}
}
