package trackingserver

import (
	"context"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// importName is that of the Jobs that make a backup of a dump.
const importName = "mlflow-import"

// Dump is a database of MLflow's, of any installation, in the custom format of pg_dump.
type Dump struct {
	Size   int64  // in bytes
	SHA256 string // of its content, in hexadecimal digits
	Open   func() (io.ReadCloser, error)
}

// keepDump makes a backup of the dump, and returns its name. The server goes on meanwhile: it is what takes long.
func (in *installation) keepDump(ctx context.Context, d *Dump) (string, error) {
	cron, err := in.cluster.Get(ctx, cronJob(in.record.Namespace, backupName))
	if err != nil {
		return "", err
	}
	job, err := jobFrom(cron, time.Now())
	if err != nil {
		return "", err
	}
	job, err = edited(job, func(job *batchv1.Job) {
		deadline := job.Spec.ActiveDeadlineSeconds
		briefly(job, importName)
		job.Spec.ActiveDeadlineSeconds = deadline // as for a backup
		receive(&job.Spec.Template.Spec, d)
		keepAll(job)
	})
	if err != nil {
		return "", err
	}
	name := ""
	err = progress.Do(in.progress, "Sending the dump to the cluster", func(s progress.Step) error {
		if _, err := in.cluster.CreateOnce(ctx, job); err != nil {
			return err
		}
		defer in.discard(ctx, job)
		if err := in.feed(ctx, job, d, s); err != nil {
			return err
		}
		if name, err = in.messageOf(ctx, job); err == nil && name == "" {
			err = nameGone(job)
		}
		return err
	})
	return name, err
}

// receive lets the pod take its dump from stdin.
func receive(pod *corev1.PodSpec, d *Dump) {
	tell(pod, dumpContainer, "receive")
	setEnv(pod.InitContainers, dumpContainer,
		corev1.EnvVar{Name: "DUMP_SIZE", Value: strconv.FormatInt(d.Size, 10)}, corev1.EnvVar{Name: "DUMP_SHA256", Value: d.SHA256})
	for i := range pod.InitContainers {
		if c := &pod.InitContainers[i]; c.Name == dumpContainer {
			c.Stdin, c.StdinOnce = true, true
		}
	}
}

// feed sends the dump to the Job's pod and waits until the Job is complete.
func (in *installation) feed(ctx context.Context, job *unstructured.Unstructured, d *Dump, s progress.Step) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		pod, err := in.receiving(ctx, job)
		if err != nil {
			return err
		}
		file, err := d.Open()
		if err != nil {
			return err
		}
		sent := &counted{Reader: file, total: d.Size, step: s}
		err = in.cluster.Send(ctx, pod, dumpContainer, sent)
		if closed := file.Close(); err == nil {
			err = closed
		}
		if sent.n.Load() > 0 {
			return nil // the pod got something, and will say what is wrong with it
		}
		return err
	})
	both.Go(func() error {
		return in.wait(ctx, []readiness.Target{{Object: cluster.RefOf(job)}}, s)
	})
	return both.Wait()
}

// receiving is the Job's pod, as soon as the container that takes the dump runs.
func (in *installation) receiving(ctx context.Context, job *unstructured.Unstructured) (cluster.Ref, error) {
	var at cluster.Ref
	err := in.cluster.Observe(ctx, []cluster.Query{podsQuery(job)}, func(objs []*unstructured.Unstructured) (bool, error) {
		for _, obj := range objs {
			var pod corev1.Pod
			if err := cluster.Into(obj, &pod); err != nil {
				return false, err
			}
			for _, c := range pod.Status.InitContainerStatuses {
				if c.Name == dumpContainer && c.State.Running != nil {
					at = cluster.RefOf(obj)
					return true, nil
				}
			}
		}
		return false, nil
	})
	return at, err
}

// counted tells how much of it was read.
type counted struct {
	io.Reader
	n     atomic.Int64
	total int64
	step  progress.Step
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.step.Bytes(c.n.Add(int64(n)), c.total)
	return n, err
}
