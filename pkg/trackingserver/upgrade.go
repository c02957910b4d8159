package trackingserver

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Upgrade brings MLflow to the version of p.Image, or of the manifests: it stops the server, backs up where that is asked for,
// migrates the database's schema, and starts the new server. p may change other parameters too, as in Install, whose errors it
// shares. A migration that fails leaves the old server's Deployment as it was, stopped, and says how to go back or on.
func (c *Client) Upgrade(ctx context.Context, p Parameters, backUp bool, o Options) ([]Change, error) {
	if backUp && p.BackupSchedule == "" {
		if record, err := c.Recorded(ctx, p); err == nil && !given(record.BackupSchedule) {
			p.BackupSchedule = manual
		}
	}
	return c.bring(ctx, p, upgrade, o, func(in *installation, ctx context.Context) error { return in.upgrade(ctx, backUp) })
}

// stoppable is failure.Invalid where there is no MLflow to stop.
func stoppable(namespace string, old *instance.Instance) error {
	if old == nil {
		return notInstalled(namespace)
	}
	return old.Running()
}

func (in *installation) upgrade(ctx context.Context, backUp bool) error {
	from, to := in.saved.Image, in.record.Image
	if sameVersion(from, to) && in.saved.Replicas == 0 {
		in.options.say(fmt.Sprintf("MLflow is at %s already.", tagOf(to)))
		return in.install(ctx)
	}
	in.options.say(fmt.Sprintf("Upgrading MLflow in namespace %s from %s to %s. It is away from now on until its database is migrated.", in.record.Namespace, from, to))
	in.takeInventory()
	// Until the schema is the new one, what is recorded stays the old version: a later install brings that back.
	parameters, image := in.record.Parameters, in.record.Image
	in.record.Parameters, in.record.Image = maps.Clone(in.saved.Parameters), from
	if err := in.endMigrations(ctx); err != nil {
		return err
	}
	if err := in.stop(ctx); err != nil {
		return err
	}
	if err := in.ensureSecrets(ctx); err != nil {
		return err
	}
	for _, stage := range []string{"", database} {
		if err := in.stage(ctx, stage); err != nil {
			return in.stopped(err)
		}
	}
	if backUp {
		if _, err := in.backUp(ctx, nil); err != nil {
			return in.stopped(err)
		}
	}
	if err := in.stage(ctx, migration); err != nil {
		return in.migrationFailed(ctx, err)
	}
	in.record.Parameters, in.record.Image = parameters, image
	if err := in.save(ctx); err != nil {
		return err
	}
	if err := in.stage(ctx, server); err != nil {
		return err
	}
	return in.finish(ctx)
}

// stop scales the server to 0 and waits until no pod of it is left: two versions must not meet on one schema. How many there
// were is recorded before.
func (in *installation) stop(ctx context.Context) error {
	if in.record.Replicas == 0 {
		replicas, err := in.cluster.Replicas(ctx, in.rendered.server)
		if err != nil {
			return err
		}
		in.record.Replicas = max(replicas, 1)
	}
	if err := in.save(ctx); err != nil {
		return err
	}
	return progress.Do(in.progress, "Stopping MLflow", func(s progress.Step) error {
		if err := in.cluster.Scale(ctx, in.rendered.server, 0); err != nil {
			return err
		}
		return in.absent(ctx, []cluster.Query{serverPods(in.record.Namespace, in.rendered.server.Name)}, s, running)
	})
}

// serverPods are those of the server's Deployment, whose name it is.
func serverPods(namespace, name string) cluster.Query {
	return cluster.Query{
		GroupVersionKind: core("Pod", "", "").GroupVersionKind,
		Namespace:        namespace,
		Selector:         labels.SelectorFromSet(labels.Set{"app": name, component: server}),
	}
}

// start scales the server to what it was before an upgrade stopped it. One that somebody else stopped stays so, and is a
// failure: it will not answer.
func (in *installation) start(ctx context.Context) error {
	if in.record.Replicas == 0 {
		for _, done := range in.done {
			if done.Ref == in.rendered.server {
				return awake(done.After)
			}
		}
		return nil
	}
	if err := in.cluster.Scale(ctx, in.rendered.server, in.record.Replicas); err != nil {
		return err
	}
	in.record.Replicas = 0
	return nil
}

// awake is failure.Diagnosed where a workload is scaled to nothing.
func awake(workload *unstructured.Unstructured) error {
	if workload == nil {
		return nil
	}
	replicas, found, err := unstructured.NestedInt64(workload.Object, "spec", "replicas")
	if err != nil || !found || replicas > 0 {
		return nil //nolint:nilerr // what is no number is the API server's to refuse
	}
	ref := cluster.RefOf(workload)
	return &failure.Error{
		Class: failure.Diagnosed, Reason: "ScaledToZero", Object: ref.String(),
		Message: "it is scaled to 0, so nothing will answer",
		Hint:    fmt.Sprintf("start it: kubectl scale %s --replicas=1 --namespace %s", ref, workload.GetNamespace()),
	}
}

// stopped adds to a failure that the server is stopped, and how it is started again.
func (in *installation) stopped(err error) error { return withEvidence(err, in.wayBack()) }

// withEvidence puts a line before a failure's evidence. One that is Refused says itself what is to be done.
func withEvidence(err error, line string) error {
	if f, ok := errors.AsType[*failure.Error](err); ok && f.Class != failure.Refused {
		explained := *f
		explained.Evidence = append([]string{line}, f.Evidence...)
		return &explained
	}
	return err
}

// migrationFailed says what stands and what can be done. Whether the schema was changed is not known here: the migration's log,
// which is in the evidence, says it.
func (in *installation) migrationFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	f := &failure.Error{
		Class: failure.Diagnosed, Reason: "MigrationFailed",
		Message: fmt.Sprintf("the database's schema could not be brought to that of %s", tagOf(in.rendered.image)),
		Hint:    "mend what the migration complains of, and run the same command again; " + in.wayBack(),
		Err:     err,
	}
	if cause, ok := errors.AsType[*failure.Error](err); ok {
		f.Class, f.Object, f.Evidence = cause.Class, cause.Object, cause.Evidence
	}
	return f
}

func (in *installation) wayBack() string {
	return fmt.Sprintf("the server is stopped and as it was; to go back to %s: kubectl mlflow install --namespace %s", tagOf(in.saved.Image), in.record.Namespace)
}
