package trackingserver

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

const isDefaultClass = "storageclass.kubernetes.io/is-default-class"

// hasStorage is a failure where a new claim would wait for ever: failure.Invalid for a class that is not there,
// failure.Diagnosed where none is named and the cluster has no default. Who may not look finds out from the wait.
func (in *installation) hasStorage(ctx context.Context) error {
	for _, obj := range in.rendered.all() {
		if obj.GetKind() != "PersistentVolumeClaim" || in.live[cluster.RefOf(obj)] != nil {
			continue
		}
		named, found, err := unstructured.NestedString(obj.Object, "spec", "storageClassName")
		if err != nil {
			return fmt.Errorf("%s: %w", cluster.RefOf(obj), err)
		}
		if found && named == "" { // bound by hand
			continue
		}
		classes, err := in.cluster.List(ctx, cluster.Query{GroupVersionKind: schema.GroupVersionKind{Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"}})
		if failure.ClassOf(err) == failure.Forbidden {
			return nil
		}
		if err != nil {
			return err
		}
		return fitting(obj, named, classes)
	}
	return nil
}

func fitting(claim *unstructured.Unstructured, named string, classes []*unstructured.Unstructured) error {
	names := make([]string, 0, len(classes))
	for _, class := range classes {
		if class.GetName() == named || named == "" && class.GetAnnotations()[isDefaultClass] == "true" {
			return nil
		}
		names = append(names, class.GetName())
	}
	there := "the cluster has none: ask its administrator for one"
	if len(names) > 0 {
		there = "the cluster has: " + strings.Join(names, ", ")
	}
	ref := cluster.RefOf(claim).String()
	if named != "" {
		return &failure.Error{Class: failure.Invalid, Reason: "StorageClassNotFound", Object: ref,
			Message: fmt.Sprintf("there is no storage class %q", named), Hint: there}
	}
	return &failure.Error{Class: failure.Diagnosed, Reason: "NoDefaultStorageClass", Object: ref,
		Message: "the cluster has no default storage class, so its volume would never come", Hint: "name one with --storage-class; " + there}
}
