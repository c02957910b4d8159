package serving

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/serving"
	knative "knative.dev/serving/pkg/apis/serving/v1"
)

// Knative takes back some of what it says: a container that has crashed once may come up, a node may be added, a route may be
// written again. Only what it has said for this long counts as final.
const (
	crashWindow = 30 * time.Second
	routeWindow = 10 * time.Second
)

// Pods selects the pods of a revision.
func Pods(revision string) labels.Selector {
	return labels.SelectorFromSet(labels.Set{serving.RevisionLabelKey: revision})
}

// ModelContainer is the container in a revision's pods that serves the model: Knative's name for one that has none.
const ModelContainer = "user-container"

// PodsOf selects the pods of all revisions of a Service.
func PodsOf(service string) labels.Selector {
	return labels.SelectorFromSet(labels.Set{serving.ServiceLabelKey: service})
}

// RevisionOf is the revision that a pod with these labels is of.
func RevisionOf(pod map[string]string) string { return pod[serving.RevisionLabelKey] }

// RevisionStatus judges a Revision; readiness takes it as Target.Status. Ready of an older generation does not count.
func RevisionStatus(u *unstructured.Unstructured) (*status.Result, error) {
	var revision knative.Revision
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &revision); err != nil {
		return nil, fmt.Errorf("revision %s: %w", u.GetName(), err)
	}
	if revision.Status.ObservedGeneration < revision.Generation {
		return inProgress("Knative has not looked at the revision yet"), nil
	}
	ready := revision.Status.GetCondition(knative.RevisionConditionReady)
	switch {
	case ready == nil || ready.IsUnknown():
		return inProgress(sentence(ready, "the revision is being started")), nil
	case ready.IsTrue():
		return &status.Result{Status: status.CurrentStatus, Message: "the revision is ready"}, nil
	case ready.Reason == "Unschedulable":
		// A cluster autoscaler may be at work: the wait's own end is the limit.
		return inProgress(sentence(ready, "no node has room")), nil
	case strings.HasPrefix(ready.Reason, "ExitCode") && young(ready, crashWindow):
		return inProgress(sentence(ready, "the container has exited")), nil
	default:
		return failing(cmp.Or(ready.Reason, "RevisionFailed"), sentence(ready, "the revision has failed")), nil
	}
}

// Why a Service does not come to what was asked: somebody else has asked otherwise.
const (
	Superseded     = "Superseded"     // with another template
	TrafficChanged = "TrafficChanged" // with other shares
)

// RouteStatus judges a Service: Current once the gateway gives its requests, and its tag, as a asked. It fails where another deployment
// has overtaken this one, or where somebody else has given the requests to others.
func RouteStatus(a Applied) func(*unstructured.Unstructured) (*status.Result, error) {
	return func(u *unstructured.Unstructured) (*status.Result, error) {
		var service knative.Service
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &service); err != nil {
			return nil, fmt.Errorf("service %s: %w", u.GetName(), err)
		}
		routes := service.Status.GetCondition(knative.ServiceConditionRoutesReady)
		routed := a.has(service.Status.Traffic)
		switch {
		case service.Status.ObservedGeneration < service.Generation:
			return inProgress("Knative has not looked at the Service yet"), nil
		case routed && routes.IsTrue():
			return &status.Result{Status: status.CurrentStatus, Message: "the revision has the traffic"}, nil
		case marks(u) != a.mark:
			return failing(Superseded, "another deployment has overtaken this one"), nil
		case !a.has(service.Spec.Traffic):
			return failing(TrafficChanged, "somebody else has given the requests to others meanwhile"), nil
		case routed && routes.IsFalse() && !young(routes, routeWindow):
			return failing(cmp.Or(routes.Reason, "RouteFailed"), sentence(routes, "the route has failed")), nil
		default:
			return inProgress(sentence(routes, "the route is being written")), nil
		}
	}
}

// has tells whether targets, of a spec or of a status, are those that a asks for.
func (a Applied) has(targets []knative.TrafficTarget) bool {
	return !slices.ContainsFunc(a.Shares, func(s Share) bool {
		var percent int64
		tagged := s.Tag == ""
		for _, t := range targets {
			if t.RevisionName == s.Revision || t.RevisionName == "" && isLatest(t) && s.Revision == a.Revision.Name {
				percent += percentOf(t)
				tagged = tagged || t.Tag == s.Tag
			}
		}
		return !tagged || s.Tag == "" && percent != s.Percent
	})
}

// ServiceStatus judges a Service as a whole, whoever has written it: Current once its newest template is ready to serve.
func ServiceStatus(u *unstructured.Unstructured) (*status.Result, error) {
	var service knative.Service
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &service); err != nil {
		return nil, fmt.Errorf("service %s: %w", u.GetName(), err)
	}
	ready := service.Status.GetCondition(knative.ServiceConditionReady)
	switch {
	case service.Status.ObservedGeneration < service.Generation:
		return inProgress("Knative has not looked at the Service yet"), nil
	case ready.IsTrue():
		return &status.Result{Status: status.CurrentStatus, Message: "it is ready"}, nil
	case ready.IsFalse() && !young(ready, crashWindow):
		return failing(cmp.Or(ready.Reason, "ServiceFailed"), sentence(ready, "the Service has failed")), nil
	default:
		return inProgress(sentence(ready, "the Service is being started")), nil
	}
}

// young tells whether Knative has said so for less than window.
func young(c *apis.Condition, window time.Duration) bool {
	return time.Since(c.LastTransitionTime.Inner.Time) < window
}

// sentence is what a condition says, or otherwise where it says nothing.
func sentence(c *apis.Condition, otherwise string) string {
	switch {
	case c == nil || c.Reason == "" && c.Message == "":
		return otherwise
	case c.Message == "":
		return c.Reason
	case c.Reason == "":
		return c.Message
	default:
		return c.Reason + ": " + c.Message
	}
}

func inProgress(message string) *status.Result {
	return &status.Result{Status: status.InProgressStatus, Message: message}
}

// failing carries the reason where readiness looks for it.
func failing(reason, message string) *status.Result {
	return &status.Result{
		Status: status.FailedStatus, Message: message,
		Conditions: []status.Condition{{Type: status.ConditionStalled, Status: corev1.ConditionTrue, Reason: reason, Message: message}},
	}
}
