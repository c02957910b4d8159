package trackingserver

import (
	"cmp"
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// endMigrations ends those of another version that an upgrade which was given up may have left: they would change the schema under the
// server that is started now.
func (in *installation) endMigrations(ctx context.Context) error {
	for _, item := range in.dropped() {
		if item.Kind != "Job" {
			continue
		}
		live, err := in.get(ctx, item.Ref)
		if err != nil {
			return err
		}
		if live == nil || item.UID != "" && live.GetUID() != item.UID {
			continue
		}
		if err := in.end(ctx, live, "Ending an earlier migration"); err != nil {
			return err
		}
	}
	return nil
}

// clearMigrations deletes the Jobs of earlier attempts that would not run again by themselves.
func (in *installation) clearMigrations(ctx context.Context, objs []*unstructured.Unstructured) error {
	for _, job := range objs {
		if job.GetKind() != "Job" {
			continue
		}
		ref := cluster.RefOf(job)
		live, err := in.get(ctx, ref)
		if err != nil {
			return err
		}
		if live == nil || !in.isToRunAgain(live) {
			continue
		}
		if err := in.cluster.Delete(ctx, ref, live.GetUID()); err != nil {
			return err
		}
		delete(in.plan, ref) // which was made with the old one in sight
		err = in.cluster.Observe(ctx, []cluster.Query{cluster.QueryOf(ref)}, func(objs []*unstructured.Unstructured) (bool, error) {
			return len(objs) == 0, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// isToRunAgain tells of a Job that failed, whose cause may be gone by now, and of one that is done but says nothing of the schema as it is
// now: in the midst of an upgrade, and where the database is a new one.
func (in *installation) isToRunAgain(job *unstructured.Unstructured) bool {
	return ended(job, "Failed") || ended(job, "Complete") && (in.record.Replicas > 0 || in.isOfAnotherDatabase(job))
}

// isOfAnotherDatabase tells whether a Job was done before the volume of the database was asked for, which somebody has replaced.
func (in *installation) isOfAnotherDatabase(job *unstructured.Unstructured) bool {
	for ref, planned := range in.plan {
		if ref.Kind == "PersistentVolumeClaim" && ref.Name == databaseClaim {
			return planned.Before == nil || job.GetCreationTimestamp().Time.Before(planned.Before.GetCreationTimestamp().Time)
		}
	}
	return false // it is not in this cluster
}

// ended tells whether a Job has come to an end of this type, Complete or Failed.
func ended(job *unstructured.Unstructured, how string) bool {
	conditions, _, err := unstructured.NestedSlice(job.Object, "status", "conditions")
	if err != nil {
		return false
	}
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == how && c["status"] == "True" {
			return true
		}
	}
	return false
}

// readSchema takes the schema's head into the record: the migration leaves it as its termination message. Pods that are
// gone, as those of an earlier install may be, leave what is recorded.
func (in *installation) readSchema(ctx context.Context, objs []*unstructured.Unstructured) error {
	for _, job := range objs {
		if job.GetKind() != "Job" {
			continue
		}
		head, err := in.messageOf(ctx, job)
		if err != nil {
			return err
		}
		in.record.Schema = cmp.Or(head, in.record.Schema)
	}
	return nil
}

// terminationMessage is what the pod's container left when it ended well.
func terminationMessage(pod *unstructured.Unstructured) string {
	statuses, _, err := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
	if err != nil {
		return ""
	}
	for _, s := range statuses {
		container, ok := s.(map[string]any)
		if !ok {
			continue
		}
		code, found, err := unstructured.NestedInt64(container, "state", "terminated", "exitCode")
		if err != nil || !found || code != 0 {
			continue
		}
		if message, _, err := unstructured.NestedString(container, "state", "terminated", "message"); err == nil && message != "" {
			return message
		}
	}
	return ""
}
