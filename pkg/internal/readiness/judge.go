package readiness

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// verdict is what a snapshot says of all targets.
type verdict struct {
	pending []trouble // targets that are awaited and not ready, in the order given
	beside  []trouble // what is known to be wrong with those that are not awaited
	fatal   *trouble  // the first that will not become so
	again   time.Duration
}

// trouble is why a target is not ready.
type trouble struct {
	target  Target
	message string // the target's own state
	events  []corev1.Event

	reason, hint string // where something is known to be wrong
	blamed       cluster.Ref
	pod          *Pod // the pod that finding is about, or nil
	finding      Finding
	works        *Pod  // a Job's pod that is well and not done
	behind       []Pod // what the target's pods depend on
}

// blame lays it on a pod.
func (t *trouble) blame(p *Pod, r *Rule, f Finding) {
	t.pod, t.blamed, t.finding, t.reason, t.hint = p, p.ref(), f, r.Reason, r.Hint
}

// why is the best explanation there is.
func (t trouble) why() string {
	switch {
	case t.pod != nil:
		return fmt.Sprintf("%s: %s", t.pod.ref(), t.finding.Message)
	case t.finding.Message != "":
		return t.finding.Message
	}
	for _, e := range slices.Backward(t.events) {
		if e.Type == corev1.EventTypeWarning {
			return fmt.Sprintf("%s; %s: %s", t.message, e.Reason, oneLine(e.Message))
		}
	}
	return t.message
}

// judge looks at each target. now is when.
func (w *waiter) judge(s *scene, now time.Time) (verdict, error) {
	var v verdict
	there := map[symptom]bool{}
	for _, target := range w.targets {
		obj := s.objects[target.Object]
		if obj == nil {
			v.await(trouble{target: target, message: "not created yet"})
			continue
		}
		result, err := statusOf(target, obj)
		if err != nil {
			return v, fmt.Errorf("status of %s: %w", target.Object, err)
		}
		if result.Status == status.CurrentStatus || s.waitsForConsumer(obj) {
			continue
		}
		t := trouble{target: target, blamed: target.Object, message: oneLine(orElse(result.Message, "not ready yet")), events: s.events[obj.GetUID()]}
		if t.behind, err = s.podsBehind(target); err != nil {
			return v, err
		}
		if s.behind(obj) {
			t.message = "its controller has not begun with the newest spec yet"
			v.await(t)
			continue
		}
		pods, err := s.pods(target, obj)
		if err != nil {
			return v, err
		}
		if result.Status == status.FailedStatus {
			t.fail(result, pods)
			v.fatal = &t
			return v, nil
		}
		left := w.look(s, &t, obj, pods, there, now)
		if left <= 0 {
			v.fatal = &t
			return v, nil
		}
		if left < never && (v.again == 0 || left < v.again) {
			v.again = left
		}
		v.await(t)
	}
	for sy := range w.since {
		if !there[sy] { // it has passed; should it come back it begins anew
			delete(w.since, sy)
		}
	}
	return v, nil
}

// await takes a target that is not ready into the verdict.
func (v *verdict) await(t trouble) {
	switch {
	case !t.target.Beside:
		v.pending = append(v.pending, t)
	case t.reason != "":
		v.beside = append(v.beside, t)
	}
}

// behind tells that a controller has not acted on the newest spec: the status and the pods there are may be those of the spec
// before. A Deployment whose strategy is Recreate has its generation observed while it still stops the pods of that spec.
func (s *scene) behind(obj *unstructured.Unstructured) bool {
	observed, found, err := unstructured.NestedInt64(obj.Object, "status", "observedGeneration")
	if err == nil && found && observed < obj.GetGeneration() {
		return true
	}
	newest, seen := s.newest(obj)
	return seen && (newest == nil || newest.GetAnnotations()[revision] != obj.GetAnnotations()[revision])
}

func statusOf(t Target, obj *unstructured.Unstructured) (*status.Result, error) {
	if t.Status != nil {
		return t.Status(obj)
	}
	return compute(obj)
}

// look finds out what ails a target that is under way, and returns how long it may still hold: 0 or less is too long.
func (w *waiter) look(s *scene, t *trouble, obj *unstructured.Unstructured, pods []Pod, there map[symptom]bool, now time.Time) time.Duration {
	left := never
	for i := range pods {
		p := &pods[i]
		if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || cluster.PodReady(p.Pod) {
			if t.target.Object.Kind == "Job" && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
				t.works = p
			}
			continue // on its way out, over and replaced by its controller, or well
		}
		if p.Before { // its troubles are not those of the spec that is awaited
			if t.pod == nil {
				t.finding.Message, t.reason = fmt.Sprintf("%s is still of the spec before", p.ref()), "PodOfSpecBefore"
				t.hint = "Kubernetes may leave a pod that was never ready in its place: kubectl delete " + describe(p.ref())
			}
			continue
		}
		rule, finding := diagnose(*p)
		if rule == nil {
			if t.pod == nil {
				t.pod, t.finding = p, Finding{Message: stateOf(p.Pod)}
			}
			continue
		}
		rest := w.lasts(symptom{p.UID, rule.Reason}, rule.After, there, now)
		if t.reason == "" || rest < left {
			t.blame(p, rule, finding)
		}
		left = min(left, rest)
	}
	if t.pod == nil {
		left = min(left, w.lookAtCreation(s, t, obj, pods, there, now))
	}
	if t.target.Object.Kind == "Job" && t.pod == nil && t.reason == "" && t.works == nil {
		t.pod, t.finding = lastTry(pods, "and is tried again") // between two tries
	}
	return left
}

// lasts is how much longer a symptom must hold to be fatal.
func (w *waiter) lasts(sy symptom, after time.Duration, there map[symptom]bool, now time.Time) time.Duration {
	there[sy] = true
	if _, ok := w.since[sy]; !ok {
		w.since[sy] = now
	}
	if after == never {
		return never
	}
	return after - now.Sub(w.since[sy])
}

// diagnose is the first rule that matches.
func diagnose(p Pod) (*Rule, Finding) {
	for _, rule := range Rules() {
		if finding, ok := rule.Match(p); ok {
			return &rule, finding
		}
	}
	return nil, Finding{}
}

// refusal is a row of the table of pods that are not even created.
type refusal struct {
	reason string
	text   string // in the controller's message
	after  time.Duration
	hint   string
	shared bool // a pod that ends gives back what is lacking
}

func refusals() []refusal {
	return []refusal{
		{"QuotaExceeded", "exceeded quota", 5 * time.Second, "raise the namespace's ResourceQuota, or ask for less", true},
		{"PodSecurityViolated", "violates PodSecurity", 5 * time.Second, "the namespace's pod-security.kubernetes.io/enforce label is stricter than the pod", false},
		{"AdmissionRefused", "denied the request", 5 * time.Second, "the message names the admission webhook or policy", false},
		{"PodNotCreated", "", 20 * time.Second, "the message says what the API server refuses", false},
	}
}

// lookAtCreation finds a controller that may not create its pods.
func (w *waiter) lookAtCreation(s *scene, t *trouble, obj *unstructured.Unstructured, pods []Pod, there map[symptom]bool, now time.Time) time.Duration {
	for _, p := range pods {
		if p.DeletionTimestamp != nil { // it may give back what the quota lacks
			return never
		}
	}
	creator := obj
	if newest, _ := s.newest(obj); newest != nil { // the Deployment's condition may still be about an older one
		creator = newest
	}
	condition, ok := creationCondition(creator)
	message, stale := condition.message, ok && w.stale(s, creator.GetUID(), condition)
	if !ok {
		message, ok = w.creationEvent(s, s.creators(t.target, obj))
	}
	if !ok {
		return never
	}
	for _, r := range refusals() {
		if strings.Contains(message, r.text) {
			t.finding, t.reason, t.hint = Finding{Message: "no pod is created: " + oneLine(message)}, r.reason, r.hint
			if stale || r.shared && t.target.Beside && w.awaitsJob() {
				return never
			}
			return w.lasts(symptom{obj.GetUID(), r.reason}, r.after, there, now)
		}
	}
	return never
}

// awaitsJob tells that the wait is for something that ends.
func (w *waiter) awaitsJob() bool {
	return slices.ContainsFunc(w.targets, func(t Target) bool { return !t.Beside && t.Object.Kind == "Job" })
}

// creationFailure is the condition by which Deployments and ReplicaSets tell that they may not create their pods.
type creationFailure struct {
	message            string
	transition, update string // a ReplicaSet's has no update
}

// creationCondition reads it.
func creationCondition(obj *unstructured.Unstructured) (creationFailure, bool) {
	conditions, _, err := unstructured.NestedSlice(obj.Object, "status", "conditions")
	if err != nil {
		return creationFailure{}, false // an object of another shape has no such condition
	}
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "ReplicaFailure" && m["status"] == "True" {
			var r creationFailure
			r.message, _ = m["message"].(string)
			r.transition, _ = m["lastTransitionTime"].(string)
			r.update, _ = m["lastUpdateTime"].(string)
			return r, true
		}
	}
	return creationFailure{}, false
}

// stale tells that a condition is as it was before the wait, and that no pod was refused since. Only a pod that is created takes it
// away, and the controller tries again after up to 1000 s: what it tells of may be mended by now.
func (w *waiter) stale(s *scene, creator types.UID, now creationFailure) bool {
	before, was := w.refused[creator]
	if !was || before != now {
		return false
	}
	_, again := w.creationEvent(s, []types.UID{creator})
	return !again
}

// creationEvent is the message of a FailedCreate of this wait that no success followed: StatefulSets and Jobs tell of it
// in events alone.
func (w *waiter) creationEvent(s *scene, creators []types.UID) (string, bool) {
	for _, uid := range creators {
		message := ""
		for _, e := range s.events[uid] { // oldest first
			switch {
			case e.Reason == "SuccessfulCreate":
				message = ""
			case e.Reason == "FailedCreate" && w.fresh(e):
				message = e.Message
			}
		}
		if message != "" {
			return message, true
		}
	}
	return "", false
}

// waitsForConsumer tells of a claim that is bound only when a pod uses it: nothing is wrong, and nothing to wait for.
func (s *scene) waitsForConsumer(obj *unstructured.Unstructured) bool {
	if obj.GroupVersionKind() != claimKind() {
		return false
	}
	if _, scheduled := obj.GetAnnotations()["volume.kubernetes.io/selected-node"]; scheduled {
		return false
	}
	for _, e := range s.events[obj.GetUID()] {
		if e.Reason == "WaitForFirstConsumer" {
			return true
		}
	}
	return false
}

// fail explains a target that has failed for good: by a rule where one matches a pod, else by its own words.
func (t *trouble) fail(result *status.Result, pods []Pod) {
	t.reason = t.target.Object.Kind + "Failed"
	t.finding.Message = t.message
	for _, c := range result.Conditions {
		if c.Reason != "" && c.Reason != t.reason && !strings.HasPrefix(t.message, c.Reason+": ") {
			t.finding.Message = fmt.Sprintf("%s: %s", c.Reason, t.message)
			break
		}
	}
	t.hint = "the evidence says why; kubectl describe " + describe(t.target.Object)
	for i := range pods {
		p := &pods[i]
		if cluster.PodReady(p.Pod) {
			continue
		}
		if rule, finding := diagnose(*p); rule != nil && rule.After != never {
			t.blame(p, rule, finding)
			return
		}
	}
	t.lastFailure(pods)
}

// lastFailure takes the log of the container that ended badly, of a Job's last try.
func (t *trouble) lastFailure(pods []Pod) {
	p, f := lastTry(pods, "")
	if p == nil {
		return
	}
	f.Message = fmt.Sprintf("%s (%s, %s)", t.finding.Message, p.ref(), f.Message)
	t.pod, t.finding, t.hint = p, f, "the log says why it ended"
}

// lastTry is the youngest pod that ended badly, or nil, and how it did.
func lastTry(pods []Pod, how string) (youngest *Pod, f Finding) {
	for i := range pods {
		p := &pods[i]
		for _, c := range containers(*p) {
			end := crashed(c)
			if end == nil || youngest != nil && p.CreationTimestamp.Before(&youngest.CreationTimestamp) {
				continue
			}
			youngest, f = p, ended(c, end, how)
		}
	}
	return youngest, f
}

func describe(r cluster.Ref) string {
	if r.Namespace == "" {
		return r.String()
	}
	return r.String() + " --namespace " + r.Namespace
}
