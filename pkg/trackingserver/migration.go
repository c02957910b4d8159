package trackingserver

import (
	"cmp"
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// clearMigrations deletes the Jobs of earlier attempts that would not run again: one that failed, whose cause may be gone by
// now, and in the midst of an upgrade one that is done, which says nothing of the schema as it is now.
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
		if live == nil || !ended(live, "Failed") && (in.record.Replicas == 0 || !ended(live, "Complete")) {
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
