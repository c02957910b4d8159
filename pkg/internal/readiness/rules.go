package readiness

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// never is the After of a symptom that may pass: it is told while waiting and when the time is over.
const never = time.Duration(math.MaxInt64)

// Rule is one row of the diagnosis table. The first row that matches a pod tells its trouble.
type Rule struct {
	Reason string // failure.Error.Reason
	Match  func(Pod) (Finding, bool)
	After  time.Duration // how long it must hold to be fatal: 0 for InvalidImageName, 20 s for a missing Secret, or never
	Hint   string
}

// Finding is what a rule has found in a pod.
type Finding struct {
	Message   string
	Container string // the one at fault, or ""
	Log       Log    // which log of the container tells more
}

// Log is one of a container's logs.
type Log int

// The logs of a container.
const (
	NoLog Log = iota
	CurrentLog
	PreviousLog // of the run before the last restart
)

// Rules are the diagnosis table. The times tell a trouble from a moment's disorder, such as a Secret that is applied after
// its pod: they are judgement, not Kubernetes' promise.
func Rules() []Rule {
	return []Rule{
		{"InvalidImageName", waiting("InvalidImageName"), 0, "correct the image's name"},
		{"ImageNeverPull", waiting("ErrImageNeverPull"), 0, "the pull policy is Never and the node lacks the image: load it there, or change the policy"},
		{"ImagePullDenied", pull(pullDenied), 10 * time.Second, "let the cluster pull it: an imagePullSecret on the service account, or the registry's permissions for the nodes"},
		{"ImagePlatformMismatch", pull(pullPlatform), 10 * time.Second, "build the image for the nodes' platform: kubectl get nodes -L kubernetes.io/arch"},
		{"ImageNotFound", pull(pullNotFound), 10 * time.Second, "check the image's name and tag, and that it was pushed where the nodes pull from"},
		{"ContainerConfigInvalid", unconfigured, 20 * time.Second, "create the Secret or ConfigMap, or the key in it, that the message names"},
		{"ContainerNotStarted", waiting("CreateContainerError", "RunContainerError"), 20 * time.Second, "check the container's command, security context and volumes"},
		{"OutOfMemory", outOfMemory, 0, "raise the container's memory limit"},
		{"CrashLoop", crashLoop, 0, "the log says why it ends"},
		{"ImagePullFailing", pull(pullOther), never, "the registry is slow, limits the rate, or cannot be reached from the nodes"},
		{"VolumeNotProvisioned", unprovisioned, never, "look at the volume and at its storage class: kubectl describe pvc; kubectl get storageclass"},
		{"Unschedulable", unschedulable, never, "free or add nodes, or ask for less; kubectl describe nodes shows what is taken"},
		{"VolumeNotMounted", event("FailedMount", "FailedAttachVolume"), never, "create what the message names, or look at the volume: kubectl get pvc"},
		{"SandboxFailing", event("FailedCreatePodSandBox"), never, "the node's network or container runtime is in trouble"},
		{"ContainerRestarting", restarting, never, "the log says why it ended"},
		{"HostRefused", probe("statuscode: 403"), never, "the server answers its probe with 403, as MLflow does to names that it does not know: add the probe's Host with --allowed-hosts"},
		{"ProbeFailing", probe(""), never, "the container runs and does not answer its probe: its log may say why"},
	}
}

// containers are a pod's containers with what is known of them, in the order in which they start.
func containers(p Pod) []corev1.ContainerStatus {
	return append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...)
}

// waiting matches a container that waits for one of the kubelet's reasons.
func waiting(reasons ...string) func(Pod) (Finding, bool) {
	return func(p Pod) (Finding, bool) {
		for _, c := range containers(p) {
			for _, reason := range reasons {
				if w := c.State.Waiting; w != nil && w.Reason == reason {
					return Finding{Message: say(c.Name, orElse(w.Message, w.Reason)), Container: c.Name}, true
				}
			}
		}
		return Finding{}, false
	}
}

// unconfigured matches a container that lacks a Secret or a ConfigMap. Of a pod that had init containers the kubelet says so in an event at once,
// and in the status only ten seconds later.
func unconfigured(p Pod) (Finding, bool) {
	if f, ok := waiting("CreateContainerConfigError")(p); ok {
		return f, true
	}
	e, _ := lastEvent(p, "Failed")
	message, _ := strings.CutPrefix(e.Message, "Error: ")
	if !slices.ContainsFunc([]string{`secret "`, `configmap "`, "couldn't find key "}, func(lack string) bool { return strings.HasPrefix(message, lack) }) {
		return Finding{}, false
	}
	for _, c := range containers(p) {
		if w := c.State.Waiting; w != nil && w.Reason == "PodInitializing" && e.InvolvedObject.FieldPath == "spec.containers{"+c.Name+"}" {
			return Finding{Message: say(c.Name, message), Container: c.Name}, true
		}
	}
	return Finding{}, false
}

// pullTrouble is why an image does not come.
type pullTrouble int

const (
	pullOther pullTrouble = iota
	pullDenied
	pullPlatform
	pullNotFound
)

// pull matches a container whose image does not come for the reason given.
func pull(want pullTrouble) func(Pod) (Finding, bool) {
	return func(p Pod) (Finding, bool) {
		for _, c := range containers(p) {
			w := c.State.Waiting
			if w == nil || w.Reason != "ErrImagePull" && w.Reason != "ImagePullBackOff" {
				continue
			}
			text := w.Message
			if e, ok := lastEvent(p, "Failed"); ok && w.Reason == "ImagePullBackOff" && strings.HasPrefix(e.Message, "Failed to pull image") && strings.Contains(e.Message, c.Image) {
				text = e.Message // before 1.31 the back-off does not repeat why
			}
			if classifyPull(text) == want {
				return Finding{Message: say(c.Name, orElse(text, w.Reason)), Container: c.Name}, true
			}
		}
		return Finding{}, false
	}
}

// classifyPull reads the registry's answer out of the container runtime's message. What may pass comes first: a registry
// that limits the rate answers with words of denial too.
func classifyPull(message string) pullTrouble {
	m := strings.ToLower(message)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(m, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("toomanyrequests", "too many requests", "i/o timeout", "deadline exceeded", "handshake timeout",
		"connection refused", "connection reset", "no route to host", "no such host", "server misbehaving",
		"500 internal", "502 bad", "503 service", "504 gateway", "unexpected eof"):
		return pullOther
	case has("no match for platform", "no matching manifest"):
		return pullPlatform
	case has("unauthorized", "denied", "authentication required", "403 forbidden", "insufficient_scope", "no basic auth credentials"):
		return pullDenied
	case has("not found", "manifest unknown", "manifest_unknown", "name unknown", "name_unknown", "repository does not exist"):
		return pullNotFound
	}
	return pullOther
}

// crashes is how many bad ends are a loop: MLflow may start before its database, and end once or twice for it. Killed for memory
// twice is enough: it will not take less. So is ending twice for what waits for nobody.
const crashes, kills, crashesAlone = 3, 2, 2

// ends is how often a container that does not run now has ended.
func ends(c corev1.ContainerStatus) int32 { return c.RestartCount + 1 }

// loopBreak is how long a container has to run for its end to be none of a loop: the kubelet counts anew then, too.
const loopBreak = 10 * time.Minute

// again tells whether a container has ended often, and the last time soon after its start. A node that was started anew ends what had run
// for long, and what a pod has gone through in weeks is no loop. What could not be started at all has a start of 1970, or none.
func again(c corev1.ContainerStatus, end *corev1.ContainerStateTerminated, enough int32) bool {
	ranLong := end.StartedAt.Unix() > 0 && end.FinishedAt.Sub(end.StartedAt.Time) >= loopBreak
	return ends(c) >= enough && !ranLong
}

func crashLoop(p Pod) (Finding, bool) {
	enough := int32(crashes)
	if p.Alone {
		enough = crashesAlone
	}
	for _, c := range containers(p) {
		if end := crashed(c); end != nil && again(c, end, enough) {
			return ended(c, end, "again and again"), true
		}
	}
	return Finding{}, false
}

// outOfMemory matches what was killed twice, or a pod that is not started again.
func outOfMemory(p Pod) (Finding, bool) {
	for _, c := range containers(p) {
		if end := crashed(c); end != nil && end.Reason == "OOMKilled" && (again(c, end, kills) || p.Status.Phase == corev1.PodFailed) {
			f := ended(c, end, "")
			f.Message = say(c.Name, fmt.Sprintf("it used more memory than its limit%s and was killed", limitOf(p, c.Name)))
			return f, true
		}
	}
	return Finding{}, false
}

// limitOf is the memory limit of a container, in brackets, or "".
func limitOf(p Pod, container string) string {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if limit := c.Resources.Limits.Memory(); c.Name == container && !limit.IsZero() {
			return fmt.Sprintf(" (%s)", limit)
		}
	}
	return ""
}

func restarting(p Pod) (Finding, bool) {
	for _, c := range containers(p) {
		if end := crashed(c); end != nil {
			return ended(c, end, "and is started again"), true
		}
	}
	return Finding{}, false
}

// crashed is how a container that does not run now ended, or nil. An init container that is done is no crash; a server that
// ends with 0 over and over is one.
func crashed(c corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	switch {
	case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
		return c.State.Terminated
	case c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff":
		return c.LastTerminationState.Terminated
	}
	return nil
}

func ended(c corev1.ContainerStatus, end *corev1.ContainerStateTerminated, how string) Finding {
	text := fmt.Sprintf("it ended with exit code %d", end.ExitCode)
	if end.Reason != "" && end.Reason != "Error" {
		text += " (" + end.Reason + ")"
	}
	if how != "" {
		text += " " + how
	}
	log := CurrentLog
	if c.State.Terminated == nil {
		log = PreviousLog
	}
	return Finding{Message: say(c.Name, text), Container: c.Name, Log: log}
}

func unschedulable(p Pod) (Finding, bool) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return Finding{Message: "no node takes it: " + c.Message}, true
		}
	}
	return Finding{}, false
}

// unprovisioned matches a pod whose volume does not come, which the scheduler tells as if a node were missing. A claim that only
// waits for its pod to have a node has no such event.
func unprovisioned(p Pod) (Finding, bool) {
	if p.Status.Phase != corev1.PodPending {
		return Finding{}, false
	}
	for _, claim := range p.Unbound {
		for _, e := range slices.Backward(claim.Events) {
			switch e.Reason {
			case "ProvisioningFailed", "FailedBinding":
				return Finding{Message: fmt.Sprintf("its volume %s does not come: %s", claim.ref(), oneLine(e.Message))}, true
			case "ExternalProvisioning": // for a moment all is well with it; a provisioner that is not there says no more
				return Finding{Message: fmt.Sprintf("its volume %s has not come yet: %s", claim.ref(), oneLine(e.Message))}, true
			}
		}
	}
	return Finding{}, false
}

// event matches a pod that has not started and whose last warning has one of the reasons.
func event(reasons ...string) func(Pod) (Finding, bool) {
	return func(p Pod) (Finding, bool) {
		if p.Status.Phase != corev1.PodPending {
			return Finding{}, false
		}
		for _, reason := range reasons {
			if e, ok := lastEvent(p, reason); ok {
				return Finding{Message: e.Message}, true
			}
		}
		return Finding{}, false
	}
}

// probe matches a container that runs and is not ready, once the kubelet has told of a probe, with this in its words.
func probe(said string) func(Pod) (Finding, bool) {
	return func(p Pod) (Finding, bool) {
		for _, c := range containers(p) {
			if c.State.Running == nil || c.Ready {
				continue
			}
			if e, ok := lastEvent(p, "Unhealthy"); ok && strings.Contains(e.Message, said) {
				return Finding{Message: say(c.Name, e.Message), Container: c.Name, Log: CurrentLog}, true
			}
		}
		return Finding{}, false
	}
}

func lastEvent(p Pod, reason string) (corev1.Event, bool) {
	for i := len(p.Events) - 1; i >= 0; i-- {
		if p.Events[i].Reason == reason {
			return p.Events[i], true
		}
	}
	return corev1.Event{}, false
}

// stateOf says where a pod stands that no rule has anything to say of.
func stateOf(pod *corev1.Pod) string {
	for _, c := range containers(Pod{Pod: pod}) {
		switch s := c.State; {
		case s.Waiting != nil:
			return say(c.Name, orElse(s.Waiting.Reason, "waiting"))
		case s.Running != nil && !c.Ready:
			return say(c.Name, "running, not ready yet")
		}
	}
	if pod.Status.Phase == "" || pod.Status.Phase == corev1.PodPending {
		return "pending"
	}
	return "not ready yet"
}

func say(container, text string) string {
	return fmt.Sprintf("container %s: %s", container, oneLine(text))
}

// oneLine joins a message's lines: runtimes wrap theirs.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
