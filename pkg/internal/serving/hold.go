package serving

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// route decides who gets the requests when service, which has a template of s, is written; fresh tells that the template makes a new
// revision. With Hold they stay where they are, by name: the new revision is only to be asked at its tag. Without, too, where they are given
// by name: Knative's "latest" is another revision, one that was rolled back perhaps, until the new one is ready.
func (s Spec) route(service *unstructured.Unstructured, now Split, fresh bool) error {
	before := withRequests(now.Shares)
	switch {
	case !now.held && !fresh:
		return setModel(service, s.Annotations)
	case (s.Hold || now.held && (fresh || now.Newest != now.latest)) && len(before) > 0:
		return setTargets(service, holding(now, fresh))
	case len(before) > 0 && (fresh || Of(before, now.Newest) == 0):
		if err := record(service, before); err != nil {
			return err
		}
	}
	if err := setModel(service, s.Annotations); err != nil {
		return err
	}
	return setTargets(service, latest(now))
}

// holding are the targets of now, all by name, and the candidate's. What is the same revision's without a tag is one target: Knative makes
// one of two, and does not call the route ready then.
func holding(now Split, fresh bool) []any {
	var kept []Share
	rises := false // the candidate is one already, with a part of the requests
	for _, s := range now.Shares {
		switch {
		case s.Tag != Candidate:
		case !fresh && s.Revision == now.Newest && s.Percent > 0:
			rises = true
		default:
			s.Tag = ""
		}
		twin := slices.IndexFunc(kept, func(other Share) bool { return other.Revision == s.Revision && other.Tag == "" })
		switch {
		case s.Tag == "" && twin >= 0:
			kept[twin].Percent += s.Percent
		case s.Percent > 0 || s.Tag != "":
			kept = append(kept, s)
		}
	}
	if !rises {
		kept = append(kept, Share{Tag: Candidate, floats: true})
	}
	list := make([]any, 0, len(kept))
	for _, s := range kept {
		list = append(list, target(s))
	}
	return list
}

// pinned is held of a Service that was not read yet.
func pinned(live *unstructured.Unstructured) bool {
	var service knative.Service
	return cluster.Into(live, &service) == nil && held(&service)
}

// held tells whether a Service gives requests to others than its latest revision.
func held(service *knative.Service) bool {
	latest := int64(0)
	for _, target := range service.Spec.Traffic {
		if isLatest(target) {
			latest += percentOf(target)
		}
	}
	return latest < 100 && len(service.Spec.Traffic) > 0
}
