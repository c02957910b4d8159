package serving

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
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

// placeholder stands for an image that is not built yet. Nothing pulls it: a dry run makes no revision.
const placeholder = "placeholder.invalid/model@sha256:0000000000000000000000000000000000000000000000000000000000000000"

// Applied is what Apply did to a Service, and the revision that has the content.
type Applied struct {
	Action            string
	Service, Revision cluster.Ref
	// Shares are those that the Service now asks for.
	Shares []Share
	// Held tells that others have the requests until Promote, and that the revision answers at its tag Candidate alone.
	Held bool
	// Doubted tells that it serves, and did not answer its example when it was deployed: see Doubt.
	Doubted bool
	// Withdrawn tells that Rollback has moved no requests: the last deployment had none yet, and has lost its tag Candidate.
	Withdrawn bool
	// Keeper is the tool that may put its own version of the Service back, "" for none.
	Keeper string
	mark   mark
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
	applied := Applied{Action: action, Service: cluster.RefOf(written), Revision: revision, Doubted: isDoubted(written), mark: marks(written)}
	applied.Shares = []Share{{Revision: revision.Name, Percent: 100}}
	if keeper, ok := cluster.KeptBy(written); ok {
		applied.Keeper = keeper.Tool
	}
	var service knative.Service
	if err := cluster.Into(written, &service); err != nil {
		return Applied{}, err
	}
	if applied.Held = held(&service); applied.Held {
		applied.Shares = []Share{{Revision: revision.Name, Tag: Candidate}}
	}
	return applied, nil
}

// write brings the Service to s. Whoever wrote in between is read, and kept, before the next try.
func (c *Client) write(ctx context.Context, s Spec, dryRun bool) (written *unstructured.Unstructured, action string, err error) {
	err = retried(ctx, func() error {
		written, action, err = c.writeOnce(ctx, s, dryRun)
		return err
	})
	return written, action, err
}

// retried calls write until it has met nobody else's, for about four seconds. Knative's own controller writes the Service's status: several
// times in the second after somebody else has deployed.
func retried(ctx context.Context, write func() error) error {
	pause := wait.Backoff{Duration: 20 * time.Millisecond, Factor: 1.5, Jitter: 0.5, Steps: 12}
	var err error
	stopped := wait.ExponentialBackoffWithContext(ctx, pause, func(context.Context) (bool, error) {
		err = write()
		return !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err), nil
	})
	if stopped != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return explain(err)
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
		on, err := s.overlays(want)
		if err != nil {
			return nil, "", err
		}
		on.lay(want.Object)
		if err := unstructured.SetNestedField(want.Object, "1", "spec", "template", "metadata", "annotations", generationKey); err != nil {
			return nil, "", err
		}
		written, err = c.cluster.Create(ctx, want, dryRun)
		return written, Created, err
	}
	if err != nil {
		return nil, "", err
	}
	if err = owned(live); err != nil && (!s.Adopt || !adoptable(live)) {
		return nil, "", err
	}
	s.Adopt = err != nil // there is nothing to take over of what is ours
	if s.Only == OnlyCreate && !s.Adopt {
		return nil, "", there(row(live))
	}
	if !dryRun && (s.Hold || pinned(live)) {
		if live, err = c.settled(ctx, live); err != nil {
			return nil, "", err
		}
	}
	merged, err := c.merged(ctx, live, want, s)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", cluster.RefOf(live), err)
	}
	if reflect.DeepEqual(live.Object, merged.Object) && !dryRun {
		return live, Unchanged, nil
	}
	written, err = c.cluster.Update(ctx, merged, dryRun)
	return written, Configured, err
}

// merged is live with what s wants of it.
func (c *Client) merged(ctx context.Context, live, want *unstructured.Unstructured, s Spec) (*unstructured.Unstructured, error) {
	on, err := s.overlays(live)
	if err != nil {
		return nil, err
	}
	on.layTemplate(want.Object)
	merged, err := merge(live, want, on, s.Adopt)
	if err != nil {
		return nil, err
	}
	revisions, err := c.cluster.List(ctx, revisionsOf(live))
	if err != nil {
		return nil, err
	}
	if marks(merged) == marks(live) {
		failed, err := failed(revisions, live)
		if err != nil {
			return nil, err
		}
		if failed {
			if err := renew(merged, on, s.deadline()); err != nil {
				return nil, err
			}
		}
	}
	now, err := split(live, revisions)
	if err != nil {
		return nil, err
	}
	return merged, s.route(merged, now, marks(merged) != marks(live))
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

// failed tells whether the revision of service's present template has failed: it does not heal, so the same content needs a new one. One
// that was denied Knative would try to make again, but after a quarter of an hour at times.
func failed(revisions []*unstructured.Unstructured, service *unstructured.Unstructured) (bool, error) {
	present := find(revisions, service)
	if present == nil {
		_, denied := uncreated(service)
		return denied, nil
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
			return false, serviceDeleted(ref)
		}
		if marks(live) != marks(service) && live.GetGeneration() > service.GetGeneration() {
			return false, Overtaken(ref, Superseded)
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
		return found, controllerSilent(ref, "no revision was made of the Service: "+why, err)
	}
	return found, err
}

func serviceDeleted(ref cluster.Ref) error {
	return &failure.Error{
		Class: failure.Refused, Reason: "ServiceDeleted", Object: ref.String(), Message: "somebody has deleted the Service meanwhile",
		Hint: "run the command again to make it anew",
	}
}

func controllerSilent(ref cluster.Ref, message string, err error) error {
	return &failure.Error{
		Class: failure.TimedOut, Reason: "RevisionNotCreated", Object: ref.String(), Message: message,
		Hint: "look at Knative's controller: kubectl -n knative-serving get pods", Err: err,
	}
}

// Overtaken is the failure of a deployment that somebody else has replaced; reason is Superseded or TrafficChanged.
func Overtaken(service cluster.Ref, reason string) error {
	f := &failure.Error{
		Class: failure.Refused, Reason: reason, Object: service.String(), Message: "another deployment has overtaken this one",
		Hint: "see who has the requests: kubectl mlflow traffic " + service.Name,
	}
	if reason == TrafficChanged {
		f.Message = "somebody else has given the requests to others meanwhile"
	}
	return f
}

// settled is service as it is once Knative has taken up its last change: until then its status speaks of another one.
func (c *Client) settled(ctx context.Context, service *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	ref := cluster.RefOf(service)
	err := c.cluster.Observe(ctx, []cluster.Query{cluster.QueryOf(ref)}, func(objs []*unstructured.Unstructured) (bool, error) {
		if len(objs) == 0 {
			return false, serviceDeleted(ref)
		}
		service = objs[0]
		var typed knative.Service
		if err := cluster.Into(service, &typed); err != nil {
			return false, err
		}
		return typed.Status.ObservedGeneration >= typed.Generation, nil
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return nil, controllerSilent(ref, "Knative's controller has not taken up its last change", err)
	}
	return service, err
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
