package serving

import (
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func since(d time.Duration) apis.VolatileTime {
	return apis.VolatileTime{Inner: metav1.NewTime(time.Now().Add(-d))}
}

// ready are the conditions of an object whose condition Ready is c, or that has none.
func ready(c *apis.Condition) duckv1.Conditions {
	if c == nil {
		return nil
	}
	c.Type = apis.ConditionReady
	return duckv1.Conditions{*c}
}

func TestRevisionStatus(t *testing.T) {
	for name, c := range map[string]struct {
		observed  int64
		condition *apis.Condition
		want      status.Status
		message   string
		reason    string
	}{
		"nothing yet":           {1, nil, status.InProgressStatus, "the revision is being started", ""},
		"deploying":             {1, &apis.Condition{Status: corev1.ConditionUnknown, Reason: "Deploying"}, status.InProgressStatus, "Deploying", ""},
		"ready":                 {1, &apis.Condition{Status: corev1.ConditionTrue}, status.CurrentStatus, "the revision is ready", ""},
		"ready of an older one": {0, &apis.Condition{Status: corev1.ConditionTrue}, status.InProgressStatus, "Knative has not looked at the revision yet", ""},
		"no room":               {1, &apis.Condition{Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes", LastTransitionTime: since(time.Hour)}, status.InProgressStatus, "Unschedulable: 0/1 nodes", ""},
		"crashed just now":      {1, &apis.Condition{Status: corev1.ConditionFalse, Reason: "ExitCode1", Message: "boom", LastTransitionTime: since(time.Second)}, status.InProgressStatus, "ExitCode1: boom", ""},
		"crashed for long":      {1, &apis.Condition{Status: corev1.ConditionFalse, Reason: "ExitCode1", Message: "boom", LastTransitionTime: since(time.Minute)}, status.FailedStatus, "ExitCode1: boom", "ExitCode1"},
		"too slow":              {1, &apis.Condition{Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", LastTransitionTime: since(0)}, status.FailedStatus, "ProgressDeadlineExceeded", "ProgressDeadlineExceeded"},
		"no reason":             {1, &apis.Condition{Status: corev1.ConditionFalse}, status.FailedStatus, "the revision has failed", "RevisionFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			revision := &knative.Revision{ObjectMeta: metav1.ObjectMeta{Name: "iris-00001", Generation: 1}}
			revision.Status.ObservedGeneration = c.observed
			revision.Status.Conditions = ready(c.condition)
			expect(t, newWorld(t).encode(revision).Object, RevisionStatus, c.want, c.message, c.reason)
		})
	}
}

func TestServiceStatus(t *testing.T) {
	for name, c := range map[string]struct {
		observed  int64
		condition *apis.Condition
		want      status.Status
		message   string
		reason    string
	}{
		"nothing yet":           {1, nil, status.InProgressStatus, "the Service is being started", ""},
		"ready":                 {1, &apis.Condition{Status: corev1.ConditionTrue}, status.CurrentStatus, "it is ready", ""},
		"ready of an older one": {0, &apis.Condition{Status: corev1.ConditionTrue}, status.InProgressStatus, "Knative has not looked at the Service yet", ""},
		"failed just now":       {1, &apis.Condition{Status: corev1.ConditionFalse, Reason: "RevisionFailed", Message: "boom", LastTransitionTime: since(time.Second)}, status.InProgressStatus, "RevisionFailed: boom", ""},
		"failed for long":       {1, &apis.Condition{Status: corev1.ConditionFalse, Reason: "RevisionFailed", Message: "boom", LastTransitionTime: since(time.Minute)}, status.FailedStatus, "RevisionFailed: boom", "RevisionFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			service := &knative.Service{ObjectMeta: metav1.ObjectMeta{Name: "iris", Generation: 1}}
			service.Status.ObservedGeneration = c.observed
			service.Status.Conditions = ready(c.condition)
			expect(t, newWorld(t).encode(service).Object, ServiceStatus, c.want, c.message, c.reason)
		})
	}
}

func TestRouteStatus(t *testing.T) {
	isTrue := apis.Condition{Status: corev1.ConditionTrue}
	for name, c := range map[string]struct {
		observed int64
		routes   apis.Condition
		traffic  map[string]int64
		mark     mark
		want     status.Status
		message  string
		reason   string
	}{
		"all traffic":         {2, isTrue, map[string]int64{"iris-00002": 100}, mark{"h", "2"}, status.CurrentStatus, "the revision has the traffic", ""},
		"not looked at":       {1, isTrue, map[string]int64{"iris-00002": 100}, mark{"h", "2"}, status.InProgressStatus, "Knative has not looked at the Service yet", ""},
		"still the old one's": {2, isTrue, map[string]int64{"iris-00001": 100}, mark{"h", "2"}, status.InProgressStatus, "the route is being written", ""},
		"gateway behind":      {2, apis.Condition{Status: corev1.ConditionUnknown, Reason: "IngressNotConfigured"}, map[string]int64{"iris-00002": 100}, mark{"h", "2"}, status.InProgressStatus, "IngressNotConfigured", ""},
		"route fails":         {2, apis.Condition{Status: corev1.ConditionFalse, Reason: "DomainConflict", LastTransitionTime: since(time.Minute)}, map[string]int64{"iris-00002": 100}, mark{"h", "2"}, status.FailedStatus, "DomainConflict", "DomainConflict"},
		"route fails so far":  {2, apis.Condition{Status: corev1.ConditionFalse, Reason: "DomainConflict", LastTransitionTime: since(0)}, map[string]int64{"iris-00002": 100}, mark{"h", "2"}, status.InProgressStatus, "DomainConflict", ""},
		"overtaken":           {2, isTrue, map[string]int64{"iris-00003": 100}, mark{"other", "3"}, status.FailedStatus, "another deployment has overtaken this one", "Superseded"},
		"ready, then more":    {2, isTrue, map[string]int64{"iris-00002": 100}, mark{"other", "3"}, status.CurrentStatus, "the revision has the traffic", ""},
	} {
		t.Run(name, func(t *testing.T) {
			service := &knative.Service{ObjectMeta: metav1.ObjectMeta{Name: "iris", Generation: 2}}
			service.Spec.Template.Annotations = map[string]string{hashKey: c.mark.hash, generationKey: c.mark.generation}
			service.Status.ObservedGeneration = c.observed
			c.routes.Type = knative.ServiceConditionRoutesReady
			service.Status.Conditions = duckv1.Conditions{c.routes}
			for revision, percent := range c.traffic {
				service.Status.Traffic = append(service.Status.Traffic, knative.TrafficTarget{RevisionName: revision, Percent: &percent})
			}
			service.Spec.Traffic = []knative.TrafficTarget{{LatestRevision: new(true), Percent: new(int64(100))}}
			ours := RouteStatus(Applied{Revision: cluster.Ref{Name: "iris-00002"}, Shares: []Share{{Revision: "iris-00002", Percent: 100}}, mark: mark{"h", "2"}})
			expect(t, newWorld(t).encode(service).Object, ours, c.want, c.message, c.reason)
		})
	}
}

func TestRouteStatusOfASplit(t *testing.T) {
	old, canary := knative.TrafficTarget{RevisionName: "iris-00001", Percent: new(int64(90))}, knative.TrafficTarget{RevisionName: "iris-00002", Percent: new(int64(10)), Tag: Candidate}
	candidate := knative.TrafficTarget{LatestRevision: new(true), Percent: new(int64(0)), Tag: Candidate}
	routed := candidate
	routed.RevisionName = "iris-00002"
	behind := candidate
	behind.RevisionName = "iris-00001"
	tag, split := []Share{{Revision: "iris-00002", Tag: Candidate}}, []Share{{Revision: "iris-00001", Percent: 90}, {Revision: "iris-00002", Percent: 10}}
	for name, c := range map[string]struct {
		asked   []Share
		spec    []knative.TrafficTarget
		status  []knative.TrafficTarget
		want    status.Status
		message string
		reason  string
	}{
		"the tag leads to it":       {tag, []knative.TrafficTarget{candidate}, []knative.TrafficTarget{routed}, status.CurrentStatus, "the revision has the traffic", ""},
		"the tag leads to the last": {tag, []knative.TrafficTarget{candidate}, []knative.TrafficTarget{behind}, status.InProgressStatus, "the route is being written", ""},
		"no tag yet":                {tag, []knative.TrafficTarget{candidate}, []knative.TrafficTarget{old}, status.InProgressStatus, "the route is being written", ""},
		"canary":                    {split, []knative.TrafficTarget{old, canary}, []knative.TrafficTarget{old, canary}, status.CurrentStatus, "the revision has the traffic", ""},
		"canary to come":            {split, []knative.TrafficTarget{old, canary}, []knative.TrafficTarget{old, routed}, status.InProgressStatus, "the route is being written", ""},
		"somebody else's":           {split, []knative.TrafficTarget{old}, []knative.TrafficTarget{old}, status.FailedStatus, "somebody else has given the requests to others meanwhile", "TrafficChanged"},
	} {
		t.Run(name, func(t *testing.T) {
			service := &knative.Service{}
			service.Spec.Traffic, service.Status.Traffic = c.spec, c.status
			service.Status.Conditions = duckv1.Conditions{{Type: knative.ServiceConditionRoutesReady, Status: corev1.ConditionTrue}}
			ours := RouteStatus(Applied{Revision: cluster.Ref{Name: "iris-00002"}, Shares: c.asked})
			expect(t, newWorld(t).encode(service).Object, ours, c.want, c.message, c.reason)
		})
	}
}

func expect(t *testing.T, object map[string]any, judge func(*unstructured.Unstructured) (*status.Result, error), want status.Status, message, reason string) {
	t.Helper()
	result, err := judge(&unstructured.Unstructured{Object: object})
	if err != nil {
		t.Fatal(err)
	}
	if result.Status != want || result.Message != message {
		t.Errorf("%s: %q, want %s: %q", result.Status, result.Message, want, message)
	}
	// readiness takes the failure's reason from here.
	if stalled := reason != ""; stalled != (len(result.Conditions) == 1) || stalled && result.Conditions[0].Reason != reason {
		t.Errorf("conditions are %+v, want reason %q", result.Conditions, reason)
	}
}
