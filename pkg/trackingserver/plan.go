package trackingserver

import (
	"cmp"
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// DryRun says who is asked what an install would do.
type DryRun string

// As in kubectl.
const (
	DryRunClient DryRun = "client" // nobody: objects are as they would be sent
	DryRunServer DryRun = "server" // the API server: objects are as they would be stored
)

// Difference is what an install would do to one object.
type Difference struct {
	Change
	Before *unstructured.Unstructured // nil where the object is not there, and for a Secret
}

// Plan is what Install would do, in its order, and then what it would prune. Nothing is written, and no lock taken. Where the
// namespace does not exist the server cannot be asked, and objects are as they would be sent. Its errors are those of Install
// before the first write.
func (c *Client) Plan(ctx context.Context, p Parameters, o Options, dry DryRun) ([]Difference, error) {
	in, err := c.prepare(ctx, p, look, o)
	if err != nil {
		return nil, err
	}
	plan, err := in.planned(ctx, dry)
	if err != nil {
		return nil, err
	}
	gone, err := in.wouldPrune(ctx)
	return append(plan, gone...), err
}

func (in *installation) planned(ctx context.Context, dry DryRun) ([]Difference, error) {
	var plan []Difference
	namespace, err := in.namespaceThere(ctx)
	if err != nil {
		return nil, err
	}
	if !namespace {
		plan = append(plan, difference(cluster.Applied{Change: cluster.Change{Ref: cluster.RefOf(in.rendered.namespace), Action: cluster.Created}, After: in.rendered.namespace}))
	}
	for _, secret := range in.secrets {
		change := cluster.Change{Ref: cluster.RefOf(secret), Action: cluster.Unchanged}
		if secret.GetUID() == "" {
			change.Action = cluster.Created
		}
		plan = append(plan, difference(cluster.Applied{Change: change}))
	}
	if dry == DryRunServer && namespace {
		if err := in.dryRun(ctx); err != nil {
			return nil, err
		}
	}
	for _, obj := range in.rendered.all() {
		ref := cluster.RefOf(obj)
		applied, asked := in.plan[ref]
		if !asked {
			applied = cluster.Applied{Change: cluster.Change{Ref: ref, Action: cluster.Configured}, Before: in.live[ref], After: obj}
			if applied.Before == nil {
				applied.Action = cluster.Created
			}
		}
		plan = append(plan, difference(applied))
	}
	return plan, nil
}

// namespaceThere tells whether the namespace exists; who may not look is taken to be in one that does.
func (in *installation) namespaceThere(ctx context.Context) (bool, error) {
	live, err := in.get(ctx, cluster.RefOf(in.rendered.namespace))
	if failure.ClassOf(err) == failure.Forbidden {
		return true, nil
	}
	return live != nil, err
}

func (in *installation) wouldPrune(ctx context.Context) ([]Difference, error) {
	var gone []Difference
	for _, item := range in.dropped() {
		live, err := in.getRecorded(ctx, item)
		if err != nil {
			return nil, err
		}
		if live == nil || item.UID != "" && item.UID != live.GetUID() || live.GetLabels()[cluster.KeepKey] == "true" {
			continue
		}
		gone = append(gone, difference(cluster.Applied{Change: cluster.Change{Ref: item.Ref, Action: cluster.Pruned}, Before: live}))
	}
	return gone, nil
}

func difference(a cluster.Applied) Difference {
	d := Difference{Change: changeOf(a.Change, a.After), Before: a.Before}
	if a.Kind == "Secret" {
		d.Before = nil
	}
	return d
}

// Recorded is p upon what is recorded of the installation that it is about: what Install would take it for.
func (c *Client) Recorded(ctx context.Context, p Parameters) (Parameters, error) {
	namespace, old, err := c.target(ctx, p)
	if err != nil {
		return p, err
	}
	if old != nil {
		if p, err = p.upon(old); err != nil {
			return p, err
		}
	}
	p.Namespace, p.Overlay = namespace, cmp.Or(p.Overlay, DefaultOverlay)
	return p, nil
}
