package serving

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"knative.dev/pkg/apis"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// others are the Services of others: their labels, their annotations, and who they are of.
func others() map[string]struct {
	labels, annotations map[string]string
	says                string
} {
	return map[string]struct {
		labels, annotations map[string]string
		says                string
	}{
		"nobody's":       {nil, nil, "not made by kubectl mlflow"},
		"mlflow-knative": {map[string]string{cluster.ManagedByLabel: Peer}, nil, "managed by mlflow-knative"},
		"Helm":           {map[string]string{cluster.ManagedByLabel: "Helm"}, map[string]string{"meta.helm.sh/release-name": "a"}, "kept by Helm"},
		"Argo CD":        {map[string]string{cluster.ManagedByLabel: cluster.FieldManager}, map[string]string{"argocd.argoproj.io/tracking-id": "a"}, "kept by Argo CD"},
		"Flux":           {map[string]string{cluster.ManagedByLabel: cluster.FieldManager, "kustomize.toolkit.fluxcd.io/name": "a"}, nil, "kept by Flux"},
		"mlflow-knative's, in a repository": {
			map[string]string{cluster.ManagedByLabel: Peer}, map[string]string{"argocd.argoproj.io/tracking-id": "a"}, "kept by Argo CD",
		},
	}
}

// of puts a Service of somebody else, which serves, with one container.
func (w *world) of(labels, annotations map[string]string, container corev1.Container) {
	w.put(w.encode(&knative.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "serving.knative.dev/v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "models", Name: "iris", UID: "1", Labels: maps.Clone(labels), Annotations: maps.Clone(annotations)},
		Spec: knative.ServiceSpec{ConfigurationSpec: knative.ConfigurationSpec{Template: knative.RevisionTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"client.knative.dev/user-image": "them", "autoscaling.knative.dev/min-scale": "1"}},
			Spec:       knative.RevisionSpec{PodSpec: corev1.PodSpec{Containers: []corev1.Container{container}}},
		}}},
	}))
	w.conclude("iris-00001", apis.Condition{Status: corev1.ConditionTrue})
}

// peers puts the Service that mlflow-knative writes.
func (w *world) peers(env ...corev1.EnvVar) {
	w.of(map[string]string{cluster.ManagedByLabel: Peer}, map[string]string{RunIDKey: "run0"}, corev1.Container{
		Image: "registry.example.com/iris:latest", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
		Env:            append([]corev1.EnvVar{{Name: "MLSERVER_INFER_WORKERS", Value: "0"}}, env...),
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/version", Port: intstr.FromInt32(8080)}}},
	})
}

func TestForeignServiceIsRefused(t *testing.T) {
	for name, c := range others() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.of(c.labels, c.annotations, corev1.Container{Image: "them"})
			client := New(w)
			_, err := client.Apply(t.Context(), iris("1"))
			_, traffic := client.Rollback(t.Context(), "models", "iris")
			for verb, err := range map[string]error{"apply": err, "check": client.Check(t.Context(), iris("1")), "traffic": traffic} {
				refused(t, err, failure.Refused, "ForeignService")
				f, _ := errors.AsType[*failure.Error](err)
				if !strings.Contains(err.Error(), c.says) || !strings.Contains(f.Hint, "kubectl mlflow deploy iris MODEL_URI --adopt") {
					t.Errorf("%s: %v, hint %q", verb, err, f.Hint)
				}
			}
			if w.writes != 0 || w.dryRuns != 0 {
				t.Errorf("%d writes, %d dry runs", w.writes, w.dryRuns)
			}
		})
	}
}

func TestThePeersMayBeDeletedAndOthersMayNot(t *testing.T) {
	for name, c := range others() {
		w := newWorld(t)
		w.of(c.labels, c.annotations, corev1.Container{Image: "them"})
		err := New(w).Delete(t.Context(), "models", "iris")
		if name == "mlflow-knative" {
			if err != nil || w.writes != 1 {
				t.Errorf("%s: %v, %d writes", name, err, w.writes)
			}
			continue
		}
		refused(t, err, failure.Refused, "ForeignService")
		if f, _ := errors.AsType[*failure.Error](err); w.writes != 0 || strings.Contains(f.Hint, "--adopt") {
			t.Errorf("%s: %d writes, hint %q", name, w.writes, f.Hint)
		}
	}
}

func TestAdoptedServiceIsOursFromThenOn(t *testing.T) {
	for name, c := range others() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.of(c.labels, c.annotations, corev1.Container{Image: "them"})
			s := iris("1")
			s.Adopt = true
			client := New(w)
			if err := client.Check(t.Context(), s); err != nil || w.writes != 0 {
				t.Errorf("%v, %d writes", err, w.writes)
			}
			a := apply(t, w, s)
			_, keeper, _ := strings.Cut(c.says, "kept by ")
			if a.Action != Configured || a.Revision.Name != "iris-00002" || a.Keeper != keeper {
				t.Errorf("applied %+v", a)
			}
			service := w.service()
			if service.Labels[cluster.ManagedByLabel] != cluster.FieldManager {
				t.Errorf("labels are %v", service.Labels)
			}
			for key, value := range c.annotations {
				if service.Annotations[key] != value {
					t.Errorf("annotation %s is %q", key, service.Annotations[key])
				}
			}
			apply(t, w, iris("2"))
			if err := client.Delete(t.Context(), "models", "iris"); err != nil {
				t.Error(err)
			}
		})
	}
}

// KServe makes such a Service for each InferenceService. Who owns one for garbage collection alone does not write it.
func TestServiceOfAControllerIsNotAdopted(t *testing.T) {
	for name, controller := range map[string]*bool{"controller": new(true), "owner": new(false), "owner by default": nil} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.of(nil, nil, corev1.Container{Image: "them"})
			w.edit(func(s *knative.Service) {
				s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "serving.kserve.io/v1beta1", Kind: "InferenceService", Name: "roses", UID: "2", Controller: controller}}
			})
			s := iris("1")
			s.Adopt = true
			writes := w.writes
			client := New(w)
			_, err := client.Apply(t.Context(), s)
			if controller == nil || !*controller {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, failure.Refused, "ForeignService")
			refused(t, client.Check(t.Context(), s), failure.Refused, "ForeignService")
			f, _ := errors.AsType[*failure.Error](err)
			if !strings.Contains(f.Message, "is made from InferenceService roses") || !strings.Contains(f.Hint, "kubectl delete inferenceservice roses --namespace models") || strings.Contains(f.Hint, "--adopt") {
				t.Errorf("%v, hint %q", err, f.Hint)
			}
			if w.writes != writes || w.dryRuns != 0 {
				t.Errorf("%d writes, %d dry runs", w.writes-writes, w.dryRuns)
			}
		})
	}
}

func TestToolThatPutsItsVersionBackIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	c := others()["Helm"]
	w.of(c.labels, c.annotations, corev1.Container{Image: "them"})
	s := iris("1")
	s.Adopt = true
	apply(t, w, s)
	w.edit(func(s *knative.Service) { s.Labels[cluster.ManagedByLabel] = cluster.Helm })
	_, err := New(w).Apply(t.Context(), iris("2"))
	refused(t, err, failure.Refused, "ForeignService")
}

func TestAdoptingTakesAwayWhatIsOfAnotherProgram(t *testing.T) {
	w := newWorld(t)
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/them"}}}
	w.of(nil, map[string]string{"team": "blue"}, corev1.Container{
		Image: "them", Command: []string{"them"}, Args: []string{"--them"}, WorkingDir: "/them", ReadinessProbe: probe, LivenessProbe: probe, StartupProbe: probe,
		Env: []corev1.EnvVar{{Name: "THEIRS", Value: "1"}, {Name: "MLSERVER_DEBUG", Value: "1"}},
	})
	s := iris("1")
	s.Adopt = true
	apply(t, w, s)
	service := w.service()
	container := service.Spec.Template.Spec.Containers[0]
	if len(container.Command)+len(container.Args) > 0 || container.WorkingDir != "" || container.LivenessProbe != nil || container.StartupProbe != nil ||
		container.ReadinessProbe.HTTPGet.Path != s.ReadyPath || container.Image != s.Image {
		t.Errorf("container is %+v", container)
	}
	if !hasEnv(container, "THEIRS", "1") || !hasEnv(container, "MLSERVER_DEBUG", "1") || service.Annotations["team"] != "blue" {
		t.Errorf("foreign fields were lost: %v, %+v", service.Annotations, container.Env)
	}
	annotations := service.Spec.Template.Annotations
	if annotations["client.knative.dev/user-image"] != "" || annotations["autoscaling.knative.dev/min-scale"] != "1" {
		t.Errorf("annotations of the template are %v", annotations)
	}
	if err := service.Validate(t.Context()); err != nil {
		t.Errorf("Knative would refuse it: %v", err)
	}
}

func TestThePeersModelKeepsItsName(t *testing.T) {
	for want, env := range map[string][]corev1.EnvVar{"mlflow-model": {{Name: "MINE", Value: "1"}}, "roses": {{Name: "MINE", Value: "1"}, {Name: "MLSERVER_MODEL_NAME", Value: "roses"}}} {
		w := newWorld(t)
		w.peers(env...)
		client := New(w)
		s := iris("1")
		for _, version := range []string{"1", "2"} {
			d, err := client.Get(t.Context(), "models", "iris")
			if err != nil || d.ModelName != want {
				t.Fatalf("before version %s: %q, %v", version, d.ModelName, err)
			}
			s = iris(version)
			s.Adopt, s.ModelName, s.ReadyPath = version == "1", d.ModelName, "/v2/models/"+want+"/ready"
			apply(t, w, s)
		}
		container := w.service().Spec.Template.Spec.Containers[0]
		if !reflect.DeepEqual(container.Env, []corev1.EnvVar{{Name: "MINE", Value: "1"}, {Name: "WORKERS", Value: "1"}}) || container.ReadinessProbe.HTTPGet.Path != s.ReadyPath ||
			len(container.Ports) != 1 || container.Ports[0].Name != "http1" {
			t.Errorf("container is %+v", container)
		}
		if a := apply(t, w, s); a.Action != Unchanged {
			t.Errorf("the same again: %+v", a)
		}
	}
}

func TestAdoptedVersionIsHeldBehindTheOneThatServes(t *testing.T) {
	w := newWorld(t)
	w.peers()
	s := iris("1")
	s.Adopt, s.Hold = true, true
	a := apply(t, w, s)
	want := []knative.TrafficTarget{
		{RevisionName: "iris-00001", LatestRevision: new(false), Percent: new(int64(100))},
		{LatestRevision: new(true), Percent: new(int64(0)), Tag: Candidate},
	}
	if got := w.service().Spec.Traffic; !a.Held || !reflect.DeepEqual(got, want) {
		t.Errorf("held %t, traffic %+v", a.Held, got)
	}
	w.conclude("iris-00002", apis.Condition{Status: corev1.ConditionTrue})
	client := New(w)
	if promoted, err := client.Promote(t.Context(), a, 100); err != nil || Of(promoted.Shares, "iris-00002") != 100 {
		t.Fatalf("%+v, %v", promoted, err)
	}
	if service := w.service(); service.Annotations[ModelURIKey] != "models:/iris/1" {
		t.Errorf("annotations are %v", service.Annotations)
	}
	if back, err := client.Rollback(t.Context(), "models", "iris"); err != nil || Of(back.Shares, "iris-00001") != 100 {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestAdoptMakesCreateTakeForeignServicesAlone(t *testing.T) {
	w := newWorld(t)
	w.peers()
	s := iris("1")
	s.Only, s.Adopt = OnlyCreate, true
	apply(t, w, s)
	_, err := New(w).Apply(t.Context(), s)
	refused(t, err, failure.Refused, "DeploymentExists")
}

func TestWhatAWebhookSaysIsExplained(t *testing.T) {
	for message, reason := range map[string]string{
		`failed calling webhook "webhook.serving.knative.dev": no endpoints available`:                     "WebhookDown",
		`admission webhook denied the request: must not set the field(s): spec.template.spec.nodeSelector`: "FieldSwitchedOff",
		"something else": "",
	} {
		met := &apierrors.StatusError{ErrStatus: metav1.Status{Message: message}}
		err := explain(fmt.Errorf("service iris: %w", met))
		f, explained := errors.AsType[*failure.Error](err)
		if explained != (reason != "") || explained && (f.Reason != reason || f.Hint == "") || !errors.Is(err, met) {
			t.Errorf("%s: %+v, want the reason %q", message, err, reason)
		}
	}
}
