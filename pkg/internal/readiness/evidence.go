package readiness

import (
	"context"
	"fmt"
	"slices"
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

// evidence is what the target's own objects tell, and then what those that they depend on do.
func (w *waiter) evidence(ctx context.Context, t *trouble) []string {
	lines := w.own(ctx, t)
	for i := range t.behind {
		lines = append(lines, w.work(ctx, &t.behind[i])...)
	}
	return lines
}

// own is the target's and the pod's last warnings, and the end of the log that the finding points at.
func (w *waiter) own(ctx context.Context, t *trouble) []string {
	lines := warnings(t.target.Object.String(), t.events)
	if t.pod == nil {
		return append(lines, w.work(ctx, t.works)...)
	}
	if t.pod.ref() != t.target.Object {
		lines = append(lines, warnings(t.pod.ref().String(), t.pod.Events)...)
	}
	for _, claim := range t.pod.Unbound {
		lines = append(lines, warnings(claim.ref().String(), claim.Events)...)
	}
	container, log := t.finding.Container, t.finding.Log
	if container == "" {
		container, log = running(t.pod.Pod)
	}
	if log == NoLog {
		return lines
	}
	return append(lines, w.tail(ctx, t.pod, container, log)...)
}

// work is what the running containers of a pod say that is well: a Job's, which is not done, or one that others depend on. Its
// sidecars' too, which may be what it waits for.
func (w *waiter) work(ctx context.Context, p *Pod) []string {
	var lines []string
	if p == nil {
		return nil
	}
	for _, c := range containers(*p) {
		if c.State.Running != nil {
			lines = append(lines, w.tail(ctx, p, c.Name, CurrentLog)...)
		}
	}
	return lines
}

// tail is the end of a container's log, with words in front.
func (w *waiter) tail(ctx context.Context, p *Pod, container string, log Log) []string {
	tail, err := w.observer.Tail(ctx, p.ref(), container, log == PreviousLog, logLines)
	if err != nil {
		return []string{fmt.Sprintf("the log of %s, container %s, cannot be read: %v", p.ref(), container, err)}
	}
	if len(tail) == 0 {
		return []string{fmt.Sprintf("the log of %s, container %s, is empty", p.ref(), container)}
	}
	lines := []string{fmt.Sprintf("the end of the log of %s, container %s:", p.ref(), container)}
	for _, line := range tail {
		lines = append(lines, "  "+line)
	}
	return lines
}

// lastWord is the last line of the log of a container that has ended, for the line that tells of it: most programs say there why. "" is
// where it cannot be read, which is no matter before the wait itself is over.
func (w *waiter) lastWord(ctx context.Context, t *trouble) string {
	ended := t.pod != nil && slices.ContainsFunc(containers(*t.pod), func(c corev1.ContainerStatus) bool { return c.Name == t.finding.Container && crashed(c) != nil })
	if !ended {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	tail, err := w.observer.Tail(ctx, t.pod.ref(), t.finding.Container, t.finding.Log == PreviousLog, logLines)
	if err != nil {
		return ""
	}
	for _, line := range slices.Backward(tail) {
		if line = oneLine(line); line != "" {
			return ": " + line
		}
	}
	return ""
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
