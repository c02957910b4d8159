package trackingserver

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

const (
	// backupName is that of the CronJob which backs up.
	backupName = "mlflow-backup"
	// The containers of its pods: the first dumps, the second keeps.
	dumpContainer, storeContainer = "dump", "store"
	// backupTime is how a backup's name has its time.
	backupTime = "mlflow-20060102T150405Z"
)

// Backup is a backup that there is.
type Backup struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"` // when it was begun
	Size int64     `json:"size"` // in bytes
}

// Backup makes a backup of the database now, and returns its name. failure.Invalid where the installation has no backups.
func (c *Client) Backup(ctx context.Context) (string, error) {
	record, err := c.running(ctx)
	if err != nil {
		return "", err
	}
	r := &rightsIn{namespace: record.Namespace}
	r.lock()
	r.jobs()
	r.add(cronJob("", "").GroupVersionKind, "get")
	if err := c.may(ctx, backup, record.Namespace, r.wanted); err != nil {
		return "", err
	}
	name := ""
	err = c.locked(ctx, record.Namespace, backup, func(ctx context.Context) error {
		cron, err := c.backups(ctx, record.Namespace)
		if err != nil {
			return err
		}
		name, err = c.backUp(ctx, cron, nil)
		return err
	})
	return name, err
}

// Backups are those that there are, the oldest first. failure.Invalid where the installation has none configured.
func (c *Client) Backups(ctx context.Context) ([]Backup, error) {
	record, err := c.running(ctx)
	if err != nil {
		return nil, err
	}
	r := &rightsIn{namespace: record.Namespace}
	r.jobs()
	r.logs()
	r.add(cronJob("", "").GroupVersionKind, "get")
	if err := c.may(ctx, listBackups, record.Namespace, r.wanted); err != nil {
		return nil, err
	}
	cron, err := c.backups(ctx, record.Namespace)
	if err != nil {
		return nil, err
	}
	return c.list(ctx, cron)
}

// backups is the CronJob that backs up. failure.Invalid where there is none.
func (c *Client) backups(ctx context.Context, namespace string) (*unstructured.Unstructured, error) {
	cron, err := c.get(ctx, cronJob(namespace, backupName))
	if err != nil || cron != nil {
		return cron, err
	}
	return nil, noBackups(namespace)
}

func noBackups(namespace string) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "NoBackups",
		Message: fmt.Sprintf("MLflow in namespace %s is installed without backups", namespace),
		Hint:    "install them: kubectl mlflow install --backup-schedule manual; or with a schedule as cron has it, and --backup-destination for a bucket",
	}
}

// backUp makes a backup now, waits for it and returns its name. edit, where it is not nil, has the last word on the Job.
func (c *Client) backUp(ctx context.Context, cron *unstructured.Unstructured, edit func(*batchv1.Job)) (string, error) {
	job, err := jobFrom(cron, time.Now())
	if err == nil && edit != nil {
		job, err = edited(job, edit)
	}
	if err != nil {
		return "", err
	}
	name, err := c.runJob(ctx, job, "Backing up the database")
	if err == nil && name == "" {
		err = nameGone(job)
	}
	return name, err
}

func nameGone(job *unstructured.Unstructured) error {
	return fmt.Errorf("%s is complete, but its pod is gone, and the backup's name with it: see kubectl mlflow backup --list", cluster.RefOf(job))
}

// backUp makes a backup with what is being installed, and returns its name. edit, where it is not nil, has the last word on the Job.
func (in *installation) backUp(ctx context.Context, edit func(*batchv1.Job)) (string, error) {
	for _, obj := range in.rendered.all() {
		if ref := cluster.RefOf(obj); ref == cronJob(in.record.Namespace, backupName) {
			cron, err := in.cluster.Get(ctx, ref)
			if err != nil {
				return "", err
			}
			return in.Client.backUp(ctx, cron, edit)
		}
	}
	return "", missing("--backup-schedule", "there is nothing that backs up", "give it as cron does, or as --backup-schedule manual")
}

// list asks a pod what is where backups are kept.
func (c *Client) list(ctx context.Context, cron *unstructured.Unstructured) ([]Backup, error) {
	job, err := jobFrom(cron, time.Now())
	if err != nil {
		return nil, err
	}
	job, err = edited(job, func(job *batchv1.Job) {
		briefly(job, backupName+"-list")
		pod := &job.Spec.Template.Spec
		withoutInit(pod, dumpContainer)
		tell(pod, storeContainer, "list")
	})
	if err != nil {
		return nil, err
	}
	lines, err := c.outputOf(ctx, job, storeContainer, "Looking at the backups")
	return readBackups(lines), err
}

// briefly is for Jobs beside those of their CronJob: they are tried once, and go by themselves.
func briefly(job *batchv1.Job, prefix string) {
	job.Name = jobName(prefix)
	job.OwnerReferences = nil // the CronJob would count it among its own
	tries, left, most := int32(0), int32(afterwards.Seconds()), int64(time.Hour.Seconds())
	job.Spec.BackoffLimit, job.Spec.TTLSecondsAfterFinished, job.Spec.ActiveDeadlineSeconds = &tries, &left, &most
}

// readBackups reads names and sizes, one backup a line. What else libraries say is passed over.
func readBackups(lines []string) []Backup {
	var found []Backup
	for _, line := range lines {
		name, size, _ := strings.Cut(line, "\t")
		at, err := time.Parse(backupTime, name)
		if err != nil {
			continue
		}
		bytes, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			continue
		}
		found = append(found, Backup{Name: name, Time: at, Size: bytes})
	}
	return found
}

func cronJob(namespace, name string) cluster.Ref {
	return cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "CronJob"}, Namespace: namespace, Name: name}
}
