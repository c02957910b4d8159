package trackingserver

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// intent is what an installation is looked at for: as people say it, for whoever meets its lock.
type intent string

const (
	install     intent = "install"
	upgrade     intent = "upgrade"
	makeSecrets intent = "install --secrets-only"
	look        intent = "diff" // nothing is written
	uninstall   intent = "uninstall"
	backup      intent = "backup"
	listBackups intent = "backup --list"
	checking    intent = "check"
	readLogs    intent = "logs"
	restore     intent = "restore"
	restoreFile intent = "restore --from-file"
)

// restores tells whether the database gets what another one held.
func (i intent) restores() bool { return i == restore || i == restoreFile }

// stops tells whether the server is stopped meanwhile. There has to be one.
func (i intent) stops() bool { return i == upgrade || i.restores() }

// installation is one change of an MLflow under way.
type installation struct {
	*Client
	options  Options
	intent   intent
	rendered *rendered
	live     map[cluster.Ref]*unstructured.Unstructured // of what is rendered, as it was when it was looked at
	secrets  []*unstructured.Unstructured               // to be made, or as they are there
	plan     map[cluster.Ref]cluster.Applied
	own      *cluster.Change // the namespace, if it is ours
	old      cluster.Inventory
	seen     *instance.Instance // the record as it was found, or nil
	record   instance.Instance  // as it should be on the cluster
	saved    instance.Instance  // as it is
	done     []cluster.Applied
}

// prepare reads what is there, renders what should be, and looks for all that stands in the way. It changes nothing.
func (c *Client) prepare(ctx context.Context, p Parameters, why intent, o Options) (*installation, error) {
	in, p, unread, err := c.draft(ctx, p, why, o)
	if err != nil {
		return nil, err
	}
	if why != look { // who may not even read the record is told all that is missing, too
		if err := in.mayDoIt(ctx); err != nil {
			return nil, err
		}
	}
	if unread != nil { // and there is no Role that would help
		return nil, unread
	}
	if err := in.lookAround(ctx); err != nil {
		return nil, err
	}
	return in, in.readSecrets(ctx, p)
}

// draft is an installation as it should be, from what is typed and what is recorded. p is then complete. unread is the failure of
// who may not read the record.
func (c *Client) draft(ctx context.Context, p Parameters, why intent, o Options) (in *installation, complete Parameters, unread, err error) {
	p.UseGivenKeys(o.Secrets)
	if err := p.Validate(); err != nil {
		return nil, p, nil, err
	}
	if p.Overlay != "" { // a misspelling needs no cluster to be seen
		if _, err := render.Open(c.manifests, p.Overlay); err != nil {
			return nil, p, nil, err
		}
	}
	namespace, old, unread := c.target(ctx, p)
	if unread != nil && (failure.ClassOf(unread) != failure.Forbidden || why.stops()) {
		return nil, p, nil, unread
	}
	in = &installation{Client: c, options: o, intent: why, seen: old, plan: map[cluster.Ref]cluster.Applied{}}
	typed := p.Image
	if old != nil {
		if p, err = p.upon(old); err != nil {
			return nil, p, nil, err
		}
		in.old, in.saved = old.Inventory, *old
	}
	p.Namespace, p.Overlay = namespace, cmp.Or(p.Overlay, DefaultOverlay)
	if why.stops() {
		if err := stoppable(namespace, old); err != nil {
			return nil, p, nil, err
		}
	}
	if why == upgrade {
		in.rendered, err = c.nextVersion(&p, typed, old)
	} else {
		in.rendered, err = c.keepVersion(p, typed, old)
	}
	if err != nil {
		return nil, p, nil, err
	}
	if why.restores() && !given(p.BackupSchedule) {
		return nil, p, nil, noBackups(namespace)
	}
	set := cluster.ApplySetID(instance.Name, namespace, "ConfigMap", "")
	for _, obj := range in.rendered.all() {
		cluster.JoinApplySet(obj, set)
	}
	in.record = instance.Instance{
		Namespace: namespace, Overlay: p.Overlay, Image: in.rendered.image, Schema: in.saved.Schema,
		Parameters: p.record(), HTTP: in.rendered.http, Replicas: in.saved.Replicas,
	}
	if p.BasicAuth == yes {
		in.record.AuthSecret = AuthSecretName
	}
	return in, p, unread, nil
}

// lookAround reads what is there under the names of what is rendered, and refuses what is somebody else's.
func (in *installation) lookAround(ctx context.Context) error {
	if in.intent == makeSecrets {
		return nil
	}
	if err := in.namesAreFree(ctx); err != nil {
		return err
	}
	return in.hasStorage(ctx)
}

// namesAreFree reads what there is, and fails where something is in the way.
func (in *installation) namesAreFree(ctx context.Context) error {
	var err error
	if in.live, err = in.getAll(ctx, in.rendered.all()); err != nil {
		return err
	}
	if err := in.notForeign(); err != nil {
		return err
	}
	return in.runsRecordedVersion()
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

// runsRecordedVersion is failure.Refused where the server that runs is of another version than what install would bring: its
// schema would be migrated under it. Another registry for the same version is fine. Between the steps of an upgrade the server
// is stopped, and may be of either.
func (in *installation) runsRecordedVersion() error {
	live := in.live[in.rendered.server]
	if in.intent == upgrade || in.saved.Replicas > 0 || live == nil {
		return nil
	}
	if runs := containerImage(live); !sameVersion(runs, in.rendered.image) {
		return &failure.Error{
			Class: failure.Refused, Reason: "OtherVersion", Object: in.rendered.server.String(),
			Message: fmt.Sprintf("it runs %s; to install %s would migrate the database under it", runs, in.rendered.image),
			Hint:    "somebody has changed its image: change it back, or go to that version with `kubectl mlflow upgrade --image`, which keeps to the order",
		}
	}
	return nil
}

// ensureNamespace creates the namespace where there is none: the one write before the dry run, which needs it. One that is
// there is left as it is, labels and all; that it is ours is read from it too, in case the last install was killed here.
func (in *installation) ensureNamespace(ctx context.Context) error {
	ref := cluster.RefOf(in.rendered.namespace)
	live, err := in.get(ctx, ref)
	if err == nil && live == nil {
		var made *unstructured.Unstructured
		made, err = in.cluster.Create(ctx, in.rendered.namespace, false)
		if err == nil {
			change := cluster.Change{Ref: ref, Action: cluster.Created, UID: made.GetUID()}
			in.done, in.own = []cluster.Applied{{Change: change, After: made}}, &change
			return nil
		}
		if apierrors.IsAlreadyExists(err) { // somebody was faster
			live, err = in.get(ctx, ref)
		}
	}
	switch {
	case failure.ClassOf(err) == failure.Forbidden:
		return nil // who may not look, or create, may still work in it; where it is absent, the next request says so
	case err != nil:
		return err
	case live != nil && live.GetLabels()[cluster.ManagedByLabel] == cluster.FieldManager:
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
	for _, secret := range in.secrets {
		if secret.GetLabels()[cluster.ManagedByLabel] == cluster.FieldManager { // not one that somebody brought along
			add(cluster.Change{Ref: cluster.RefOf(secret), UID: secret.GetUID()})
		}
	}
	for _, obj := range in.rendered.all() {
		add(in.plan[cluster.RefOf(obj)].Change)
	}
	in.record.Inventory.Items = items
}

// save writes the record where it differs from the one on the cluster.
func (in *installation) save(ctx context.Context) error {
	if in.intent == makeSecrets || reflect.DeepEqual(in.record, in.saved) {
		return nil
	}
	if err := in.records.Save(ctx, in.record); err != nil {
		return err
	}
	in.saved = in.record
	in.saved.Parameters = maps.Clone(in.record.Parameters)
	in.saved.Inventory.Items = slices.Clone(in.record.Inventory.Items)
	return nil
}

// note takes what was done into the results, and the UIDs into the record.
func (in *installation) note(done ...cluster.Applied) {
	in.done = append(in.done, done...)
	for _, change := range done {
		for i := range in.record.Inventory.Items {
			if item := &in.record.Inventory.Items[i]; item.Ref == change.Ref {
				item.UID = change.UID
			}
		}
	}
}

// forget takes out of the record what is deleted.
func (in *installation) forget(deleted []cluster.Change) {
	in.record.Inventory.Items = slices.DeleteFunc(in.record.Inventory.Items, func(item cluster.Change) bool {
		return slices.ContainsFunc(deleted, func(d cluster.Change) bool { return d.Ref == item.Ref && d.Action == cluster.Pruned })
	})
}

// stage applies the objects of one component, and of those that start beside it, and waits for the one.
func (in *installation) stage(ctx context.Context, stage string, beside ...string) error {
	return in.step(ctx, stage, func(s progress.Step) error {
		for _, written := range append([]string{stage}, beside...) {
			if err := in.write(ctx, written); err != nil {
				return err
			}
		}
		return in.await(ctx, stage, s, beside...)
	})
}

// step does a part of a stage, and keeps what is known after it.
func (in *installation) step(ctx context.Context, stage string, do func(progress.Step) error) error {
	doing := map[string]string{
		"":        "Preparing the namespace",
		database:  "Starting the database",
		migration: "Bringing the database's schema to MLflow's",
		server:    "Starting MLflow",
	}
	return progress.Do(in.progress, doing[stage], func(s progress.Step) error {
		if err := do(s); err != nil {
			return err
		}
		return in.save(ctx)
	})
}

func (in *installation) write(ctx context.Context, stage string) error {
	objs := in.rendered.stages[stage]
	if stage == migration {
		if err := in.clearMigrations(ctx, objs); err != nil {
			return err
		}
	}
	if err := in.apply(ctx, objs); err != nil {
		return err
	}
	if stage == server {
		return in.start(ctx)
	}
	return nil
}

// await waits for a stage. Of those that are under way beside it, it hears what waiting will not mend.
func (in *installation) await(ctx context.Context, stage string, s progress.Step, beside ...string) error {
	targets := in.targets(stage)
	for _, other := range beside {
		for _, target := range in.targets(other) {
			target.Beside = true
			targets = append(targets, target)
		}
	}
	if err := in.wait(ctx, targets, s); err != nil {
		return err
	}
	if stage == migration {
		return in.readSchema(ctx, in.rendered.stages[migration])
	}
	return nil
}

// runsPods tells what is waited for. What else a stage holds is there when it is written, or is part of a pod's start.
func runsPods(obj *unstructured.Unstructured) bool {
	return slices.Contains([]string{"StatefulSet", "Job", "Deployment"}, obj.GetKind())
}

// targets are what there is to wait for in a stage.
func (in *installation) targets(stage string) []readiness.Target {
	var targets []readiness.Target
	for _, obj := range in.rendered.stages[stage] {
		if runsPods(obj) {
			target := readiness.Target{Object: cluster.RefOf(obj)}
			if stage == migration {
				// The database, or the proxy in front of it: why it lets nobody in, only its log tells.
				target.Behind = labels.SelectorFromSet(labels.Set{component: database})
			}
			targets = append(targets, target)
		}
	}
	return targets
}

// apply writes what the dry run said will change.
func (in *installation) apply(ctx context.Context, objs []*unstructured.Unstructured) error {
	for _, obj := range objs {
		if planned := in.plan[cluster.RefOf(obj)]; planned.Action == cluster.Unchanged {
			in.note(planned)
			continue
		}
		done, err := in.cluster.ApplyObject(ctx, obj, in.options.applying())
		if err != nil {
			return err
		}
		in.note(done)
	}
	return nil
}
