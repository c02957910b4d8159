package trackingserver

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const (
	// LatestBackup stands for the newest backup that there is.
	LatestBackup = "latest"
	// restoreName is that of the CronJob which restores, and of its pods' component. It never runs by itself.
	restoreName, restoreComponent = "mlflow-restore", "restore"
	// The containers of its pods: the first finds the backup and checks it, the second restores.
	fetchContainer, restoreContainer = "fetch", "restore"
	// allKept is for the backup of what is replaced: it takes no other one's place, least of all that of the one to restore.
	allKept = "1000000"
)

// Restoration says what the database is restored from, one of Backup and Dump, and what of that which it holds.
type Restoration struct {
	Backup   string // a backup's name, or LatestBackup
	Dump     *Dump  // it becomes a backup first
	Replace  bool   // replace what the database holds; without it, a database that holds something is left alone
	NoBackup bool   // what is replaced is not backed up first
}

// Restored is what came of it.
type Restored struct {
	Backup string // what the database holds now
	Before string // the backup of what it held before; "" where that was nothing, or no backup was wanted
}

// CheckBackupName is failure.Invalid for what is no backup's name. It needs no cluster.
func CheckBackupName(name string) error {
	if _, err := time.Parse(backupTime, name); err != nil && name != LatestBackup {
		return &failure.Error{
			Class: failure.Invalid, Reason: "NoBackupName", Object: name,
			Message: "that is no name of a backup, which looks like mlflow-20261126T020000Z",
			Hint:    "see those that there are: kubectl mlflow backup --list; or say " + LatestBackup,
		}
	}
	return nil
}

// Restore gives the database what a backup or a dump holds, all or nothing, brings its schema to MLflow's, and starts the server
// again, which is stopped meanwhile. What the database held is backed up first. failure.Invalid for a backup that is not there,
// is damaged, or of a newer MLflow, and failure.Refused where the database holds something and r does not say to replace it: both
// before anything is changed. A restore that was interrupted is gone on with by restoring the same again; Install starts the
// server with what the database holds then.
func (c *Client) Restore(ctx context.Context, r Restoration, o Options) (Restored, error) {
	why := restore
	if r.Dump != nil {
		why = restoreFile
	}
	var restored Restored
	_, err := c.bring(ctx, Parameters{}, why, o, func(in *installation, ctx context.Context) (err error) {
		restored, err = in.restore(ctx, r)
		return err
	})
	return restored, err
}

func (in *installation) restore(ctx context.Context, r Restoration) (Restored, error) {
	in.takeInventory()
	in.record.Restoring = in.saved.Restoring
	if err := in.stage(ctx, ""); err != nil { // the Jobs' scripts are in it
		return Restored{}, err
	}
	if err := in.endRestores(ctx); err != nil {
		return Restored{}, err
	}
	if err := in.endMigrations(ctx); err != nil {
		return Restored{}, err
	}
	decided := r.Replace || in.saved.Restoring != "" // as it was said before the interruption
	if r.Dump != nil {
		if !decided { // it may be long until the dump is there
			found, err := in.lookBefore(ctx, "", false)
			if err != nil {
				return Restored{}, err
			}
			if len(found.rows) > 0 {
				return Restored{}, in.holdsData(found.rows, "the dump")
			}
		}
		name, err := in.keepDump(ctx, r.Dump)
		if err != nil {
			return Restored{}, err
		}
		in.options.say(fmt.Sprintf("The dump is kept as backup %s.", name))
		r.Backup = name
	}
	if r.Backup == LatestBackup { // the newest by now may be that of what is replaced
		r.Backup = in.saved.Restoring
	}
	found, err := in.lookBefore(ctx, r.Backup, true)
	if err != nil {
		return Restored{}, err
	}
	if len(found.rows) > 0 && !decided {
		return Restored{}, in.holdsData(found.rows, found.backup)
	}
	restored := Restored{Backup: found.backup}
	in.options.say(fmt.Sprintf("Restoring MLflow in namespace %s from %s. It is away from now on until that is done.", in.record.Namespace, found.backup))
	in.record.Restoring = found.backup
	if err := in.stop(ctx); err != nil {
		return restored, err
	}
	if err := in.stage(ctx, database); err != nil {
		return restored, in.asItWas(err)
	}
	if len(found.rows) > 0 && !r.NoBackup {
		if restored.Before, err = in.backUp(ctx, keepAll); err != nil {
			return restored, in.asItWas(err)
		}
		in.options.say(fmt.Sprintf("What the database held is backup %s.", restored.Before))
	}
	if err := in.runRestore(ctx, found.backup); err != nil {
		return restored, in.asItWas(err)
	}
	if err := in.stage(ctx, migration); err != nil {
		return restored, err
	}
	in.record.Restoring = ""
	if err := in.stage(ctx, server); err != nil {
		return restored, err
	}
	return restored, in.finish(ctx)
}

// endRestores deletes the Jobs of earlier attempts that may still be at work, and waits until their pods are gone.
func (in *installation) endRestores(ctx context.Context) error {
	jobs, err := in.cluster.List(ctx, cluster.Query{
		GroupVersionKind: batchv1.SchemeGroupVersion.WithKind("Job"), Namespace: in.record.Namespace,
		Selector: labels.SelectorFromSet(labels.Set{component: restoreComponent}),
	})
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if err := in.end(ctx, job, "Ending an earlier restore"); err != nil {
			return err
		}
	}
	return nil
}

// end deletes a Job that may still be at work, and waits until its pods are gone.
func (in *installation) end(ctx context.Context, job *unstructured.Unstructured, doing string) error {
	if ended(job, "Complete") || ended(job, "Failed") {
		return nil
	}
	return progress.Do(in.progress, doing, func(s progress.Step) error {
		if err := in.cluster.Delete(ctx, cluster.RefOf(job), job.GetUID()); err != nil {
			return err
		}
		return in.absent(ctx, []cluster.Query{podsQuery(job)}, s, anything)
	})
}

// before is what is known before anything is changed.
type before struct {
	backup string // that is restored: whole, and of a schema that MLflow knows; "" where none was looked for
	rows   []rows // what the database holds
}

type rows struct {
	table string
	n     int // a million at most
}

// lookBefore finds what would be lost and, where there is one to look for, the backup: the newest where name is "".
func (in *installation) lookBefore(ctx context.Context, name string, fetches bool) (before, error) {
	job, err := in.restoreJob(ctx, name)
	if err != nil {
		return before{}, err
	}
	job, err = edited(job, func(job *batchv1.Job) {
		briefly(job, restoreName+"-look")
		pod := &job.Spec.Template.Spec
		tell(pod, restoreContainer, "holds")
		if !fetches {
			withoutInit(pod, fetchContainer)
		}
	})
	if err != nil {
		return before{}, err
	}
	lines, err := in.outputOf(ctx, job, restoreContainer, "Looking at the backup and at the database")
	if err != nil {
		return before{}, err
	}
	found := readBefore(lines)
	if fetches && found.backup == "" {
		return before{}, fmt.Errorf("%s does not say which backup there is", cluster.RefOf(job))
	}
	return found, nil
}

// readBefore reads what database.sh says at `holds`. What else is said is passed over.
func readBefore(lines []string) before {
	var found before
	for _, line := range lines {
		words := strings.Split(line, "\t")
		switch {
		case len(words) == 2 && words[0] == "backup":
			found.backup = words[1]
		case len(words) == 3 && words[0] == "rows":
			if n, err := strconv.Atoi(words[2]); err == nil {
				found.rows = append(found.rows, rows{words[1], n})
			}
		}
	}
	return found
}

// runRestore lets a pod restore the backup.
func (in *installation) runRestore(ctx context.Context, name string) error {
	job, err := in.restoreJob(ctx, name)
	if err != nil {
		return err
	}
	_, err = in.runJob(ctx, job, "Restoring the database")
	return err
}

// restoreJob is one that restores the backup of that name.
func (in *installation) restoreJob(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	cron, err := in.cluster.Get(ctx, cronJob(in.record.Namespace, restoreName))
	if err != nil {
		return nil, err
	}
	job, err := jobFrom(cron, time.Now())
	if err != nil {
		return nil, err
	}
	return edited(job, func(job *batchv1.Job) {
		setEnv(job.Spec.Template.Spec.InitContainers, fetchContainer, corev1.EnvVar{Name: "BACKUP_NAME", Value: name})
	})
}

func keepAll(job *batchv1.Job) {
	setEnv(job.Spec.Template.Spec.Containers, storeContainer, corev1.EnvVar{Name: "BACKUP_KEEP", Value: allKept})
}

// setEnv sets variables of one of the containers.
func setEnv(containers []corev1.Container, name string, env ...corev1.EnvVar) {
	for i := range containers {
		if c := &containers[i]; c.Name == name {
			c.Env = append(slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool {
				return slices.ContainsFunc(env, func(set corev1.EnvVar) bool { return set.Name == e.Name })
			}), env...)
		}
	}
}

// withoutInit takes an init container out of a pod.
func withoutInit(pod *corev1.PodSpec, name string) {
	pod.InitContainers = slices.DeleteFunc(pod.InitContainers, func(c corev1.Container) bool { return c.Name == name })
}

// tell gives one of a pod's scripts another mode, which is its last word.
func tell(pod *corev1.PodSpec, container, mode string) {
	for _, containers := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range containers {
			if c := &containers[i]; c.Name == container {
				c.Command[len(c.Command)-1] = mode
			}
		}
	}
}

func (in *installation) holdsData(found []rows, what string) error {
	const most = 4
	known := []string{"tags", "metrics", "params", "trace_info", "logged_models", "registered_models", "experiments", "runs"} // what people know of
	slices.SortStableFunc(found, func(a, b rows) int { return slices.Index(known, b.table) - slices.Index(known, a.table) })
	var held []string
	for _, r := range found[:min(most, len(found))] {
		held = append(held, fmt.Sprintf("%d in %s", r.n, r.table))
	}
	if more := len(found) - most; more > 0 {
		held = append(held, fmt.Sprintf("and more in other tables (%d)", more))
	}
	return &failure.Error{
		Class: failure.Refused, Reason: "DatabaseHoldsData", Object: "namespace/" + in.record.Namespace,
		Message: fmt.Sprintf("the database holds rows, which %s would replace: %s", what, strings.Join(held, ", ")),
		Hint:    "to replace it, add --replace: what is there is backed up first",
	}
}

// asItWas adds to a failure what stands: the database is replaced as a whole or not at all.
func (in *installation) asItWas(err error) error {
	return withEvidence(err, "the server is stopped; to start it with what the database holds: kubectl mlflow install --namespace "+in.record.Namespace)
}

// refused is failure.Invalid where a container of the Job says in its termination message why it does not do what it is for; else it is err.
func (c *Client) refused(ctx context.Context, job *unstructured.Unstructured, err error) error {
	if failure.ClassOf(err) != failure.Diagnosed {
		return err
	}
	pods, listed := c.podsOf(ctx, job)
	if listed != nil {
		return err
	}
	for _, obj := range pods {
		var pod corev1.Pod
		if cluster.Into(obj, &pod) != nil {
			continue
		}
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if end := s.State.Terminated; end != nil && end.ExitCode != 0 && end.Message != "" {
				return &failure.Error{
					Class: failure.Invalid, Reason: "BackupUnusable", Object: "namespace/" + job.GetNamespace(),
					Message: strings.TrimSpace(end.Message), Hint: "see the backups that there are: kubectl mlflow backup --list",
				}
			}
		}
	}
	return err
}
