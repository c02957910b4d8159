// Package logs reads the logs of pods' containers: in the order of time, or as they come, over the comings and goings of the pods.
package logs

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// Source is a container whose log is read.
type Source struct {
	Pod       cluster.Ref
	Container string
	Label     string // as Label named it
}

// Line is one line of a log, without the line break. A line of more than 64 KiB comes in several pieces.
type Line struct {
	Source Source
	Time   time.Time // when the container wrote it
	Text   string
}

// Options say what is read of each container.
type Options struct {
	// Label names a container for those who read, and leaves one out.
	Label    func(pod *corev1.Pod, container string) (label string, wanted bool)
	Previous bool      // of the run before the last restart; not with Follow
	Since    time.Time // the zero time is the beginning
	Tail     int64     // lines at most; 0 is all
	Idle     func()    // is told by Follow each time that there is no pod to follow; may be nil
}

// Cluster is the part of cluster.Client that is needed.
type Cluster interface {
	List(ctx context.Context, q cluster.Query) ([]*unstructured.Unstructured, error)
	Observe(ctx context.Context, qs []cluster.Query, f func([]*unstructured.Unstructured) (bool, error)) error
	Log(ctx context.Context, pod cluster.Ref, container string, o cluster.LogOptions) (io.ReadCloser, error)
}

// Read gives show what the logs of the pods hold, in the order of time, and returns how many containers had one.
func Read(ctx context.Context, c Cluster, pods cluster.Query, o Options, show func(Line) error) (int, error) {
	objs, err := c.List(ctx, pods)
	if err != nil {
		return 0, err
	}
	var open []*reader
	defer func() {
		for _, r := range open {
			_ = r.log.Close() // it was read to its end, or nobody wants the rest
		}
	}()
	read := cluster.LogOptions{Timestamps: true, Previous: o.Previous, Since: o.Since, Tail: o.Tail}
	for _, obj := range objs {
		var pod corev1.Pod
		if err := cluster.Into(obj, &pod); err != nil {
			return 0, err
		}
		for _, s := range o.sources(&pod) {
			log, err := c.Log(ctx, s.Pod, s.Container, read)
			if silent(err) {
				continue
			}
			if err != nil {
				return 0, err
			}
			open = append(open, newReader(s, log))
		}
	}
	return len(open), merge(open, o.Since, show)
}

// NoLog is failure.Diagnosed, for where Read found no log. message and hint say why, unless runs before the last restarts were wanted:
// then there was no restart.
func (o Options) NoLog(object, message, hint string) error {
	if o.Previous {
		message, hint = "no container has been started again: there is no log of a run before this one", "leave out --previous"
	}
	return &failure.Error{Class: failure.Diagnosed, Reason: "NoLog", Object: object, Message: message, Hint: hint}
}

// merge prints the lines of all readers in the order of time.
func merge(open []*reader, since time.Time, show func(Line) error) error {
	heads := make([]*Line, len(open))
	next := func(i int) error {
		line, err := open[i].next()
		heads[i] = &line
		if errors.Is(err, io.EOF) {
			heads[i], err = nil, nil
		}
		return err
	}
	for i := range open {
		if err := next(i); err != nil {
			return err
		}
	}
	for {
		first := -1
		for i, head := range heads {
			if head != nil && (first < 0 || head.Time.Before(heads[first].Time)) {
				first = i
			}
		}
		if first < 0 {
			return nil
		}
		if !heads[first].Time.Before(since) {
			if err := show(*heads[first]); err != nil {
				return err
			}
		}
		if err := next(first); err != nil {
			return err
		}
	}
}

// sources are the containers of a pod that are wanted, in the order in which they start.
func (o Options) sources(pod *corev1.Pod) []Source {
	var all []Source
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if label, wanted := o.Label(pod, c.Name); wanted {
			all = append(all, Source{Pod: refOf(pod), Container: c.Name, Label: label})
		}
	}
	return all
}

// silent tells a container that has no log: it has not started, has no run before this one, or its pod is gone.
func silent(err error) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	return ok && (status.ErrStatus.Code == http.StatusBadRequest || status.ErrStatus.Code == http.StatusNotFound)
}

func refOf(pod *corev1.Pod) cluster.Ref {
	return cluster.Ref{GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Pod"), Namespace: pod.Namespace, Name: pod.Name}
}
