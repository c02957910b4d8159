package serving

import (
	"context"
	"fmt"
	"time"

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
	Namespace, Name               string
	ModelURI, Version, RunID, URL string
	ModelName                     string // what clients ask the model by, where that is not Name
	Image                         string // by digest; List does not know that of a version which is not the newest, and nobody that of one that is gone
	Ready                         bool
	Reason                        string // why it is not ready
	Generation                    int64
	Created                       time.Time
	Traffic                       []Share // as the gateway has it
	Set                           string  // that declares it, or ""
}

// Get reads one Service, whoever has made it. failure.Invalid where there is none.
func (c *Client) Get(ctx context.Context, namespace, name string) (Deployment, error) {
	live, err := c.get(ctx, namespace, name)
	if err != nil {
		return Deployment{}, err
	}
	d := row(live)
	if serves := leader(d.Traffic); d.Image == "" && serves != "" {
		revision, err := c.cluster.Get(ctx, revisionRef(namespace, serves))
		if apierrors.IsNotFound(err) { // somebody has deleted it, and Knative's status speaks of it still
			return d, nil
		}
		if err != nil {
			return Deployment{}, err
		}
		r, err := revisionRow(revision, Split{})
		if err != nil {
			return Deployment{}, err
		}
		d.Image = r.Image
	}
	return d, nil
}

// Puller is with what a Service's pods ask registries for images.
type Puller struct {
	Image          string // of the Service's newest version
	ServiceAccount string // "" for the namespace's default
	PullSecrets    []corev1.LocalObjectReference
}

// Puller reads it from the Service's template, with what s says of it. A Service that is not there yet has nothing else of its own.
func (c *Client) Puller(ctx context.Context, s Spec) (Puller, error) {
	if served, err := c.cluster.HasKind(ctx, ServiceRef("", "").GroupVersionKind); err != nil || !served {
		return Puller{}, err
	}
	live, err := c.cluster.Get(ctx, ServiceRef(s.Namespace, s.Name))
	if apierrors.IsNotFound(err) {
		live, err = &unstructured.Unstructured{Object: map[string]any{}}, nil
	}
	if err != nil {
		return Puller{}, err
	}
	on, err := s.overlays(live)
	if err != nil {
		return Puller{}, err
	}
	on.retract(live.Object, nil)
	on.lay(live.Object)
	service := &knative.Service{}
	if err := cluster.Into(live, service); err != nil {
		return Puller{}, fmt.Errorf("%s: %w", cluster.RefOf(live), err)
	}
	pod := service.Spec.Template.Spec
	return Puller{Image: imageOf(pod.PodSpec), ServiceAccount: pod.ServiceAccountName, PullSecrets: pod.ImagePullSecrets}, nil
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

// Delete removes the Service as it was read, with its revisions. failure.Refused where neither we nor mlflow-knative have made it,
// failure.Invalid where there is none.
func (c *Client) Delete(ctx context.Context, namespace, name string) error {
	live, err := c.get(ctx, namespace, name)
	if err != nil {
		return err
	}
	if err := deletable(live); err != nil {
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
		ModelName: modelName(live), ModelURI: annotations[ModelURIKey], Version: annotations[VersionKey], RunID: annotations[RunIDKey],
		Set: live.GetLabels()[setLabel], Generation: live.GetGeneration(), Created: live.GetCreationTimestamp().Time,
	}
	var service knative.Service
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &service); err != nil {
		d.Reason = err.Error()
		return d
	}
	if !held(&service) {
		d.Image = imageOf(service.Spec.Template.Spec.PodSpec)
	}
	for _, t := range service.Status.Traffic {
		if percentOf(t) > 0 {
			d.Traffic = append(d.Traffic, Share{Revision: t.RevisionName, Percent: percentOf(t), Tag: t.Tag})
		}
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

// imageOf is the model's image: the first container's.
func imageOf(pod corev1.PodSpec) string {
	if len(pod.Containers) == 0 {
		return ""
	}
	return pod.Containers[0].Image
}
