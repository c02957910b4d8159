// Package readiness waits for workloads and tells early why they will not come up.
package readiness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Target is one object to wait for, and its pods.
type Target struct {
	Object cluster.Ref
	// Pods selects the object's pods; nil reads it from spec.selector.
	Pods labels.Selector
	// Behind selects the pods, in the object's namespace, that its own depend on: where the target does not come up, they tell why.
	Behind labels.Selector
	// Status judges the object; nil takes kstatus, corrected for Job, Pod and PersistentVolumeClaim.
	Status func(*unstructured.Unstructured) (*status.Result, error)
	// Alone tells that its pods depend on nothing that may come later: what ends badly twice will go on so.
	Alone bool
	// Beside tells that it is under way as well: what ails it is told as of the others, and the wait ends without it.
	Beside bool
}

// Observer is the part of cluster.Client that a wait needs.
type Observer interface {
	Observe(ctx context.Context, qs []cluster.Query, f func([]*unstructured.Unstructured) (bool, error)) error
	// Tail returns the last n lines of a container's log; previous is the one before the last restart.
	Tail(ctx context.Context, pod cluster.Ref, container string, previous bool, n int) ([]string, error)
}

// Wait returns when every target is Current that is not only Beside the others. failure.Diagnosed where a rule says that waiting
// will not help, and failure.TimedOut, naming what was not ready and why, when ctx reaches its deadline first. A ctx that is
// cancelled is an error that errors.Is recognises. s is told what is awaited.
func Wait(ctx context.Context, o Observer, targets []Target, s progress.Step) error {
	if !slices.ContainsFunc(targets, func(t Target) bool { return !t.Beside }) {
		return nil
	}
	inner, stop := context.WithCancel(ctx)
	latest := make(chan []*unstructured.Unstructured, 1)
	ended := make(chan error, 1)
	var observing sync.WaitGroup
	observing.Go(func() {
		ended <- o.Observe(inner, queries(targets), func(objs []*unstructured.Unstructured) (bool, error) {
			select { // what was not looked at yet is out of date
			case <-latest:
			default:
			}
			latest <- objs
			return false, nil
		})
	})
	defer observing.Wait()
	defer stop()
	w := &waiter{observer: o, targets: targets, since: map[symptom]time.Time{}}
	return w.follow(ctx, latest, ended, s)
}

// waiter is one wait.
type waiter struct {
	observer Observer
	targets  []Target
	since    map[symptom]time.Time         // when each symptom that is there now was first seen
	old      map[types.UID]string          // resourceVersions of the events that were there before the wait
	refused  map[types.UID]creationFailure // conditions that were there before the wait
}

// symptom is a rule that matches an object.
type symptom struct {
	object types.UID
	reason string
}

// follow judges each snapshot until the wait is decided.
func (w *waiter) follow(ctx context.Context, latest <-chan []*unstructured.Unstructured, ended <-chan error, s progress.Step) error {
	var seen *scene
	var now verdict
	timer := time.NewTimer(0) // armed again while a symptom has to last
	defer timer.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return w.interrupted(ctx, seen, now)
		case err := <-ended:
			if err != nil && ctx.Err() == nil {
				return err
			}
			ended = nil // nothing changes any more: the last snapshot is judged until ctx ends
			continue
		case objs := <-latest:
			seen = newScene(objs)
			w.remember(seen)
		case <-timer.C:
		}
		if seen == nil {
			continue
		}
		var err error
		now, err = w.judge(seen, time.Now())
		switch {
		case err != nil:
			return err
		case now.fatal != nil:
			return w.diagnosed(ctx, now.fatal)
		case len(now.pending) == 0:
			return nil
		}
		if now.again > 0 {
			timer.Reset(now.again)
		}
		if text := now.note(); text != said {
			s.Note(text + w.lastWord(ctx, &now.pending[0]))
			said = text
		}
	}
}

// interrupted tells a deadline, which is ours to explain, from the end of everything.
func (w *waiter) interrupted(ctx context.Context, seen *scene, now verdict) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("waiting for %s: %w", names(w.targets), context.Cause(ctx))
	}
	return w.timedOut(ctx, seen, now)
}

// note says in one line what is awaited. What is known to be wrong beside it comes first: a terminal may cut the line off.
func (v verdict) note() string {
	text := ""
	for _, t := range v.beside {
		text += fmt.Sprintf("%s: %s; ", t.target.Object, t.why())
	}
	first := v.pending[0]
	text += fmt.Sprintf("%s: %s", first.target.Object, first.why())
	if n := len(v.pending) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}

func names(targets []Target) string {
	all := make([]string, 0, len(targets))
	for _, t := range targets {
		all = append(all, t.Object.String())
	}
	return strings.Join(all, ", ")
}

// queries asks for the targets, and for what explains them: pods, their ReplicaSets and volumes, and events. A user who may not read
// the latter still can wait.
func queries(targets []Target) []cluster.Query {
	var qs []cluster.Query
	asked := map[string]bool{}
	add := func(q cluster.Query) {
		key := fmt.Sprintf("%s %s %s %v", q.GroupVersionKind, q.Namespace, q.Name, q.Selector)
		if !asked[key] {
			asked[key] = true
			qs = append(qs, q)
		}
	}
	for _, t := range targets {
		add(cluster.QueryOf(t.Object))
	}
	for _, t := range targets {
		ns := t.Object.Namespace
		add(cluster.Query{GroupVersionKind: eventKind(), Namespace: ns, Optional: true})
		if t.Pods != nil || hasPods(t.Object) {
			add(cluster.Query{GroupVersionKind: podKind(), Namespace: ns, Selector: t.Pods, Optional: true})
			add(cluster.Query{GroupVersionKind: replicaSetKind(), Namespace: ns, Selector: t.Pods, Optional: true})
			add(cluster.Query{GroupVersionKind: claimKind(), Namespace: ns, Optional: true})
		}
	}
	return qs
}
