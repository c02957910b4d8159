package serving

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/serving/pkg/apis/serving"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// What Apply did to a Service, in kubectl's words.
const (
	Created    = "created"
	Configured = "configured"
	Unchanged  = "unchanged"
)

// conflicts is how often a write is tried again on the Service as somebody else has left it.
const conflicts = 5

// placeholder stands for an image that is not built yet. Nothing pulls it: a dry run makes no revision.
const placeholder = "placeholder.invalid/model@sha256:0000000000000000000000000000000000000000000000000000000000000000"

// Applied is what Apply did to a Service, and the revision that has the content.
type Applied struct {
	Action            string
	Service, Revision cluster.Ref
	mark              mark
}

// Check asks the server to take s without keeping it, before anything is built: is Knative there, is the Service ours, do quota,
// webhooks and schema allow it. An empty image is replaced by a placeholder. failure.Diagnosed where there is no Knative,
// failure.Refused where the Service is not ours, failure.Invalid and failure.Forbidden as the server says.
func (c *Client) Check(ctx context.Context, s Spec) error {
	if err := c.Present(ctx); err != nil {
		return err
	}
	if s.Image == "" {
		s.Image = placeholder
	}
	_, _, err := c.write(ctx, s, true)
	return err
}

// Present is failure.Diagnosed where the cluster has no Knative Serving.
func (c *Client) Present(ctx context.Context) error {
	served, err := c.cluster.HasKind(ctx, ServiceRef("", "").GroupVersionKind)
	if err != nil {
		return err
	}
	if !served {
		return &failure.Error{
			Class: failure.Diagnosed, Reason: "KnativeMissing",
			Message: fmt.Sprintf("Knative Serving is not installed on the cluster: it does not serve %s", knative.SchemeGroupVersion),
			Hint:    "install it, with a networking layer: https://knative.dev/docs/install/; or choose another cluster with --context",
		}
	}
	return nil
}

// Apply creates the Service, or updates it by read, change and write, until Knative has named the revision with s's content.
// What is there already is Unchanged, and makes no new revision unless the one that is there has failed.
// failure.Refused where the Service is not ours, or where another deployment has overtaken this one.
func (c *Client) Apply(ctx context.Context, s Spec) (Applied, error) {
	written, action, err := c.write(ctx, s, false)
	if err != nil {
		return Applied{}, err
	}
	revision, err := c.revision(ctx, written)
	if err != nil {
		return Applied{}, err
	}
	return Applied{action, cluster.RefOf(written), revision, marks(written)}, nil
}

// write brings the Service to s. Whoever wrote in between is read, and kept, before the next try.
func (c *Client) write(ctx context.Context, s Spec, dryRun bool) (written *unstructured.Unstructured, action string, err error) {
	for range conflicts {
		written, action, err = c.writeOnce(ctx, s, dryRun)
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			break
		}
	}
	return written, action, explain(err)
}

func (c *Client) writeOnce(ctx context.Context, s Spec, dryRun bool) (written *unstructured.Unstructured, action string, err error) {
	service, err := s.service()
	if err != nil {
		return nil, "", err
	}
	want, err := toUnstructured(service)
	if err != nil {
		return nil, "", err
	}
	live, err := c.cluster.Get(ctx, ServiceRef(s.Namespace, s.Name))
	if apierrors.IsNotFound(err) {
		if s.Only == OnlyUpdate {
			return nil, "", notThere(s.Namespace, s.Name)
		}
		if err := unstructured.SetNestedField(want.Object, "1", "spec", "template", "metadata", "annotations", generationKey); err != nil {
			return nil, "", err
		}
		written, err = c.cluster.Create(ctx, want, dryRun)
		return written, Created, err
	}
	if err != nil {
		return nil, "", err
	}
	if err := Owned(live); err != nil {
		return nil, "", err
	}
	if s.Only == OnlyCreate {
		return nil, "", there(row(live))
	}
	merged, changed, err := merge(live, want)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", cluster.RefOf(live), err)
	}
	if marks(merged) == marks(live) {
		failed, err := c.failed(ctx, live)
		if err != nil {
			return nil, "", err
		}
		if failed {
			if err := renew(merged, s.deadline()); err != nil {
				return nil, "", err
			}
			changed = true
		}
	}
	if !changed && !dryRun {
		return live, Unchanged, nil
	}
	written, err = c.cluster.Update(ctx, merged, dryRun)
	return written, Configured, err
}

// there is the failure of making a Service that is there already.
func there(d Deployment) error {
	serves := "it serves " + d.ModelURI
	if d.ModelURI == "" {
		serves = "it was not made by this plugin"
	}
	return &failure.Error{
		Class: failure.Refused, Reason: "DeploymentExists", Object: ServiceRef(d.Namespace, d.Name).String(),
		Message: fmt.Sprintf("there is a deployment %q in namespace %s already: %s", d.Name, d.Namespace, serves),
		Hint:    fmt.Sprintf("choose another name, or give it a new version: kubectl mlflow deployments update %s MODEL_URI", d.Name),
	}
}

// failed tells whether the revision of service's present template has failed: it does not heal, so the same content needs a new one.
func (c *Client) failed(ctx context.Context, service *unstructured.Unstructured) (bool, error) {
	revisions, err := c.cluster.List(ctx, revisionsOf(service))
	if err != nil {
		return false, err
	}
	present := find(revisions, service)
	if present == nil {
		return false, nil
	}
	result, err := RevisionStatus(present)
	return err == nil && result.Status == status.FailedStatus, err
}

// revision waits until Knative has made the revision of service's template.
func (c *Client) revision(ctx context.Context, service *unstructured.Unstructured) (cluster.Ref, error) {
	ref := cluster.RefOf(service)
	why := "Knative's controller has not taken it up"
	var found cluster.Ref
	err := c.cluster.Observe(ctx, []cluster.Query{cluster.QueryOf(ref), revisionsOf(service)}, func(objs []*unstructured.Unstructured) (bool, error) {
		var live *unstructured.Unstructured
		var revisions []*unstructured.Unstructured
		for _, obj := range objs {
			if obj.GetKind() == ref.Kind {
				live = obj
			} else {
				revisions = append(revisions, obj)
			}
		}
		// The revision first: it stays ours, whatever becomes of the Service.
		if r := find(revisions, service); r != nil {
			found = cluster.RefOf(r)
			return true, nil
		}
		if live == nil || live.GetUID() != service.GetUID() {
			return false, &failure.Error{Class: failure.Refused, Reason: "ServiceDeleted", Object: ref.String(), Message: "somebody has deleted the Service meanwhile", Hint: "run the command again to make it anew"}
		}
		if marks(live) != marks(service) && live.GetGeneration() > service.GetGeneration() {
			return false, &failure.Error{Class: failure.Refused, Reason: "Superseded", Object: ref.String(), Message: "another deployment has overtaken this one", Hint: "see what it deployed: kubectl describe services.serving.knative.dev"}
		}
		reason, denied := uncreated(live)
		if reason != "" {
			why = reason
		}
		if denied {
			return false, &failure.Error{Class: failure.Diagnosed, Reason: "RevisionDenied", Object: ref.String(), Message: reason, Hint: "the message names what refuses it: a quota, a policy, or Knative's own validation"}
		}
		return false, nil
	})
	if err != nil && ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return found, &failure.Error{
			Class: failure.TimedOut, Reason: "RevisionNotCreated", Object: ref.String(), Message: "no revision was made of the Service: " + why,
			Hint: "look at Knative's controller: kubectl -n knative-serving get pods", Err: err,
		}
	}
	return found, err
}

// uncreated is why Knative has made no revision yet, as far as it says so; denied where that will not change.
func uncreated(live *unstructured.Unstructured) (reason string, denied bool) {
	var service knative.Service
	if cluster.Into(live, &service) != nil {
		return "", false
	}
	condition := service.Status.GetCondition(knative.ServiceConditionConfigurationsReady)
	if service.Status.ObservedGeneration < service.Generation || condition == nil || !condition.IsFalse() {
		return "", false
	}
	// The same reason is kept from the revision before this one, which has failed; only the text tells them apart.
	return condition.Message, strings.HasPrefix(condition.Message, "Revision creation failed")
}

func revisionsOf(service *unstructured.Unstructured) cluster.Query {
	// Knative gives a revision and its pods the same label.
	return cluster.Query{GroupVersionKind: revisionRef("", "").GroupVersionKind, Namespace: service.GetNamespace(), Selector: PodsOf(service.GetName())}
}

// mark is what a template and the revision made of it have in common, and no other revision has.
type mark struct{ hash, generation string }

func marks(service *unstructured.Unstructured) mark {
	annotations, _, err := unstructured.NestedStringMap(service.Object, "spec", "template", "metadata", "annotations")
	if err != nil {
		return mark{}
	}
	return mark{annotations[hashKey], annotations[generationKey]}
}

// find returns the revision made of service's template, or nil: the newest, where somebody has changed the template since and left
// our annotations in it. One of a deleted Service of the same name is another one.
func find(revisions []*unstructured.Unstructured, service *unstructured.Unstructured) *unstructured.Unstructured {
	var newest *unstructured.Unstructured
	for _, r := range revisions {
		annotations := r.GetAnnotations()
		if (mark{annotations[hashKey], annotations[generationKey]}) != marks(service) || r.GetDeletionTimestamp() != nil {
			continue
		}
		if of := r.GetLabels()[serving.ServiceUIDLabelKey]; of != "" && of != string(service.GetUID()) {
			continue
		}
		if newest == nil || templateGeneration(r) > templateGeneration(newest) {
			newest = r
		}
	}
	return newest
}

// templateGeneration counts the templates of a Service; 0 is one that Knative has not counted.
func templateGeneration(revision *unstructured.Unstructured) int64 {
	n, err := strconv.ParseInt(revision.GetLabels()[serving.ConfigurationGenerationLabelKey], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
