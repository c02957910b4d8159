package serving

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// SetTraffic gives the requests of a Service to the revisions that change names, given who has them now and which revisions there are, and
// keeps on the Service who had them: those before the newest revision got its first. Tags of others stay. change may be called again, where
// somebody else wrote in between. failure.Refused where the Service is not ours, failure.Invalid where a revision is not there,
// failure.Diagnosed where one that is to have more has failed.
func (c *Client) SetTraffic(ctx context.Context, namespace, name string, change func(now Split, revisions []Revision) ([]Share, error)) (Applied, error) {
	return c.shift(ctx, namespace, name, func(service *unstructured.Unstructured, revisions []*unstructured.Unstructured, now Split) ([]Share, error) {
		rows, err := revisionRows(revisions, now)
		if err != nil {
			return nil, err
		}
		wanted, err := change(now, rows)
		if err != nil {
			return nil, err
		}
		return wanted, give(service, revisions, now, wanted)
	})
}

// shift writes what give makes of a Service that is ours; give returns who is to have the requests.
func (c *Client) shift(ctx context.Context, namespace, name string,
	give func(service *unstructured.Unstructured, revisions []*unstructured.Unstructured, now Split) ([]Share, error),
) (Applied, error) {
	var applied Applied
	err := retried(ctx, func() error {
		live, err := c.get(ctx, namespace, name)
		if err != nil {
			return err
		}
		if err := owned(live); err != nil {
			return err
		}
		revisions, err := c.cluster.List(ctx, revisionsOf(live))
		if err != nil {
			return err
		}
		now, err := split(live, revisions)
		if err != nil {
			return err
		}
		merged := live.DeepCopy()
		wanted, err := give(merged, revisions, now)
		if err != nil {
			return err
		}
		applied = Applied{
			Action: Unchanged, Service: cluster.RefOf(live), Revision: revisionRef(namespace, now.Newest),
			Shares: withRequests(wanted), mark: marks(live),
		}
		if reflect.DeepEqual(live.Object, merged.Object) {
			return nil
		}
		applied.Action = Configured
		_, err = c.cluster.Update(ctx, merged, false)
		return err
	})
	return applied, err
}

// Promote gives percent of the requests to the revision that a made; the others keep the rest. failure.Refused where another deployment
// has overtaken it.
func (c *Client) Promote(ctx context.Context, a Applied, percent int64) (Applied, error) {
	promoted, err := c.SetTraffic(ctx, a.Service.Namespace, a.Service.Name, func(now Split, _ []Revision) ([]Share, error) {
		if now.Newest != a.Revision.Name {
			return nil, Overtaken(a.Service, Superseded)
		}
		return Give(now.Shares, Share{Revision: now.Newest, Percent: percent})
	})
	if promoted.Action == Unchanged && a.Action != "" {
		promoted.Action = a.Action
	}
	return promoted, err
}

// Rollback gives the requests to those that had them before the last change; again, it takes that back. A revision that has none yet loses
// its tag, and they stay where they are. failure.Invalid where none are on record, or where one of them is gone,
// failure.Diagnosed where one has failed.
func (c *Client) Rollback(ctx context.Context, namespace, name string) (Applied, error) {
	withdrawn := false
	applied, err := c.shift(ctx, namespace, name, func(service *unstructured.Unstructured, revisions []*unstructured.Unstructured, now Split) ([]Share, error) {
		stay := withRequests(now.Shares)
		if withdrawn = now.waits() && len(stay) > 0; withdrawn {
			return stay, setTargets(service, targets(now, stay))
		}
		if len(now.Previous) == 0 {
			return nil, &failure.Error{
				Class: failure.Invalid, Reason: "NoPreviousVersion", Object: ServiceRef(namespace, name).String(),
				Message: fmt.Sprintf("%s has served nothing else that is on record", name),
				Hint:    fmt.Sprintf("see its revisions: kubectl mlflow traffic %s; and name the one to have the requests: kubectl mlflow traffic %s REVISION=100", name, name),
			}
		}
		return now.Previous, give(service, revisions, now, now.Previous)
	})
	applied.Withdrawn = withdrawn && err == nil
	return applied, err
}

// give writes wanted into service, which is live but for that.
func give(service *unstructured.Unstructured, revisions []*unstructured.Unstructured, now Split, wanted []Share) error {
	wanted = withRequests(wanted)
	before := withRequests(now.Shares)
	if same(before, wanted) && !now.whole(wanted) && !now.gone {
		return nil
	}
	var serves *unstructured.Unstructured
	for _, s := range wanted {
		i := slices.IndexFunc(revisions, func(r *unstructured.Unstructured) bool { return r.GetName() == s.Revision })
		if i < 0 {
			return revisionNotFound(cluster.RefOf(service), s.Revision)
		}
		if s.Percent > Of(before, s.Revision) {
			if err := servable(cluster.RefOf(service), revisions[i]); err != nil {
				return err
			}
		}
		if s.Revision == leader(wanted) {
			serves = revisions[i]
		}
	}
	if err := keepPrevious(service, now, wanted); err != nil {
		return err
	}
	if err := setModel(service, serves.GetAnnotations()); err != nil {
		return err
	}
	return setTargets(service, targets(now, wanted))
}

// servable is failure.Diagnosed where revision has failed: Knative would leave all requests where they are until it comes back. One that is
// being started, or has no pods now, may have some.
func servable(service cluster.Ref, revision *unstructured.Unstructured) error {
	judged, err := RevisionStatus(revision)
	if err != nil || judged.Status != status.FailedStatus {
		return err
	}
	return &failure.Error{
		Class: failure.Diagnosed, Reason: "RevisionFailed", Object: cluster.RefOf(revision).String(),
		Message: "it has failed, and gets no requests: " + judged.Message,
		Hint:    fmt.Sprintf("deploy the version again, or give the requests to another: kubectl mlflow traffic %s", service.Name),
	}
}

// whole tells whether the newest revision gets all.
func (s Split) whole(wanted []Share) bool {
	return len(wanted) == 1 && wanted[0].Revision == s.Newest
}

// targets are Knative's words for wanted. All for the newest is "the latest", as of a Service that nobody has split: the next template
// of whoever writes it then serves. Where it is not ready, and "the latest" would be one that has not all requests now, it is named.
// The newest with a part of the requests keeps the candidate's tag. Other tags stay where they are.
func targets(now Split, wanted []Share) []any {
	whole := now.whole(wanted)
	if whole && (now.Newest == now.latest || now.latest == "" || Of(now.Shares, now.latest) == 100) {
		return latest(now)
	}
	var list []any
	for _, s := range wanted {
		if s.Revision == now.Newest && !whole {
			s.Tag = Candidate
		}
		list = append(list, target(s))
	}
	return append(list, tags(now)...)
}

// latest are the targets of a Service whose latest revision that is ready gets all.
func latest(now Split) []any {
	return append([]any{target(Share{Percent: 100, floats: true})}, tags(now)...)
}

// tags are the targets of others' tags, without requests.
func tags(now Split) []any {
	var list []any
	for _, s := range now.Shares {
		if s.Tag != "" && s.Tag != Candidate {
			s.Percent = 0
			list = append(list, target(s))
		}
	}
	return list
}

// target is Knative's word for a share.
func target(s Share) map[string]any {
	t := map[string]any{"latestRevision": s.floats, "percent": s.Percent}
	if !s.floats {
		t["revisionName"] = s.Revision
	}
	if s.Tag != "" {
		t["tag"] = s.Tag
	}
	return t
}

// keepPrevious records who has the requests now, for a rollback. Further steps of one roll-out, from 10 % to 50 %, keep the record of its
// beginning.
func keepPrevious(service *unstructured.Unstructured, now Split, wanted []Share) error {
	before := withRequests(now.Shares)
	growing := Of(before, now.Newest) > 0 && Of(wanted, now.Newest) > 0
	if len(before) == 0 || growing && len(now.Previous) > 0 || same(before, wanted) {
		return nil
	}
	return record(service, before)
}

func record(service *unstructured.Unstructured, before []Share) error {
	kept, err := json.Marshal(before)
	if err != nil {
		return fmt.Errorf("the split of %s: %w", cluster.RefOf(service), err)
	}
	return unstructured.SetNestedField(service.Object, string(kept), "metadata", "annotations", previousKey)
}

func revisionNotFound(service cluster.Ref, revision string) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "RevisionNotFound", Object: service.String(),
		Message: fmt.Sprintf("it has no revision %s: Knative removes those that have long had no requests", revision),
		Hint:    fmt.Sprintf("see which there are: kubectl mlflow traffic %s; or deploy the version again", service.Name),
	}
}

// setModel sets the annotations that say which model the Service serves, and removes those that do not hold any more.
func setModel(service *unstructured.Unstructured, of map[string]string) error {
	annotations := service.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	for _, key := range []string{ModelURIKey, VersionKey, EnvironmentKey, RunIDKey} {
		delete(annotations, key)
		if value, ok := of[key]; ok {
			annotations[key] = value
		}
	}
	return unstructured.SetNestedStringMap(service.Object, annotations, "metadata", "annotations")
}

func setTargets(service *unstructured.Unstructured, targets []any) error {
	return unstructured.SetNestedSlice(service.Object, targets, "spec", "traffic")
}
