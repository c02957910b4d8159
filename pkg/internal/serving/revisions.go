package serving

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// Revision is one version of a deployment, as long as Knative keeps it.
type Revision struct {
	Name, ModelURI, Version, RunID, Image string
	Newest                                bool
	Percent                               int64
	Tags                                  []string
	Ready                                 bool
	Reason                                string // why it is not ready
	Created                               time.Time
}

// Revisions are those of a Service, the newest first. failure.Invalid where there is no such Service.
func (c *Client) Revisions(ctx context.Context, namespace, name string) ([]Revision, error) {
	live, err := c.get(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	objs, err := c.cluster.List(ctx, revisionsOf(live))
	if err != nil {
		return nil, err
	}
	now, err := split(live, objs)
	if err != nil {
		return nil, err
	}
	return revisionRows(objs, now)
}

// revisionRows are rows of objs, the newest first.
func revisionRows(objs []*unstructured.Unstructured, now Split) ([]Revision, error) {
	objs = slices.SortedFunc(slices.Values(objs), func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(templateGeneration(b), templateGeneration(a))
	})
	all := make([]Revision, 0, len(objs))
	for _, obj := range objs {
		r, err := revisionRow(obj, now)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func revisionRow(obj *unstructured.Unstructured, now Split) (Revision, error) {
	var revision knative.Revision
	if err := cluster.Into(obj, &revision); err != nil {
		return Revision{}, err
	}
	r := Revision{
		Name: revision.Name, ModelURI: revision.Annotations[ModelURIKey], Version: revision.Annotations[VersionKey], RunID: revision.Annotations[RunIDKey],
		Image: imageOf(revision.Spec.PodSpec), Newest: revision.Name == now.Newest, Created: revision.CreationTimestamp.Time,
	}
	for _, s := range now.Shares {
		if s.Revision == r.Name {
			r.Percent += s.Percent
			if s.Tag != "" && (s.Tag != Candidate || r.Newest) { // else it waits for the newest to be ready
				r.Tags = append(r.Tags, s.Tag)
			}
		}
	}
	judged, err := RevisionStatus(obj)
	if err != nil {
		return Revision{}, err
	}
	if r.Ready = judged.Status == status.CurrentStatus; !r.Ready {
		r.Reason = judged.Message
	}
	return r, nil
}
