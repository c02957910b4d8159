package serving

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/pkg/apis"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// irisAt is a Service that answers at host, of any making.
func (w *world) irisAt(host string) {
	service := &knative.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "serving.knative.dev/v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "models", Name: "iris", Labels: map[string]string{cluster.ManagedByLabel: Peer}, Annotations: map[string]string{RunIDKey: "r1"}},
	}
	if host != "" {
		service.Status.URL = &apis.URL{Scheme: "http", Host: host}
		service.Status.Traffic = []knative.TrafficTarget{{Tag: "candidate", URL: &apis.URL{Scheme: "http", Host: "candidate-" + host}}}
	}
	w.put(w.encode(service))
}

func (w *world) core(kind, namespace, name string, data map[string]any) {
	obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind, "data": data}}
	obj.SetNamespace(namespace)
	obj.SetName(name)
	w.put(obj)
}

func TestEndpoint(t *testing.T) {
	kourier := cluster.ServicePort{Namespace: "kourier-system", Service: "kourier", Port: "80"}
	istio := cluster.ServicePort{Namespace: "istio-system", Service: "istio-ingressgateway", Port: "80"}
	for name, c := range map[string]struct {
		host, tag, class string
		services         []cluster.ServicePort
		want             Endpoint
	}{
		"the class's gateway": {
			"iris.models.example.com", "", "istio.ingress.networking.knative.dev", []cluster.ServicePort{kourier, istio},
			Endpoint{"http://iris.models.example.com", "iris.models.example.com", istio, "mlflow-model"},
		},
		"the one that is there": {
			"iris.models.example.com", "", "", []cluster.ServicePort{istio},
			Endpoint{"http://iris.models.example.com", "iris.models.example.com", istio, "mlflow-model"},
		},
		"of a tag": {
			"iris.models.example.com", "candidate", "kourier.ingress.networking.knative.dev", []cluster.ServicePort{kourier},
			Endpoint{"http://candidate-iris.models.example.com", "candidate-iris.models.example.com", kourier, "mlflow-model"},
		},
		"local to the cluster": {
			"iris.models.svc.cluster.local", "", "kourier.ingress.networking.knative.dev",
			[]cluster.ServicePort{kourier, {Namespace: "kourier-system", Service: "kourier-internal"}},
			Endpoint{"http://iris.models.svc.cluster.local", "iris.models.svc.cluster.local", cluster.ServicePort{Namespace: "kourier-system", Service: "kourier-internal", Port: "80"}, "mlflow-model"},
		},
		"no gateway": {
			"iris.models.example.com", "", "gateway-api.ingress.networking.knative.dev", nil,
			Endpoint{"http://iris.models.example.com", "iris.models.example.com", cluster.ServicePort{}, "mlflow-model"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.irisAt(c.host)
			if c.class != "" {
				w.core("ConfigMap", "knative-serving", "config-network", map[string]any{"ingress-class": c.class})
			}
			for _, s := range c.services {
				w.core("Service", s.Namespace, s.Service, nil)
			}
			got, err := New(w).Endpoint(t.Context(), "models", "iris", c.tag)
			if err != nil || got != c.want {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

// Knative shortens the name of the Service where it would be longer than a label.
func TestPortOfARevision(t *testing.T) {
	for name, want := range map[string]string{
		"iris-00001":                       "iris-00001-private",
		strings.Repeat("a", 50) + "-00001": "aaaaaaaaaaaaaaaaaaaaaaa47cce6a7e6a79544d0eb2ead6d341fbc-private",
	} {
		got := RevisionPort(revisionRef("models", name))
		if want := (cluster.ServicePort{Namespace: "models", Service: want, Port: "http"}); got != want {
			t.Errorf("%s is asked at %+v, want %+v", name, got, want)
		}
	}
}

func TestEndpointThatIsNotThere(t *testing.T) {
	w := newWorld(t)
	_, err := New(w).Endpoint(t.Context(), "models", "iris", "")
	refused(t, err, failure.Invalid, "DeploymentNotFound")
	w.irisAt("")
	_, err = New(w).Endpoint(t.Context(), "models", "iris", "")
	refused(t, err, failure.Diagnosed, "NoAddress")
	w = newWorld(t)
	w.irisAt("iris.models.example.com")
	_, err = New(w).Endpoint(t.Context(), "models", "iris", "canary")
	refused(t, err, failure.Invalid, "TagNotFound")
	if e, ok := errors.AsType[*failure.Error](err); !ok || e.Hint != "its tags: candidate" {
		t.Errorf("hint: %#v", err)
	}
}

func TestListShowsThePeersToo(t *testing.T) {
	w := newWorld(t)
	w.irisAt("iris.models.example.com")
	s := iris("3")
	s.Name = "tulip"
	apply(t, w, s)
	foreign := w.objects[ServiceRef("models", "iris")].DeepCopy()
	foreign.SetName("other")
	foreign.SetLabels(nil)
	w.put(foreign)
	broken := w.objects[ServiceRef("models", "tulip")].DeepCopy()
	broken.SetName("broken")
	broken.Object["status"] = "none"
	w.objects[cluster.RefOf(broken)] = broken

	rows := map[string]Deployment{}
	err := New(w).List(t.Context(), "", func(d Deployment) error { rows[d.Name] = d; return nil })
	if err != nil || len(rows) != 3 {
		t.Fatalf("%v, %v", rows, err)
	}
	if d := rows["iris"]; d.RunID != "r1" || d.URL != "http://iris.models.example.com" || d.Ready {
		t.Errorf("the peer's is %+v", d)
	}
	if d := rows["tulip"]; d.ModelURI != "models:/iris/3" || d.Version != "3" || d.Image != s.Image || d.Reason == "" {
		t.Errorf("ours is %+v", d)
	}
	if d := rows["broken"]; d.ModelURI != "models:/iris/3" || d.Ready || d.Reason == "" {
		t.Errorf("the broken one is %+v", d)
	}
}
