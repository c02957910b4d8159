package serving

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// Deployment is one row: a Service that we, or mlflow-knative, have made.
type Deployment struct {
	Namespace, Name                      string
	ModelURI, Version, RunID, Image, URL string
	Ready                                bool
	Reason                               string // why it is not ready
}

// Get reads one Service, whoever has made it. failure.Invalid where there is none.
func (c *Client) Get(ctx context.Context, namespace, name string) (Deployment, error) {
	live, err := c.get(ctx, namespace, name)
	if err != nil {
		return Deployment{}, err
	}
	return row(live), nil
}

// Puller is with what a Service's pods ask registries for images.
type Puller struct {
	Image          string // that the Service has now
	ServiceAccount string // "" for the namespace's default
	PullSecrets    []corev1.LocalObjectReference
}

// Puller reads it from the Service's template. A Service that is not there yet has nothing of its own.
func (c *Client) Puller(ctx context.Context, namespace, name string) (Puller, error) {
	if served, err := c.cluster.HasKind(ctx, ServiceRef("", "").GroupVersionKind); err != nil || !served {
		return Puller{}, err
	}
	live, err := c.cluster.Get(ctx, ServiceRef(namespace, name))
	if apierrors.IsNotFound(err) {
		return Puller{}, nil
	}
	if err != nil {
		return Puller{}, err
	}
	service := &knative.Service{}
	if err := cluster.Into(live, service); err != nil {
		return Puller{}, fmt.Errorf("%s: %w", cluster.RefOf(live), err)
	}
	pod := service.Spec.Template.Spec
	return Puller{Image: row(live).Image, ServiceAccount: pod.ServiceAccountName, PullSecrets: pod.ImagePullSecrets}, nil
}

// List reads Services page by page and calls f for each; one that cannot be read is a row with its reason. An empty namespace
// is all of them.
func (c *Client) List(ctx context.Context, namespace string, f func(Deployment) error) error {
	if err := c.Present(ctx); err != nil {
		return err
	}
	made, err := labels.NewRequirement(cluster.ManagedByLabel, selection.In, []string{cluster.FieldManager, Peer})
	if err != nil {
		return err
	}
	q := cluster.Query{GroupVersionKind: ServiceRef("", "").GroupVersionKind, Namespace: namespace, Selector: labels.NewSelector().Add(*made)}
	return c.cluster.ListPages(ctx, q, func(live *unstructured.Unstructured) error { return f(row(live)) })
}

// Delete removes the Service as it was read, with its revisions. failure.Refused where it is not ours, failure.Invalid where
// there is none.
func (c *Client) Delete(ctx context.Context, namespace, name string) error {
	live, err := c.get(ctx, namespace, name)
	if err != nil {
		return err
	}
	if err := Owned(live); err != nil {
		return err
	}
	return c.cluster.Delete(ctx, cluster.RefOf(live), live.GetUID())
}

// get reads a Service that must be there.
func (c *Client) get(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	if err := c.Present(ctx); err != nil {
		return nil, err
	}
	ref := ServiceRef(namespace, name)
	live, err := c.cluster.Get(ctx, ref)
	if apierrors.IsNotFound(err) {
		return nil, notThere(namespace, name)
	}
	return live, err
}

func notThere(namespace, name string) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "DeploymentNotFound", Object: ServiceRef(namespace, name).String(),
		Message: fmt.Sprintf("there is no deployment %q in namespace %s", name, namespace), Hint: "see which there are: kubectl mlflow deployments list --all-namespaces",
	}
}

func row(live *unstructured.Unstructured) Deployment {
	annotations := live.GetAnnotations()
	d := Deployment{
		Namespace: live.GetNamespace(), Name: live.GetName(),
		ModelURI: annotations[ModelURIKey], Version: annotations[VersionKey], RunID: annotations[RunIDKey],
	}
	var service knative.Service
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &service); err != nil {
		d.Reason = err.Error()
		return d
	}
	if containers := service.Spec.Template.Spec.Containers; len(containers) > 0 {
		d.Image = containers[0].Image
	}
	if service.Status.URL != nil {
		d.URL = service.Status.URL.String()
	}
	ready := service.Status.GetCondition(knative.ServiceConditionReady)
	d.Ready = service.IsReady()
	if !d.Ready {
		d.Reason = sentence(ready, "Knative has not looked at it yet")
	}
	return d
}
