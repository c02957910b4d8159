package serving

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// Share is what one revision gets of a Service's requests, and the tag by which it is asked alone.
type Share struct {
	Revision string `json:"revisionName"`
	Percent  int64  `json:"percent"`
	Tag      string `json:"tag,omitempty"`
	// floats is a tag of whichever revision is the latest that is ready.
	floats bool
}

// Candidate is the tag of a revision that is still to have its requests, or all of them.
const Candidate = "candidate"

// Split is who gets the requests of a Service.
type Split struct {
	// Newest is the revision of the Service's present template; "" where Knative has not made it.
	Newest string
	// Shares are of revisions that have requests, or a tag. They are empty where nothing serves yet.
	Shares []Share
	// Previous are those from before the last change, without tags; empty where none are on record.
	Previous []Share
	// gone tells that the Service names a revision that somebody has deleted, which is not in Shares.
	gone bool
	// held tells that not all is the latest revision's.
	held bool
	// latest is what "the latest revision" means to Knative now: the newest that was ready, "" where none was.
	latest string
}

// waits tells whether the newest revision, or whichever is made of the template, is still to have its first requests.
func (s Split) waits() bool {
	return Of(s.Shares, s.Newest) == 0 && slices.ContainsFunc(s.Shares, func(s Share) bool { return s.Tag == Candidate && s.Percent == 0 })
}

// Older is the revision with most of the requests beside the newest one, now or before; "" where there is none.
func (s Split) Older() string {
	for _, shares := range [][]Share{s.Shares, s.Previous} {
		others := slices.DeleteFunc(withRequests(shares), func(other Share) bool { return other.Revision == s.Newest })
		if most := leader(others); most != "" {
			return most
		}
	}
	return ""
}

// Of is what a revision has, in percent.
func Of(shares []Share, revision string) int64 {
	var percent int64
	for _, s := range shares {
		if s.Revision == revision {
			percent += s.Percent
		}
	}
	return percent
}

// Give is shares after each of wanted has what it says; the others keep the rest, in the proportions that they had. failure.Invalid where
// wanted is more than there is, or less and nobody else has requests.
func Give(shares []Share, wanted ...Share) ([]Share, error) {
	rest := int64(100)
	for _, w := range wanted {
		rest -= w.Percent
	}
	others := slices.DeleteFunc(withRequests(shares), func(s Share) bool {
		return slices.ContainsFunc(wanted, func(w Share) bool { return w.Revision == s.Revision })
	})
	had := int64(0)
	for _, s := range others {
		had += s.Percent
	}
	switch {
	case rest < 0:
		return nil, splitInvalid(fmt.Sprintf("the shares are %d %% together", 100-rest), "write them so that they are 100 % together; the rest stays with those who have it")
	case rest > 0 && had == 0:
		return nil, splitInvalid(fmt.Sprintf("%d %% would go to nobody", rest), "name the revision that is to have them, too")
	}
	left := rest
	for i := range others {
		others[i].Percent = others[i].Percent * rest / max(had, 1)
		left -= others[i].Percent
	}
	for i := 0; left > 0; i, left = i+1, left-1 { // what rounding has left
		others[i].Percent++
	}
	return withRequests(slices.Concat(others, wanted)), nil
}

func splitInvalid(message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "SplitInvalid", Message: message, Hint: hint}
}

// leader is the revision with most of the requests.
func leader(shares []Share) string {
	if len(shares) == 0 {
		return ""
	}
	return slices.MaxFunc(shares, func(a, b Share) int { return cmp.Compare(a.Percent, b.Percent) }).Revision
}

func split(live *unstructured.Unstructured, revisions []*unstructured.Unstructured) (Split, error) {
	var service knative.Service
	if err := cluster.Into(live, &service); err != nil {
		return Split{}, err
	}
	s := Split{held: held(&service), latest: latestReady(&service)}
	s.Shares, s.gone = present(shares(&service), revisions)
	if newest := find(revisions, live); newest != nil {
		s.Newest = newest.GetName()
	}
	if kept := live.GetAnnotations()[previousKey]; kept != "" {
		if err := json.Unmarshal([]byte(kept), &s.Previous); err != nil {
			return Split{}, fmt.Errorf("annotation %s of %s: %w", previousKey, cluster.RefOf(live), err)
		}
	}
	return s, nil
}

// latestReady is what "the latest revision" means to Knative now.
func latestReady(service *knative.Service) string {
	latest := service.Status.LatestReadyRevisionName
	for _, target := range service.Status.Traffic {
		if isLatest(target) && latest == "" {
			latest = target.RevisionName
		}
	}
	return latest
}

// shares are the Service's targets.
func shares(service *knative.Service) []Share {
	latest := latestReady(service)
	var all []Share
	for _, target := range service.Spec.Traffic {
		s := Share{Revision: cmp.Or(target.RevisionName, latest), Percent: percentOf(target), Tag: target.Tag}
		if s.Revision == "" {
			continue
		}
		if isLatest(target) && s.Tag != "" {
			all = append(all, Share{Revision: s.Revision, Tag: s.Tag, floats: true})
			s.Tag = ""
		}
		if s.Percent > 0 || s.Tag != "" {
			all = append(all, s)
		}
	}
	return all
}

// present are the shares of the revisions that are there; gone tells that others had some. Knative routes nothing while one is named that is
// not there. What it had goes to the one that has most.
func present(all []Share, revisions []*unstructured.Unstructured) (some []Share, gone bool) {
	lost, most := int64(0), -1
	for _, s := range all {
		there := slices.ContainsFunc(revisions, func(r *unstructured.Unstructured) bool { return r.GetName() == s.Revision })
		if !there && !s.floats {
			gone, lost = true, lost+s.Percent
			continue
		}
		if some = append(some, s); s.Percent > 0 && (most < 0 || s.Percent > some[most].Percent) {
			most = len(some) - 1
		}
	}
	if most >= 0 {
		some[most].Percent += lost
	}
	return some, gone
}

func isLatest(target knative.TrafficTarget) bool {
	return target.LatestRevision != nil && *target.LatestRevision
}

func percentOf(target knative.TrafficTarget) int64 {
	if target.Percent == nil {
		return 0
	}
	return *target.Percent
}

// withRequests are the shares that have some, one for each revision, without their tags.
func withRequests(all []Share) []Share {
	var some []Share
	for _, s := range all {
		i := slices.IndexFunc(some, func(other Share) bool { return other.Revision == s.Revision })
		switch {
		case s.Percent == 0:
		case i >= 0:
			some[i].Percent += s.Percent
		default:
			some = append(some, Share{Revision: s.Revision, Percent: s.Percent})
		}
	}
	return some
}

// same tells whether two splits without tags are one, in whatever order.
func same(a, b []Share) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(s Share) bool { return !slices.Contains(b, s) })
}
