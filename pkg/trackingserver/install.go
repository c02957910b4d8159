package trackingserver

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Install brings MLflow to the state that p says, from any state, and waits until it answers; on a cluster that is in that
// state already it writes nothing. What p leaves open is as in the last install. It returns what was done to each object,
// also before an error. Errors: failure.Invalid for bad input, failure.Refused where data, foreign objects or another
// overlay are in the way, both before anything is changed; failure.Diagnosed and failure.TimedOut from the waits.
func (c *Client) Install(ctx context.Context, p Parameters) ([]Change, error) {
	in, err := c.prepare(ctx, p)
	if err != nil {
		return nil, err
	}
	err = in.run(ctx)
	return changes(in.done), err
}

// installation is one Install under way.
type installation struct {
	*Client
	rendered *rendered
	secret   *unstructured.Unstructured // to be made, or as it is there
	plan     map[cluster.Ref]cluster.Change
	own      *cluster.Change // the namespace, if it is ours
	old      cluster.Inventory
	record   instance.Instance // as it should be on the cluster
	saved    instance.Instance // as it is
	done     []cluster.Change
}

// prepare reads what is there and renders what should be. It changes nothing.
func (c *Client) prepare(ctx context.Context, p Parameters) (*installation, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if p.Overlay != "" { // a misspelling needs no cluster to be seen
		if _, err := render.Open(c.manifests, p.Overlay); err != nil {
			return nil, err
		}
	}
	namespace, old, err := c.target(ctx, p)
	if err != nil {
		return nil, err
	}
	in := &installation{Client: c, plan: map[cluster.Ref]cluster.Change{}}
	if old != nil {
		if p, err = p.upon(old); err != nil {
			return nil, err
		}
		in.old, in.saved = old.Inventory, *old
	}
	p.Namespace, p.Overlay = namespace, cmp.Or(p.Overlay, DefaultOverlay)
	objs, err := c.Render(p)
	if err != nil {
		return nil, err
	}
	if in.rendered, err = sortOut(objs); err != nil {
		return nil, err
	}
	if err := c.sameVersion(ctx, in.rendered); err != nil {
		return nil, err
	}
	if in.secret, err = c.secret(ctx, namespace); err != nil {
		return nil, err
	}
	in.record = instance.Instance{
		Namespace: namespace, Overlay: p.Overlay, Image: in.rendered.image, Schema: in.saved.Schema,
		Parameters: p.record(), HTTP: in.rendered.http,
	}
	return in, nil
}

// target is the namespace to install into, and what is recorded there.
func (c *Client) target(ctx context.Context, p Parameters) (string, *instance.Instance, error) {
	if p.Namespace == "" {
		return c.place(ctx)
	}
	record, err := c.records.Load(ctx, p.Namespace)
	return p.Namespace, record, err
}

// upon completes p from an earlier install. failure.Refused where that was another overlay: its data would be left behind.
func (p Parameters) upon(old *instance.Instance) (Parameters, error) {
	if p.Overlay != "" && p.Overlay != old.Overlay {
		return p, &failure.Error{
			Class: failure.Refused, Reason: "OtherOverlay",
			Message: fmt.Sprintf("namespace %s holds an installation of overlay %q, and its data; %q would start without them", old.Namespace, old.Overlay, p.Overlay),
			Hint:    "install into another namespace with --namespace, or uninstall this one first",
		}
	}
	p.Overlay = old.Overlay
	return p.over(old.Parameters), nil
}

// sameVersion is failure.Refused where the server that runs is of another version: its schema would be migrated under it.
// Another registry for the same version is fine.
func (c *Client) sameVersion(ctx context.Context, r *rendered) error {
	live, err := c.get(ctx, r.server)
	if err != nil || live == nil {
		return err
	}
	if runs := containerImage(live); tagOf(runs) != tagOf(r.image) {
		return &failure.Error{
			Class: failure.Refused, Reason: "OtherVersion", Object: r.server.String(),
			Message: fmt.Sprintf("it runs %s; to install %s would migrate the database under it", runs, r.image),
			Hint:    fmt.Sprintf("keep it with --image %s, or run `kubectl mlflow uninstall`, which keeps the data, and install again", runs),
		}
	}
	return nil
}

func (in *installation) run(ctx context.Context) error {
	if err := in.ensureNamespace(ctx); err != nil {
		return err
	}
	err := progress.Do(in.progress, "Checking what will change", func(progress.Step) error { return in.dryRun(ctx) })
	if err != nil {
		return in.withdraw(ctx, err)
	}
	in.takeInventory()
	if err := in.save(ctx); err != nil {
		return err
	}
	if err := in.ensureSecret(ctx); err != nil {
		return err
	}
	for _, stage := range []struct{ component, doing string }{
		{"", "Preparing the namespace"},
		{database, "Starting the database"},
		{migration, "Bringing the database's schema to MLflow's"},
		{server, "Starting MLflow"},
	} {
		err := progress.Do(in.progress, stage.doing, func(s progress.Step) error { return in.stage(ctx, stage.component, s) })
		if err != nil {
			return err
		}
	}
	if err := in.answers(ctx, in.record.HTTP); err != nil {
		return err
	}
	return in.prune(ctx)
}

// ensureNamespace creates the namespace where there is none: the one write before the dry run, which needs it. One that is
// there is left as it is, labels and all; that it is ours is read from it too, in case the last install was killed here.
func (in *installation) ensureNamespace(ctx context.Context) error {
	ref := cluster.RefOf(in.rendered.namespace)
	live, err := in.get(ctx, ref)
	switch {
	case failure.ClassOf(err) == failure.Forbidden:
		return nil // who may not look may still work in it; where it is absent, the dry run says so
	case err != nil:
		return err
	case live == nil:
		done, err := in.cluster.Apply(ctx, []*unstructured.Unstructured{in.rendered.namespace}, false)
		if err != nil {
			return err
		}
		in.done, in.own = done, &done[0]
	case live.GetLabels()[cluster.ManagedByLabel] == cluster.FieldManager:
		in.own = &cluster.Change{Ref: ref, UID: live.GetUID()}
	}
	return nil
}

// withdraw takes back the namespace that was made for the dry run, because of err.
func (in *installation) withdraw(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for _, made := range in.done {
		if failed := in.cluster.Delete(ctx, made.Ref, made.UID); failed != nil {
			return fmt.Errorf("%w; %s could not be taken back: %w", err, made.Ref, failed)
		}
	}
	in.done = nil
	return err
}

// dryRun asks the server what all objects would become.
func (in *installation) dryRun(ctx context.Context) error {
	plan, err := in.cluster.Apply(ctx, in.rendered.all(), true)
	if err != nil {
		return err
	}
	for _, change := range plan {
		in.plan[change.Ref] = change
	}
	if in.secret.GetUID() == "" {
		_, err = in.cluster.Create(ctx, in.secret, true)
	}
	return err
}

// takeInventory makes the record's inventory of all that was there and all that is new: whatever happens from here on, the
// next install and uninstall know of it. The order is that of the last install, so that a rerun leaves the record as it is.
func (in *installation) takeInventory() {
	items := slices.Clone(in.old.Items)
	add := func(item cluster.Change) {
		item.Action = ""
		if i := slices.IndexFunc(items, func(i cluster.Change) bool { return i.Ref == item.Ref }); i >= 0 {
			items[i] = item
			return
		}
		items = append(items, item)
	}
	if in.own != nil {
		add(*in.own)
	}
	if in.secret.GetLabels()[cluster.ManagedByLabel] == cluster.FieldManager { // not one that somebody brought along
		add(cluster.Change{Ref: cluster.RefOf(in.secret), UID: in.secret.GetUID()})
	}
	for _, obj := range in.rendered.all() {
		add(in.plan[cluster.RefOf(obj)])
	}
	in.record.Inventory.Items = items
}

// save writes the record where it differs from the one on the cluster.
func (in *installation) save(ctx context.Context) error {
	if reflect.DeepEqual(in.record, in.saved) {
		return nil
	}
	if err := in.records.Save(ctx, in.record); err != nil {
		return err
	}
	in.saved = in.record
	in.saved.Inventory.Items = slices.Clone(in.record.Inventory.Items)
	return nil
}

// note takes what was done into the results, and the UIDs into the record.
func (in *installation) note(done ...cluster.Change) {
	in.done = append(in.done, done...)
	for _, change := range done {
		for i := range in.record.Inventory.Items {
			if item := &in.record.Inventory.Items[i]; item.Ref == change.Ref {
				item.UID = change.UID
			}
		}
	}
}

// ensureSecret creates the Secret, once for all time: PostgreSQL reads the password when it initialises its data, never again.
func (in *installation) ensureSecret(ctx context.Context) error {
	change := cluster.Change{Ref: cluster.RefOf(in.secret), Action: cluster.Unchanged, UID: in.secret.GetUID()}
	if change.UID == "" {
		made, err := in.cluster.CreateOnce(ctx, in.secret)
		if err != nil {
			return err
		}
		change.Action, change.UID = cluster.Created, made.GetUID()
	}
	in.note(change)
	return in.save(ctx)
}

// stage applies the objects of one component and waits for them.
func (in *installation) stage(ctx context.Context, component string, s progress.Step) error {
	objs := in.rendered.stages[component]
	var targets []readiness.Target
	for _, obj := range objs {
		if component == migration && obj.GetKind() == "Job" {
			if err := in.clearFailed(ctx, obj); err != nil {
				return err
			}
		}
		if waitedFor(obj.GetKind()) {
			targets = append(targets, readiness.Target{Object: cluster.RefOf(obj)})
		}
	}
	if err := in.apply(ctx, objs); err != nil {
		return err
	}
	if err := in.wait(ctx, targets, s); err != nil {
		return err
	}
	if component == migration {
		if err := in.readSchema(ctx, objs); err != nil {
			return err
		}
	}
	return in.save(ctx)
}

// waitedFor tells the kinds that run pods. What else a stage holds is there when it is written, or is part of a pod's start.
func waitedFor(kind string) bool {
	return slices.Contains([]string{"StatefulSet", "Job", "Deployment"}, kind)
}

// apply writes what the dry run said will change.
func (in *installation) apply(ctx context.Context, objs []*unstructured.Unstructured) error {
	for _, obj := range objs {
		planned := in.plan[cluster.RefOf(obj)]
		if planned.Action == cluster.Unchanged {
			in.note(planned)
			continue
		}
		done, err := in.cluster.Apply(ctx, []*unstructured.Unstructured{obj}, false)
		in.note(done...)
		if err != nil {
			return err
		}
	}
	return nil
}

// prune deletes what the last install had and this one has not.
func (in *installation) prune(ctx context.Context) error {
	var now cluster.Inventory
	for _, change := range in.done {
		now.Items = append(now.Items, cluster.Change{Ref: change.Ref, UID: change.UID})
	}
	_, old := splitNamespace(in.old)
	pruned, err := in.cluster.Prune(ctx, old, now)
	in.done = append(in.done, pruned...)
	if err != nil {
		return err
	}
	gone := func(item cluster.Change) bool {
		return slices.ContainsFunc(pruned, func(p cluster.Change) bool { return p.Ref == item.Ref && p.Action == cluster.Pruned })
	}
	in.record.Inventory.Items = slices.DeleteFunc(in.record.Inventory.Items, gone)
	return in.save(ctx)
}
