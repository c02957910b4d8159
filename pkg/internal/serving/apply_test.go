package serving

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/serving"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func iris(version string) Spec {
	return Spec{
		Namespace: "models", Name: "iris",
		Image:       "registry.example.com/models/iris@sha256:" + strings.Repeat(version, 64),
		Annotations: map[string]string{ModelURIKey: "models:/iris/" + version, VersionKey: version, RunIDKey: "run" + version, EnvironmentKey: "e1"},
		ReadyPath:   "/v2/models/iris/ready", Port: 8080, Env: map[string]string{"WORKERS": "1"}, Timeout: 90 * time.Second,
	}
}

func apply(t *testing.T, w *world, s Spec) Applied {
	t.Helper()
	a, err := New(w).Apply(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// refused expects err to be a failure of class and reason.
func refused(t *testing.T, err error, class failure.Class, reason string) {
	t.Helper()
	f, ok := errors.AsType[*failure.Error](err)
	if !ok || f.Class != class || f.Reason != reason || f.Hint == "" || f.Message == "" {
		t.Fatalf("error is %#v (%v), want %s %s with message and hint", f, err, class, reason)
	}
}

func TestCreateMakesAHardenedServiceByDigest(t *testing.T) {
	w := newWorld(t)
	a := apply(t, w, iris("1"))
	if a.Action != Created || a.Revision.Name != "iris-00001" || a.Service.Name != "iris" || w.writes != 1 {
		t.Errorf("applied %+v in %d writes", a, w.writes)
	}
	service := w.service()
	if service.Labels[cluster.ManagedByLabel] != "kubectl-mlflow" || service.Annotations[ModelURIKey] != "models:/iris/1" || service.Annotations[RunIDKey] != "run1" {
		t.Errorf("labels %v, annotations %v", service.Labels, service.Annotations)
	}
	template := service.Spec.Template
	for key, want := range map[string]string{ModelURIKey: "models:/iris/1", VersionKey: "1", RunIDKey: "run1", EnvironmentKey: "e1", serving.ProgressDeadlineAnnotationKey: "1m30s"} {
		if template.Annotations[key] != want {
			t.Errorf("template annotation %s is %q, want %q", key, template.Annotations[key], want)
		}
	}
	container := template.Spec.Containers[0]
	probe := container.ReadinessProbe
	if container.Image != iris("1").Image || container.Ports[0].ContainerPort != 8080 || container.Ports[0].Name != "http1" {
		t.Errorf("container is %+v", container)
	}
	if probe.HTTPGet.Path != "/v2/models/iris/ready" || probe.PeriodSeconds != 1 || probe.FailureThreshold < 3 {
		t.Errorf("probe is %+v", probe)
	}
	sc := container.SecurityContext
	if !*sc.RunAsNonRoot || *sc.RunAsUser != 1000 || *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem ||
		sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || !reflect.DeepEqual(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("security context is %+v", sc)
	}
	if template.Spec.Volumes[0].EmptyDir == nil || container.VolumeMounts[0].MountPath != "/tmp" {
		t.Errorf("volumes %+v, mounts %+v", template.Spec.Volumes, container.VolumeMounts)
	}
	// Knative's own rules: nothing here needs a feature that is off by default.
	if err := service.Validate(apis.WithinCreate(t.Context())); err != nil {
		t.Errorf("Knative would refuse it: %v", err)
	}
}

func TestImageMustBeByDigest(t *testing.T) {
	w := newWorld(t)
	s := iris("1")
	s.Image = "registry.example.com/models/iris:latest"
	if _, err := New(w).Apply(t.Context(), s); err == nil || w.writes != 0 {
		t.Errorf("a tag was taken: %v, %d writes", err, w.writes)
	}
}

func TestSameContentIsUnchanged(t *testing.T) {
	for name, then := range map[string]func(*world, *Spec){
		"ready":                  func(w *world, _ *Spec) { w.conclude("iris-00001", apis.Condition{Status: corev1.ConditionTrue}) },
		"still under way":        func(w *world, _ *Spec) { w.conclude("iris-00001", apis.Condition{Status: corev1.ConditionUnknown}) },
		"with another deadline":  func(_ *world, s *Spec) { s.Timeout = time.Hour },
		"with foreign additions": func(w *world, _ *Spec) { w.edit(func(s *knative.Service) { s.Annotations["team"] = "blue" }) },
		"with a tagged revision": func(w *world, _ *Spec) {
			w.edit(func(s *knative.Service) { s.Spec.Traffic = append(s.Spec.Traffic, tagged("iris-00001", "first")) })
		},
		"with somebody's own env": func(w *world, _ *Spec) { w.objects[ServiceRef("models", "iris")] = withEnv(w, "MINE", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newWorld(t), iris("1")
			apply(t, w, s)
			then(w, &s)
			w.writes = 0
			a := apply(t, w, s)
			if a.Action != Unchanged || a.Revision.Name != "iris-00001" || w.writes != 0 {
				t.Errorf("applied %+v in %d writes", a, w.writes)
			}
		})
	}
}

func TestRevisionIsTheNewestOfTheTemplate(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	for _, value := range []string{"1", "2", "3"} {
		w.edit(func(s *knative.Service) { s.Spec.Template.Annotations["autoscaling.knative.dev/min-scale"] = value })
	}
	if a := apply(t, w, iris("1")); a.Action != Unchanged || a.Revision.Name != "iris-00004" {
		t.Errorf("applied %+v, want the revision that somebody's last change made", a)
	}
}

func tagged(revision, tag string) knative.TrafficTarget {
	return knative.TrafficTarget{RevisionName: revision, Tag: tag, LatestRevision: new(false), Percent: new(int64(0))}
}

// withEnv is the Service with one more environment variable, as if the present revision had been made with it.
func withEnv(w *world, name, value string) *unstructured.Unstructured {
	service := w.service()
	env := &service.Spec.Template.Spec.Containers[0].Env
	*env = append(*env, corev1.EnvVar{Name: name, Value: value})
	return w.encode(service)
}

func TestUpdateMakesANewRevisionAndKeepsWhatIsNotOurs(t *testing.T) {
	w, first := newWorld(t), iris("1")
	first.Env["OLD"] = "of the first"
	apply(t, w, first)
	w.edit(func(s *knative.Service) {
		s.Annotations["team"], s.Labels["cost"] = "blue", "42"
		s.Spec.Traffic = []knative.TrafficTarget{{RevisionName: "iris-00001", LatestRevision: new(false), Percent: new(int64(100)), Tag: "stable"}}
		template := &s.Spec.Template
		template.Name = "iris-by-another-tool"
		template.Annotations["autoscaling.knative.dev/min-scale"] = "1"
		template.Spec.ContainerConcurrency = new(int64(7))
		template.Spec.Containers[0].Env = append(template.Spec.Containers[0].Env, corev1.EnvVar{Name: "MINE", Value: "1"})
		template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"memory": first.container().Resources.Requests["memory"]}
	})
	second := iris("2")
	delete(second.Annotations, RunIDKey)
	a := apply(t, w, second)
	if a.Action != Configured || !a.Held {
		t.Errorf("applied %+v", a)
	}
	w.ready(a.Revision.Name)
	promote(t, w, a, 100)
	service := w.service()
	template, container := service.Spec.Template, service.Spec.Template.Spec.Containers[0]
	if container.Image != second.Image || template.Annotations[VersionKey] != "2" || service.Annotations[VersionKey] != "2" {
		t.Errorf("image %s, annotations %v", container.Image, template.Annotations)
	}
	if _, stale := template.Annotations[RunIDKey]; stale {
		t.Error("the first version's run ID is still there")
	}
	if service.Annotations["team"] != "blue" || service.Labels["cost"] != "42" || template.Annotations["autoscaling.knative.dev/min-scale"] != "1" ||
		*template.Spec.ContainerConcurrency != 7 || container.Resources.Limits.Memory().IsZero() {
		t.Errorf("foreign fields were lost: %+v", service)
	}
	if want := []corev1.EnvVar{{Name: "WORKERS", Value: "1"}, {Name: "MINE", Value: "1"}}; !reflect.DeepEqual(container.Env, want) {
		t.Errorf("env is %v, want %v", container.Env, want)
	}
	if template.Name != "" {
		t.Errorf("the revision is to be named %s, which is taken", template.Name)
	}
	want := []knative.TrafficTarget{
		{LatestRevision: new(true), Percent: new(int64(100))},
		{RevisionName: "iris-00001", LatestRevision: new(false), Percent: new(int64(0)), Tag: "stable"},
	}
	if !reflect.DeepEqual(service.Spec.Traffic, want) {
		got, _ := json.Marshal(service.Spec.Traffic)
		t.Errorf("traffic is %s", got)
	}
}

func TestReturningToAnOldVersionIsANewRevision(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	apply(t, w, iris("2"))
	if a := apply(t, w, iris("1")); a.Action != Configured || a.Revision.Name != "iris-00003" {
		t.Errorf("applied %+v: the first revision has no traffic any more", a)
	}
}

func TestFailedRevisionIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	w.conclude("iris-00001", apis.Condition{Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"})
	if a := apply(t, w, iris("1")); a.Action != Configured || a.Revision.Name != "iris-00002" {
		t.Errorf("applied %+v, want a new revision of the same content", a)
	}
	if a := apply(t, w, iris("1")); a.Action != Unchanged || a.Revision.Name != "iris-00002" {
		t.Errorf("applied %+v, want the second try's revision", a)
	}
}

// A progress deadline that the user has set by Knative's own name goes before the timeout, at whatever makes the revision.
func TestDeadlineOfTheUserStays(t *testing.T) {
	w := newWorld(t)
	versioned := func(version string) Spec {
		s := iris(version)
		s.Settings.Annotations = map[string]string{serving.ProgressDeadlineAnnotationKey: "30m"}
		return s
	}
	step := func(s Spec, action, revision string) {
		t.Helper()
		a := apply(t, w, s)
		if is := w.service().Spec.Template.Annotations[serving.ProgressDeadlineAnnotationKey]; a.Action != action || a.Revision.Name != revision || is != "30m" {
			t.Errorf("applied %+v, and the deadline is %q", a, is)
		}
	}
	step(versioned("1"), Created, "iris-00001")
	step(versioned("2"), Configured, "iris-00002")
	step(versioned("2"), Unchanged, "iris-00002")
	w.conclude("iris-00002", apis.Condition{Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"})
	step(versioned("2"), Configured, "iris-00003")
	step(versioned("2"), Unchanged, "iris-00003")
}

func TestConflictIsReadAgain(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	w.before = func() { w.edit(func(s *knative.Service) { s.Annotations["team"] = "blue" }) }
	if a := apply(t, w, iris("2")); a.Action != Configured || w.service().Annotations["team"] != "blue" {
		t.Errorf("applied %+v over annotations %v", a, w.service().Annotations)
	}
}

// TestABusyControllerIsOutlasted is what a deployment meets just after another: Knative writes the status again and again.
func TestABusyControllerIsOutlasted(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	writes := 0
	var busy func()
	busy = func() {
		writes++
		w.edit(func(s *knative.Service) { s.Status.ObservedGeneration = int64(writes) })
		if writes < 9 {
			w.before = busy
		}
	}
	w.before = busy
	if a := apply(t, w, iris("2")); a.Action != Configured || writes != 9 {
		t.Errorf("applied %+v beside %d writes of the controller", a, writes)
	}
}

// TestEndlessConflictsAreGivenUp at once where the command is called off, and else after some seconds.
func TestEndlessConflictsAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		apply(t, w, iris("1"))
		ctx, cancel := context.WithCancel(t.Context())
		var busy func()
		busy = func() {
			w.edit(func(s *knative.Service) { s.Status.ObservedGeneration++ })
			w.before = busy
		}
		w.before = busy
		began := time.Now()
		if _, err := New(w).Apply(ctx, iris("2")); !apierrors.IsConflict(err) {
			t.Errorf("got %v, want the conflict", err)
		}
		if took := time.Since(began); took < 3*time.Second || took > 6*time.Second {
			t.Errorf("it was given up after %s", took)
		}
		cancel()
		if _, err := New(w).Apply(ctx, iris("2")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the end of the context", err)
		}
	})
}

func TestConflictWithTheSameDeploymentJoinsIt(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	w.before = func() { apply(t, w, iris("2")) }
	if a := apply(t, w, iris("2")); a.Action != Unchanged || a.Revision.Name != "iris-00002" {
		t.Errorf("applied %+v, want the revision of the one that was faster", a)
	}
}

func TestCheckWritesNothing(t *testing.T) {
	w, s := newWorld(t), iris("1")
	s.Image = ""
	if err := New(w).Check(t.Context(), s); err != nil || w.writes != 0 || w.dryRuns != 1 {
		t.Fatalf("%v, %d writes, %d dry runs", err, w.writes, w.dryRuns)
	}
	apply(t, w, iris("1"))
	if err := New(w).Check(t.Context(), s); err != nil || w.writes != 1 || w.dryRuns != 2 {
		t.Errorf("of one that is there: %v, %d writes, %d dry runs", err, w.writes, w.dryRuns)
	}
}

func TestWithoutKnative(t *testing.T) {
	w := newWorld(t)
	w.noKnative = true
	client := New(w)
	_, getErr := client.Get(t.Context(), "models", "iris")
	for _, err := range []error{client.Check(t.Context(), iris("1")), getErr, client.Delete(t.Context(), "models", "iris"), client.List(t.Context(), "", nil)} {
		refused(t, err, failure.Diagnosed, "KnativeMissing")
	}
}

func TestRevisionThatIsDeniedIsTold(t *testing.T) {
	w := newWorld(t)
	w.noRevision = "Revision creation failed with message: exceeded quota: models."
	_, err := New(w).Apply(t.Context(), iris("1"))
	refused(t, err, failure.Diagnosed, "RevisionDenied")
	if !strings.Contains(err.Error(), "exceeded quota") {
		t.Error(err)
	}
	w.noRevision = "" // the quota is raised, and Knative does not know it yet
	if a := apply(t, w, iris("1")); a.Action != Configured || a.Revision.Name == "" {
		t.Errorf("the same again: %+v", a)
	}
}

func TestControllerThatDoesNothingIsNamed(t *testing.T) {
	w := newWorld(t)
	w.noRevision = "something else"
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := New(w).Apply(ctx, iris("1"))
	refused(t, err, failure.TimedOut, "RevisionNotCreated")
	if !strings.Contains(err.Error(), "something else") {
		t.Error(err)
	}
}

func TestOvertakenDeploymentIsRefused(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	mine := w.encode(w.service())
	for name := range w.objects {
		if name.Kind == "Revision" {
			delete(w.objects, name)
		}
	}
	w.noRevision = "none"
	w.edit(func(s *knative.Service) { s.Spec.Template.Annotations[hashKey] = "another" })
	_, err := New(w).revision(t.Context(), mine)
	refused(t, err, failure.Refused, "Superseded")
}

func TestDeleteNeedsOne(t *testing.T) {
	w := newWorld(t)
	refused(t, New(w).Delete(t.Context(), "models", "iris"), failure.Invalid, "DeploymentNotFound")
	apply(t, w, iris("1"))
	if err := New(w).Delete(t.Context(), "models", "iris"); err != nil {
		t.Fatal(err)
	}
	if _, there := w.objects[ServiceRef("models", "iris")]; there {
		t.Error("it is still there")
	}
}

// Who only creates does not change what is there, and who only updates makes nothing.
func TestOnlyOneOfTheTwo(t *testing.T) {
	for name, c := range map[string]struct {
		there  bool
		only   Only
		reason string
	}{
		"create":                       {false, OnlyCreate, ""},
		"create what is there":         {true, OnlyCreate, "DeploymentExists"},
		"update":                       {true, OnlyUpdate, ""},
		"update what is not there":     {false, OnlyUpdate, "DeploymentNotFound"},
		"either, where it is there":    {true, "", ""},
		"either, where there is none ": {false, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			client := New(w)
			if c.there {
				if _, err := client.Apply(t.Context(), iris("3")); err != nil {
					t.Fatal(err)
				}
			}
			next := iris("4")
			next.Only = c.only
			writes := w.writes
			for _, err := range []error{client.Check(t.Context(), next), func() error { _, err := client.Apply(t.Context(), next); return err }()} {
				f, _ := errors.AsType[*failure.Error](err)
				if c.reason == "" && err != nil || c.reason != "" && (f == nil || f.Reason != c.reason) {
					t.Errorf("%v, want %q", err, c.reason)
				}
			}
			if c.reason != "" && w.writes != writes {
				t.Error("it was written all the same")
			}
		})
	}
}
