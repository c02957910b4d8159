package trackingserver

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// backupName is that of the CronJob which backs up.
const backupName = "mlflow-backup"

// backUp makes a backup now and waits for it.
func (in *installation) backUp(ctx context.Context) error {
	for _, obj := range in.rendered.all() {
		if obj.GetKind() == "CronJob" && obj.GetName() == backupName {
			job, err := jobFrom(obj, time.Now())
			if err != nil {
				return err
			}
			return in.runJob(ctx, job, "Backing up the database")
		}
	}
	return missing("--backup-schedule", "there is nothing that backs up", "give it as cron does, or as --backup-schedule manual")
}

// runJob creates a Job and waits until it is complete.
func (c *Client) runJob(ctx context.Context, job *unstructured.Unstructured, doing string) error {
	return progress.Do(c.progress, doing, func(s progress.Step) error {
		if _, err := c.cluster.CreateOnce(ctx, job); err != nil {
			return err
		}
		return c.wait(ctx, []readiness.Target{{Object: cluster.RefOf(job)}}, s)
	})
}

// jobFrom is a Job as the CronJob would make it at that time, as `kubectl create job --from` does.
func jobFrom(cron *unstructured.Unstructured, at time.Time) (*unstructured.Unstructured, error) {
	template, found, err := unstructured.NestedMap(cron.Object, "spec", "jobTemplate")
	if err != nil || !found {
		return nil, fmt.Errorf("%s has no jobTemplate: %w", cluster.RefOf(cron), err)
	}
	job := &unstructured.Unstructured{Object: template}
	job.SetGroupVersionKind(schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"})
	job.SetNamespace(cron.GetNamespace())
	job.SetName(fmt.Sprintf("%s-%s", cron.GetName(), at.UTC().Format("20060102-150405")))
	labels := map[string]string{}
	for key, value := range cron.GetLabels() {
		labels[key] = value
	}
	for key, value := range job.GetLabels() {
		labels[key] = value
	}
	job.SetLabels(labels)
	annotations := job.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations["cronjob.kubernetes.io/instantiate"] = "manual"
	job.SetAnnotations(annotations)
	return job, nil
}
