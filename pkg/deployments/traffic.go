package deployments

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Share is what one revision gets of a deployment's requests, in percent.
type Share = serving.Share

// The words for revisions that change with time.
const (
	NewRevision = "new" // the one of the last deployment
	OldRevision = "old" // the one that has most of the requests, or had them, beside the new one
)

// Revision is one version of a deployment, as long as Knative keeps it.
type Revision struct {
	Name     string `json:"name"`
	ModelURI string `json:"modelURI,omitempty"`
	Version  string `json:"version,omitempty"`
	RunID    string `json:"runID,omitempty"`
	Image    string `json:"image,omitempty"`
	// Newest tells the revision of the last deployment.
	Newest bool `json:"newest"`
	// Percent of the requests that it is to get.
	Percent int64 `json:"percent"`
	// Tags by which it is asked alone.
	Tags  []string `json:"tags,omitempty"`
	Ready bool     `json:"ready"`
	// Reason is why it is not ready.
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created,omitzero"`
}

// TrafficRequest says who is to get the requests of a deployment.
type TrafficRequest struct {
	// Namespace is the kubeconfig context's where it is empty.
	Namespace string
	Name      string
	// Split has shares in percent, by revision, by a model's version, or by NewRevision and OldRevision. What is missing to 100 stays
	// with the others, in the proportions that they have.
	Split map[string]int64
	// Timeout is how long the gateway may take; 0 is DefaultTimeout.
	Timeout time.Duration
}

// Revisions are those of a deployment, the newest first. An empty namespace is the kubeconfig context's.
func (c *Client) Revisions(ctx context.Context, namespace, name string) ([]Revision, error) {
	namespace, err := c.place(namespace, name)
	if err != nil {
		return nil, err
	}
	found, err := c.knative.Revisions(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	all := make([]Revision, 0, len(found))
	for _, r := range found {
		all = append(all, Revision(r))
	}
	return all, nil
}

// SetTraffic gives the requests of a deployment to its revisions, waits until the gateway does so, and returns who has them. Nothing is
// built or started anew. failure.Invalid where a revision is not there, or the shares are not 100 percent, failure.Refused where the
// deployment is not ours, failure.Diagnosed where a revision that is to have more has failed.
func (c *Client) SetTraffic(ctx context.Context, r TrafficRequest) ([]Share, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	return c.shift(ctx, r, func(ctx context.Context, namespace string) (serving.Applied, error) {
		return c.knative.SetTraffic(ctx, namespace, r.Name, func(now serving.Split, revisions []serving.Revision) ([]serving.Share, error) {
			wanted, err := r.resolve(now, revisions)
			if err != nil {
				return nil, err
			}
			return serving.Give(now.Shares, wanted...)
		})
	})
}

// Rollback gives the requests back to those that had them before the last deployment, waits until the gateway does so, and returns who
// has them; a second one takes the first back. Where the last deployment has none yet, it loses its tag, they stay, and the reporter is told
// so. failure.Invalid where nothing is on record, or Knative does not keep it any more.
func (c *Client) Rollback(ctx context.Context, r TrafficRequest) ([]Share, error) {
	return c.shift(ctx, r, func(ctx context.Context, namespace string) (serving.Applied, error) {
		applied, err := c.knative.Rollback(ctx, namespace, r.Name)
		if applied.Withdrawn {
			progress.Say(c.progress, "the last deployment of %s had no requests yet: they stay where they are, and its tag %s is gone", r.Name, serving.Candidate)
		}
		return applied, err
	})
}

func (c *Client) shift(ctx context.Context, r TrafficRequest, write func(ctx context.Context, namespace string) (serving.Applied, error)) ([]Share, error) {
	namespace, err := c.place(r.Namespace, r.Name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.Timeout, DefaultTimeout))
	defer cancel()
	var shares []Share
	err = progress.Do(c.progress, "Giving the requests of "+r.Name, func(s progress.Step) error {
		applied, err := write(ctx, namespace)
		if err != nil {
			return err
		}
		shares = applied.Shares
		return c.routed(ctx, applied, s)
	})
	return shares, err
}

func (r TrafficRequest) validate() error {
	for target, percent := range r.Split {
		if percent < 0 || percent > 100 {
			return invalid("PercentInvalid", fmt.Sprintf("%s=%d", target, percent), "write whole numbers from 0 to 100")
		}
	}
	if len(r.Split) == 0 {
		return invalid("SplitMissing", "no revision is named", "write REVISION=PERCENT, as in new=20")
	}
	return nil
}

// resolve finds the revisions that the split names.
func (r TrafficRequest) resolve(now serving.Split, revisions []serving.Revision) ([]serving.Share, error) {
	var wanted []serving.Share
	for target, percent := range r.Split {
		name, err := r.revision(target, now, revisions)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(wanted, func(s serving.Share) bool { return s.Revision == name }) {
			return nil, invalid("RevisionTwice", fmt.Sprintf("two shares are of revision %s", name), "name it once")
		}
		wanted = append(wanted, serving.Share{Revision: name, Percent: percent})
	}
	slices.SortFunc(wanted, func(a, b serving.Share) int { return cmp.Compare(a.Revision, b.Revision) })
	return wanted, nil
}

func (r TrafficRequest) revision(target string, now serving.Split, revisions []serving.Revision) (string, error) {
	var found string
	switch target {
	case NewRevision:
		found = now.Newest
	case OldRevision:
		found = now.Older()
	default:
		found = named(target, revisions)
	}
	if found == "" {
		known := make([]string, 0, len(revisions))
		for _, r := range revisions {
			known = append(known, r.Name)
		}
		return "", &failure.Error{
			Class: failure.Invalid, Reason: "RevisionNotFound", Object: serving.ServiceRef(r.Namespace, r.Name).String(),
			Message: fmt.Sprintf("it has no revision %q: there are %s", target, cmp.Or(strings.Join(known, ", "), "none")),
			Hint:    fmt.Sprintf("see them with their models: kubectl mlflow traffic %s; a version that is gone is deployed again", r.Name),
		}
	}
	return found, nil
}

// named is the revision of that name, or the newest one of that version of the model.
func named(target string, revisions []serving.Revision) string {
	for _, r := range revisions {
		if r.Name == target {
			return target
		}
	}
	version := strings.TrimPrefix(target, "v")
	if _, err := strconv.Atoi(version); err != nil {
		return ""
	}
	for _, r := range revisions {
		if r.Version == version {
			return r.Name
		}
	}
	return ""
}
