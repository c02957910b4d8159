package trackingserver

import (
	"context"
	"reflect"
	"slices"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Install brings MLflow to the state that p says, from any state, and waits until it answers; on a cluster that is in that
// state already it writes nothing. What p leaves open is as in the last install, and so is MLflow's version. It returns what
// was done to each object, also before an error. Errors: failure.Invalid for bad input, failure.Refused where data, another
// version or overlay, foreign objects or another run are in the way, failure.Forbidden with the Role that is missing, all
// before anything is changed; failure.Diagnosed and failure.TimedOut from the waits.
func (c *Client) Install(ctx context.Context, p Parameters, o Options) ([]Change, error) {
	return c.bring(ctx, p, install, o, (*installation).install)
}

// SecretsOnly makes the namespace and the Secrets that Install would make, and nothing else: for manifests that somebody else
// applies.
func (c *Client) SecretsOnly(ctx context.Context, p Parameters, o Options) ([]Change, error) {
	return c.bring(ctx, p, makeSecrets, o, (*installation).ensureSecrets)
}

// install goes from stage to stage.
func (in *installation) install(ctx context.Context) error {
	in.takeInventory()
	if err := in.save(ctx); err != nil {
		return err
	}
	if err := in.ensureSecrets(ctx); err != nil {
		return err
	}
	if err := in.stage(ctx, ""); err != nil {
		return err
	}
	if err := in.endMigrations(ctx); err != nil {
		return err
	}
	start := in.startOneByOne
	if in.isFirst() {
		start = in.startTogether
	}
	if err := start(ctx); err != nil {
		return err
	}
	return in.finish(ctx)
}

func (in *installation) startOneByOne(ctx context.Context) error {
	for _, stage := range []string{database, migration, server} {
		if err := in.stage(ctx, stage); err != nil {
			return err
		}
	}
	return nil
}

// isFirst tells whether none of the database and the server has run before.
func (in *installation) isFirst() bool {
	for _, obj := range slices.Concat(in.rendered.stages[database], in.rendered.stages[server]) {
		if runsPods(obj) && in.plan[cluster.RefOf(obj)].Action != cluster.Created {
			return false
		}
	}
	return true
}

// startTogether is for what waits by itself: the migration for its database, the server for its schema. Images are pulled, volumes made and
// Python started in the same time. The server comes when the database is ready: its pod asks for more than the migration's, and where there
// is no room for both it must not be the first.
func (in *installation) startTogether(ctx context.Context) error {
	if err := in.stage(ctx, database, migration); err != nil {
		return err
	}
	err := in.step(ctx, migration, func(s progress.Step) error {
		if err := in.write(ctx, server); err != nil {
			return err
		}
		return in.await(ctx, migration, s, server)
	})
	if err != nil {
		return err
	}
	return in.step(ctx, server, func(s progress.Step) error { return in.await(ctx, server, s) })
}

// finish asks MLflow, and then takes away what the last install had and this one has not.
func (in *installation) finish(ctx context.Context) error {
	if err := in.answers(ctx, &in.record); err != nil {
		return err
	}
	return in.prune(ctx)
}

// bring does work under the lock, after all that can be known to stand in the way was looked for.
func (c *Client) bring(ctx context.Context, p Parameters, why intent, o Options, work func(*installation, context.Context) error) ([]Change, error) {
	in, err := c.prepare(ctx, p, why, o)
	if err != nil {
		return nil, err
	}
	if err := in.ensureNamespace(ctx); err != nil {
		return changes(in.done), err
	}
	err = c.locked(ctx, in.record.Namespace, why, func(ctx context.Context) error {
		err := in.catchUp(ctx, p)
		if err == nil {
			err = progress.Do(c.progress, "Checking what will change", func(progress.Step) error { return in.dryRun(ctx) })
		}
		if err != nil {
			return in.withdraw(ctx, err) // under the lock: without it somebody else may be at work in the namespace
		}
		return work(in, ctx)
	})
	return changes(in.done), err
}

// catchUp prepares anew where somebody else has changed the installation since it was looked at.
func (in *installation) catchUp(ctx context.Context, p Parameters) error {
	record, err := in.records.Load(ctx, in.record.Namespace)
	if err != nil || reflect.DeepEqual(record, in.seen) {
		return err
	}
	again, err := in.prepare(ctx, p, in.intent, in.options)
	if err != nil {
		return err
	}
	again.own = in.own // but a namespace that others use by now is not taken back
	*in = *again
	return nil
}

// dryRun asks the server what all objects would become.
func (in *installation) dryRun(ctx context.Context) error {
	objs := in.rendered.all()
	if in.intent == makeSecrets {
		objs = nil
	}
	plan, err := in.cluster.Preview(ctx, objs, in.options.asking())
	if err != nil {
		return err
	}
	for _, planned := range plan {
		in.plan[planned.Ref] = planned
	}
	for _, secret := range in.secrets {
		if secret.GetUID() == "" {
			if _, err := in.cluster.Create(ctx, secret, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// prune deletes what the last install had and this one has not.
func (in *installation) prune(ctx context.Context) error {
	_, old := splitNamespace(in.old)
	now := in.now()
	pruned, err := in.cluster.Prune(ctx, old, now)
	for _, p := range pruned {
		in.done = append(in.done, cluster.Applied{Change: p})
	}
	in.forget(pruned)
	if err != nil {
		return err
	}
	// An earlier try may have deleted something and not lived to record it.
	in.record.Inventory.Items = slices.DeleteFunc(in.record.Inventory.Items, func(item cluster.Change) bool {
		is := func(other cluster.Change) bool { return other.Ref == item.Ref }
		return item.Kind != "Namespace" && !slices.ContainsFunc(now.Items, is) && !slices.ContainsFunc(pruned, is)
	})
	return in.save(ctx)
}

// dropped is what the last install had and this one has not, but for the namespace.
func (in *installation) dropped() []cluster.Change {
	stays := map[cluster.Ref]bool{}
	for _, item := range in.now().Items {
		stays[item.Ref] = true
	}
	_, old := splitNamespace(in.old)
	return slices.DeleteFunc(old.Items, func(item cluster.Change) bool { return stays[item.Ref] })
}

// now is what this install has.
func (in *installation) now() cluster.Inventory {
	var now cluster.Inventory
	for _, obj := range in.rendered.all() {
		now.Items = append(now.Items, cluster.Change{Ref: cluster.RefOf(obj)})
	}
	for _, secret := range in.secrets {
		now.Items = append(now.Items, cluster.Change{Ref: cluster.RefOf(secret)})
	}
	return now
}
