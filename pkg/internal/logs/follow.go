package logs

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// The pause before a log is opened again doubles from first to most.
const firstPause, mostPause = 250 * time.Millisecond, 5 * time.Second

// Follow gives show the lines as they come, those of one container in their order and each once, until ctx ends or show fails.
// Where a container is started again, or a pod is replaced, it goes on with the next one, from its first line; where the connection
// breaks, with the line after the last. It bears with an API server that goes away. Not being allowed to look is failure.Forbidden.
func Follow(ctx context.Context, c Cluster, pods cluster.Query, o Options, show func(Line) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	f := &follower{cluster: c, options: o, print: show, cancel: cancel, threads: map[threadKey]*thread{}}
	defer f.running.Wait()
	defer cancel(nil)
	err := c.Observe(ctx, []cluster.Query{pods}, func(objs []*unstructured.Unstructured) (bool, error) {
		return false, f.see(ctx, objs)
	})
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// follower follows all containers.
type follower struct {
	cluster Cluster
	options Options
	cancel  context.CancelCauseFunc
	running sync.WaitGroup

	printing sync.Mutex
	print    func(Line) error

	threads map[threadKey]*thread // only see knows them
	seen    bool                  // there was a snapshot before
	idle    bool
}

// threadKey is a container of a pod, however often it is started.
type threadKey struct {
	pod       types.UID
	container string
}

// thread is the log of all runs of a container. One goroutine reads them, one after the other.
type thread struct {
	source Source
	runs   chan *run
	known  map[string]bool // the runs that were seen, by the container's ID
	latest *run

	// Of what is printed; only the goroutine knows them.
	last time.Time
	same int // how many lines have the time last
	tail int64
}

// run is one run of a container.
type run struct {
	previous bool          // it is not the container's last one
	over     chan struct{} // is closed when it has ended
	once     sync.Once
}

func newRun(previous, over bool) *run {
	r := &run{previous: previous, over: make(chan struct{})}
	if over {
		r.end()
	}
	return r
}

func (r *run) end() { r.once.Do(func() { close(r.over) }) }

// see compares a snapshot with what is followed.
func (f *follower) see(ctx context.Context, objs []*unstructured.Unstructured) error {
	there := map[threadKey]bool{}
	for _, obj := range objs {
		var pod corev1.Pod
		if err := cluster.Into(obj, &pod); err != nil {
			return err
		}
		for _, source := range f.options.sources(&pod) {
			key := threadKey{pod.UID, source.Container}
			there[key] = true
			if status := statusOf(&pod, source.Container); status != nil {
				f.continued(ctx, key, source, status)
			}
		}
	}
	for key, t := range f.threads {
		if !there[key] { // the pod is gone
			t.latest.end()
			close(t.runs)
			delete(f.threads, key)
		}
	}
	if idle := len(f.threads) == 0; idle != f.idle || !f.seen {
		if idle && f.options.Idle != nil {
			f.options.Idle()
		}
		f.idle = idle
	}
	f.seen = true
	return nil
}

// continued takes note of a container's runs.
func (f *follower) continued(ctx context.Context, key threadKey, source Source, status *corev1.ContainerStatus) {
	now, over := lastRun(status)
	if now == "" {
		return
	}
	t := f.threads[key]
	if t == nil {
		t = &thread{source: source, runs: make(chan *run, 64), known: map[string]bool{}}
		t.last = f.options.Since
		if !f.seen { // what comes later is read from its first line
			t.tail = f.options.Tail
		}
		f.threads[key] = t
		f.running.Go(func() { f.follow(ctx, t) })
	} else if before := status.LastTerminationState.Terminated; before != nil && !t.known[before.ContainerID] {
		t.add(ctx, before.ContainerID, newRun(true, true)) // it came and went between two snapshots
	}
	if !t.known[now] {
		t.add(ctx, now, newRun(false, over))
	}
	if over {
		t.latest.end()
	}
}

func (t *thread) add(ctx context.Context, id string, r *run) {
	t.known[id] = true
	if t.latest != nil {
		t.latest.end()
	}
	t.latest = r
	select {
	case t.runs <- r:
	case <-ctx.Done():
	}
}

// lastRun is the ID of the container's last run, "" where it had none, and whether it has ended.
func lastRun(s *corev1.ContainerStatus) (id string, over bool) {
	switch {
	case s.State.Running != nil:
		return s.ContainerID, false
	case s.State.Terminated != nil:
		return s.State.Terminated.ContainerID, true
	case s.LastTerminationState.Terminated != nil:
		return s.LastTerminationState.Terminated.ContainerID, true
	}
	return "", false
}

func statusOf(pod *corev1.Pod, container string) *corev1.ContainerStatus {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			if statuses[i].Name == container {
				return &statuses[i]
			}
		}
	}
	return nil
}

// follow reads a thread's runs until its pod is gone.
func (f *follower) follow(ctx context.Context, t *thread) {
	for {
		select {
		case <-ctx.Done():
			return
		case r, ok := <-t.runs:
			if !ok {
				return
			}
			if err := f.toItsEnd(ctx, t, r); err != nil {
				f.cancel(err)
				return
			}
		}
	}
}

// toItsEnd reads a run until it is over, and then once more: the last words may have come after the connection broke.
func (f *follower) toItsEnd(ctx context.Context, t *thread, r *run) error {
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, mostPause) {
		ended, over := r.over, false
		select {
		case <-ended:
			ended, over = nil, true
		default:
		}
		before := t.last
		err := f.pass(ctx, t, cluster.LogOptions{Follow: !over, Previous: r.previous, Timestamps: true, Since: t.last, Tail: t.tail})
		if ctx.Err() != nil {
			return nil
		}
		if failure.ClassOf(err) == failure.Forbidden || isPrinting(err) {
			return err
		}
		if over && (err == nil || silent(err)) {
			return nil
		}
		if t.last.After(before) {
			pause = firstPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-ended:
		}
		timer.Stop()
	}
	return nil
}

// pass reads the log from where it was left.
func (f *follower) pass(ctx context.Context, t *thread, o cluster.LogOptions) error {
	log, err := f.cluster.Log(ctx, t.source.Pod, t.source.Container, o)
	if err != nil {
		return err
	}
	lines := newReader(t.source, log)
	lines.whole = o.Follow
	skip := t.same
	for {
		line, err := lines.next()
		if err != nil {
			_ = log.Close()
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		switch {
		case line.Time.Before(t.last):
			continue
		case line.Time.Equal(t.last) && skip > 0:
			skip--
			continue
		case line.Time.Equal(t.last):
			t.same++
		default:
			t.last, t.same, skip = line.Time, 1, 0
		}
		t.tail = 0 // from here on all
		if err := f.show(line); err != nil {
			_ = log.Close()
			return err
		}
	}
}

func (f *follower) show(line Line) error {
	f.printing.Lock()
	defer f.printing.Unlock()
	if err := f.print(line); err != nil {
		return &printError{err}
	}
	return nil
}

// printError is a failure of who reads.
type printError struct{ error }

func (e *printError) Unwrap() error { return e.error }

func isPrinting(err error) bool {
	_, ok := errors.AsType[*printError](err)
	return ok
}
