package deployments

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Set is deployments that are declared together, in one namespace.
type Set struct {
	// Name tells the set's deployments from others when they are pruned. It may be empty where nothing is.
	Name string
	// Namespace is the kubeconfig context's where it is empty.
	Namespace string
	// Requests are the deployments. Their settings are all that there are: what an earlier declaration said and these do not is taken back.
	Requests []Request
	// Loose makes the requests what they are to Deploy: what they do not say stays.
	Loose bool
	// Prune deletes deployments of the set that are declared no more.
	Prune bool
}

// Outcome is what became of a set.
type Outcome struct {
	Deployments []*Result `json:"deployments"`
	// Deleted are the names of deployments that were declared no more.
	Deleted []string `json:"deleted,omitempty"`
}

// atOnce is how many deployments of a set are worked on at the same time.
const atOnce = 8

// DeployAll checks all deployments of a set before it changes anything, then brings them up beside each other, and prunes where all have
// come up. Environments that several share are built once. What one fails at stops no other; the error has all failures.
func (c *Client) DeployAll(ctx context.Context, s Set) (*Outcome, error) {
	plans, gone, err := c.planAll(ctx, &s)
	if err != nil {
		return nil, err
	}
	defer closeAll(plans)
	outcome := &Outcome{}
	err = each(plans, func(p *plan) error {
		if err := p.build(ctx); err != nil {
			return err
		}
		return p.rollOut(ctx)
	})
	for _, p := range plans {
		if p.result.URL != "" {
			outcome.Deployments = append(outcome.Deployments, p.result)
		}
	}
	if err != nil || ctx.Err() != nil {
		return outcome, err
	}
	for _, name := range gone {
		if err := c.knative.Delete(ctx, s.Namespace, name); err != nil {
			return outcome, err
		}
		outcome.Deleted = append(outcome.Deleted, name)
	}
	return outcome, nil
}

// Planned is what DeployAll would do to one deployment.
type Planned struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	ModelURI  string `json:"modelURI"`
	// Action is create, update or delete. An update may come to nothing: only the image tells.
	Action string `json:"action"`
}

// Plan makes DeployAll's checks, and changes nothing.
func (c *Client) Plan(ctx context.Context, s Set) ([]Planned, error) {
	plans, gone, err := c.planAll(ctx, &s)
	if err != nil {
		return nil, err
	}
	defer closeAll(plans)
	var planned []Planned
	for _, p := range plans {
		action := "update"
		if p.present == nil {
			action = "create"
		}
		planned = append(planned, Planned{p.request.Namespace, p.request.Name, p.uri, action})
	}
	for _, name := range gone {
		planned = append(planned, Planned{Namespace: s.Namespace, Name: name, Action: "delete"})
	}
	return planned, nil
}

// Manifests makes the images of a set and returns the Knative Services that DeployAll would apply, for those who keep them in a repository.
// The cluster is only asked.
func (c *Client) Manifests(ctx context.Context, s Set) ([]map[string]any, error) {
	plans, _, err := c.planAll(ctx, &s)
	if err != nil {
		return nil, err
	}
	defer closeAll(plans)
	manifests := make([]map[string]any, len(plans))
	err = each(plans, func(p *plan) error {
		if err := p.build(ctx); err != nil {
			return err
		}
		manifest, err := p.spec.Manifest()
		manifests[slices.Index(plans, p)] = manifest
		return err
	})
	return manifests, err
}

// planAll finds the namespace of a set, makes all its checks, and finds the deployments that it has no more.
func (c *Client) planAll(ctx context.Context, s *Set) (plans []*plan, gone []string, err error) {
	if s.Namespace, err = c.in(s.Namespace); err != nil {
		return nil, nil, err
	}
	if err := s.validate(); err != nil {
		return nil, nil, err
	}
	plans = make([]*plan, len(s.Requests))
	failures := make([][]error, len(s.Requests))
	sideBySide(len(s.Requests), func(i int) {
		r := s.Requests[i]
		if r.Namespace = s.Namespace; !s.Loose {
			r.set = &s.Name
		}
		p, err := c.of(r.Name).plan(ctx, r)
		plans[i], failures[i] = p, ofDeployment(r.Name, err)
	})
	if err := errors.Join(slices.Concat(failures...)...); err != nil {
		closeAll(slices.DeleteFunc(plans, func(p *plan) bool { return p == nil }))
		return nil, nil, err
	}
	if s.Prune {
		if gone, err = c.undeclared(ctx, *s); err != nil {
			closeAll(plans)
			return nil, nil, err
		}
	}
	return plans, gone, nil
}

func (s Set) validate() error {
	if s.Name != "" && len(validation.IsValidLabelValue(s.Name)) > 0 {
		return invalid("SetNameInvalid", fmt.Sprintf("set %q", s.Name), "choose a name like fraud-models")
	}
	if s.Prune && s.Name == "" {
		return invalid("SetNameMissing", "a set without a name cannot be pruned: nothing tells its deployments from others", "name it: set: fraud-models")
	}
	names := map[string]bool{}
	for _, r := range s.Requests {
		if names[r.Name] {
			return invalid("NameTwice", fmt.Sprintf("two deployments are called %q", r.Name), "give each a name of its own")
		}
		names[r.Name] = true
	}
	return nil
}

// undeclared are the set's deployments that it does not name any more.
func (c *Client) undeclared(ctx context.Context, s Set) ([]string, error) {
	var gone []string
	err := c.knative.List(ctx, s.Namespace, func(d serving.Deployment) error {
		if d.Set == s.Name && !slices.ContainsFunc(s.Requests, func(r Request) bool { return r.Name == d.Name }) {
			gone = append(gone, d.Name)
		}
		return nil
	})
	slices.Sort(gone)
	return gone, err
}

// of is c, whose steps name a deployment.
func (c *Client) of(name string) *Client {
	named := *c
	named.progress = progress.Prefixed(c.progress, name+": ")
	return &named
}

// each works on all plans, some at once, and returns their failures in order.
func each(plans []*plan, work func(p *plan) error) error {
	failures := make([][]error, len(plans))
	sideBySide(len(plans), func(i int) { failures[i] = ofDeployment(plans[i].request.Name, work(plans[i])) })
	return errors.Join(slices.Concat(failures...)...)
}

func sideBySide(n int, work func(i int)) {
	var running sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i := range n {
		free <- struct{}{}
		running.Go(func() {
			defer func() { <-free }()
			work(i)
		})
	}
	running.Wait()
}

// ofDeployment names the deployment in each of the failures that err is of.
func ofDeployment(name string, err error) []error {
	if err == nil {
		return nil
	}
	failures := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // it is the outermost error that may be a list
		failures = joined.Unwrap()
	}
	named := make([]error, 0, len(failures))
	for _, f := range failures {
		named = append(named, fmt.Errorf("%s: %w", name, f))
	}
	return named
}

func closeAll(plans []*plan) {
	for _, p := range plans {
		p.close()
	}
}
