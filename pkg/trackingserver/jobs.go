package trackingserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const (
	jobNameLabel = "batch.kubernetes.io/job-name"

	// logLines is more than any of our Jobs says.
	logLines = 10000
	// afterwards is how long a Job that only looked stays, where nobody was left to delete it.
	afterwards = 5 * time.Minute
	// parting is how long it may take to delete one when all else is over.
	parting = 2 * time.Second
)

// runJob creates a Job and waits until it is complete. It returns what its pod left as its termination message.
func (c *Client) runJob(ctx context.Context, job *unstructured.Unstructured, doing string) (message string, err error) {
	err = progress.Do(c.progress, doing, func(s progress.Step) error {
		if _, err := c.cluster.CreateOnce(ctx, job); err != nil {
			return err
		}
		if err := c.wait(ctx, []readiness.Target{{Object: cluster.RefOf(job)}}, s); err != nil {
			return err
		}
		message, err = c.messageOf(ctx, job)
		return err
	})
	return message, err
}

// messageOf is what a Job's pod left as its termination message, "" where it is gone.
func (c *Client) messageOf(ctx context.Context, job *unstructured.Unstructured) (string, error) {
	pods, err := c.podsOf(ctx, job)
	if err != nil {
		return "", err
	}
	message := ""
	for _, pod := range pods {
		message = cmp.Or(terminationMessage(pod), message)
	}
	return message, nil
}

// outputOf runs a Job that only looks, and returns what the container wrote. Nothing of it stays.
func (c *Client) outputOf(ctx context.Context, job *unstructured.Unstructured, container, doing string) (lines []string, err error) {
	err = progress.Do(c.progress, doing, func(s progress.Step) error {
		if _, err := c.cluster.CreateOnce(ctx, job); err != nil {
			return err
		}
		defer c.discard(ctx, job)
		if err := c.wait(ctx, []readiness.Target{{Object: cluster.RefOf(job)}}, s); err != nil {
			return c.refused(ctx, job, err)
		}
		lines, err = c.said(ctx, job, container)
		return err
	})
	return lines, err
}

// said is the log of a Job that is complete.
func (c *Client) said(ctx context.Context, job *unstructured.Unstructured, container string) ([]string, error) {
	pods, err := c.podsOf(ctx, job)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if phase, _, err := unstructured.NestedString(pod.Object, "status", "phase"); err == nil && phase == string(corev1.PodSucceeded) {
			return c.cluster.Tail(ctx, cluster.RefOf(pod), container, false, logLines)
		}
	}
	return nil, fmt.Errorf("%s: its pod is gone, and what it said with it", cluster.RefOf(job))
}

// jobName is for a Job that is made by hand, and beside those that others make by hand.
func jobName(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:8]) }

// discard deletes a Job and its pods, whatever has ended. What cannot be deleted now goes by its time to live.
func (c *Client) discard(ctx context.Context, job *unstructured.Unstructured) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
	defer cancel()
	_ = c.cluster.Delete(ctx, cluster.RefOf(job), "")
}

// podsOf are the pods of a Job.
func (c *Client) podsOf(ctx context.Context, job *unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	return c.cluster.List(ctx, podsQuery(job))
}

func podsQuery(job *unstructured.Unstructured) cluster.Query {
	return cluster.Query{
		GroupVersionKind: core("Pod", "", "").GroupVersionKind,
		Namespace:        job.GetNamespace(),
		Selector:         labels.SelectorFromSet(labels.Set{jobNameLabel: job.GetName()}),
	}
}

// jobFrom is a Job as the CronJob would make it at that time, as `kubectl create job --from` does. The CronJob, where it is one
// that is on the cluster, keeps as many of them as it says.
func jobFrom(cron *unstructured.Unstructured, at time.Time) (*unstructured.Unstructured, error) {
	template, found, err := unstructured.NestedMap(cron.Object, "spec", "jobTemplate")
	if err != nil || !found {
		return nil, fmt.Errorf("%s has no jobTemplate: %w", cluster.RefOf(cron), err)
	}
	job := &unstructured.Unstructured{Object: template}
	job.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("Job"))
	job.SetNamespace(cron.GetNamespace())
	job.SetName(fmt.Sprintf("%s-%s", cron.GetName(), at.UTC().Format("20060102-150405")))
	if uid := cron.GetUID(); uid != "" {
		owner := map[string]any{"apiVersion": cron.GetAPIVersion(), "kind": cron.GetKind(), "name": cron.GetName(), "uid": string(uid), "controller": true}
		if err := unstructured.SetNestedSlice(job.Object, []any{owner}, "metadata", "ownerReferences"); err != nil {
			return nil, fmt.Errorf("%s: %w", cluster.RefOf(job), err)
		}
	}
	all := map[string]string{}
	maps.Copy(all, cron.GetLabels())
	maps.Copy(all, job.GetLabels())
	job.SetLabels(all)
	annotations := job.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations["cronjob.kubernetes.io/instantiate"] = "manual"
	job.SetAnnotations(annotations)
	return job, nil
}

// edited is a Job as f leaves it.
func edited(job *unstructured.Unstructured, f func(*batchv1.Job)) (*unstructured.Unstructured, error) {
	typed := &batchv1.Job{}
	if err := cluster.Into(job, typed); err != nil {
		return nil, err
	}
	f(typed)
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cluster.RefOf(job), err)
	}
	delete(object, "status")
	return &unstructured.Unstructured{Object: object}, nil
}
