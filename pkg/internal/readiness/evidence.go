package readiness

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const (
	logLines   = 20              // of a log that are shown
	eventLines = 5               // of an object's warnings that are shown
	grace      = 5 * time.Second // to read logs when the wait's own time is over
)

// diagnosed is the failure of a target that will not get better by waiting.
func (w *waiter) diagnosed(ctx context.Context, t *trouble) error {
	return &failure.Error{
		Class: failure.Diagnosed, Reason: t.reason, Object: t.blamed.String(), Message: t.finding.Message, Hint: t.hint,
		Evidence: w.evidence(ctx, t),
	}
}

// timedOut names each target that was not ready, and why.
func (w *waiter) timedOut(ctx context.Context, s *scene, v verdict) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	f := &failure.Error{Class: failure.TimedOut, Reason: "NotReadyInTime"}
	if s == nil {
		f.Message = "the time was over before the cluster told of " + names(w.targets)
		f.Hint = "wait longer with --timeout"
		return f
	}
	var parts []string
	for i := range v.pending {
		t := &v.pending[i]
		parts = append(parts, fmt.Sprintf("%s (%s)", t.target.Object, t.why()))
		f.Evidence = append(f.Evidence, w.evidence(ctx, t)...)
		if f.Hint == "" {
			f.Hint = t.hint
		}
	}
	f.Message = "not ready in time: " + strings.Join(parts, ", ")
	if len(v.pending) == 1 { // the object is named before the message
		f.Object, f.Message = v.pending[0].target.Object.String(), "not ready in time: "+v.pending[0].why()
	}
	if f.Hint == "" {
		f.Hint = "it may still come up: wait longer with --timeout"
	}
	return f
}

// evidence is the target's and the pod's last warnings, and the end of the log that the finding points at.
func (w *waiter) evidence(ctx context.Context, t *trouble) []string {
	lines := warnings(t.target.Object.String(), t.events)
	if t.pod == nil {
		return lines
	}
	if t.pod.ref() != t.target.Object {
		lines = append(lines, warnings(t.pod.ref().String(), t.pod.Events)...)
	}
	container, log := t.finding.Container, t.finding.Log
	if container == "" {
		container, log = running(t.pod.Pod)
	}
	if log == NoLog {
		return lines
	}
	tail, err := w.observer.Tail(ctx, t.pod.ref(), container, log == PreviousLog, logLines)
	if err != nil {
		return append(lines, fmt.Sprintf("the log of %s, container %s, cannot be read: %v", t.pod.ref(), container, err))
	}
	if len(tail) == 0 {
		return append(lines, fmt.Sprintf("the log of %s, container %s, is empty", t.pod.ref(), container))
	}
	lines = append(lines, fmt.Sprintf("the end of the log of %s, container %s:", t.pod.ref(), container))
	for _, line := range tail {
		lines = append(lines, "  "+line)
	}
	return lines
}

// running is the first container that runs and is not ready: its log may tell what it waits for.
func running(pod *corev1.Pod) (string, Log) {
	for _, c := range containers(Pod{Pod: pod}) {
		if c.State.Running != nil && !c.Ready {
			return c.Name, CurrentLog
		}
	}
	return "", NoLog
}

// warnings are the last warnings of an object, as `kubectl describe` words them.
func warnings(of string, events []corev1.Event) []string {
	var lines []string
	for _, e := range events {
		if e.Type == corev1.EventTypeWarning {
			line := fmt.Sprintf("%s: %s: %s", of, e.Reason, oneLine(e.Message))
			if e.Count > 1 {
				line += fmt.Sprintf(" (%d times)", e.Count)
			}
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-eventLines):]
}
