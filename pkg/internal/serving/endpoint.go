package serving

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/kmeta"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// Endpoint is where a Service, or a tag of it, answers: its URL, and the gateway for those whom DNS does not help.
type Endpoint struct {
	URL     string
	Host    string              // what the gateway routes by
	Gateway cluster.ServicePort // zero where none is known
	Model   string              // what the model is asked by
}

// gateway is where a networking layer of Knative takes requests: from outside, and for Services that are local to the cluster.
type gateway struct {
	class           string // of config-network
	external, local cluster.ServicePort
}

func gateways() []gateway {
	return []gateway{
		{
			"kourier.ingress.networking.knative.dev",
			cluster.ServicePort{Namespace: "kourier-system", Service: "kourier", Port: "80"},
			cluster.ServicePort{Namespace: "kourier-system", Service: "kourier-internal", Port: "80"},
		},
		{
			"istio.ingress.networking.knative.dev",
			cluster.ServicePort{Namespace: "istio-system", Service: "istio-ingressgateway", Port: "80"},
			cluster.ServicePort{Namespace: "istio-system", Service: "knative-local-gateway", Port: "80"},
		},
		{
			"contour.ingress.networking.knative.dev",
			cluster.ServicePort{Namespace: "contour-external", Service: "envoy", Port: "80"},
			cluster.ServicePort{Namespace: "contour-internal", Service: "envoy", Port: "80"},
		},
	}
}

// Endpoint reads where a Service answers; tag names one of its tagged revisions, "" is the Service itself. failure.Invalid where
// there is no such Service or tag, failure.Diagnosed where it has no address yet.
func (c *Client) Endpoint(ctx context.Context, namespace, name, tag string) (Endpoint, error) {
	live, err := c.get(ctx, namespace, name)
	if err != nil {
		return Endpoint{}, err
	}
	var service knative.Service
	if err := cluster.Into(live, &service); err != nil {
		return Endpoint{}, err
	}
	address := service.Status.URL
	if tag != "" {
		if address, err = addressOfTag(&service, tag); err != nil {
			return Endpoint{}, err
		}
	}
	if address == nil {
		return Endpoint{}, &failure.Error{
			Class: failure.Diagnosed, Reason: "NoAddress", Object: cluster.RefOf(live).String(),
			Message: strings.TrimSpace("Knative has given it no address " + tag),
			Hint:    fmt.Sprintf("see why: kubectl -n %s describe services.serving.knative.dev %s", namespace, name),
		}
	}
	endpoint := Endpoint{URL: address.String(), Host: (*url.URL)(address).Host, Model: cmp.Or(modelName(live), name)}
	endpoint.Gateway, err = c.gateway(ctx, live, strings.Contains(endpoint.Host, ".svc."))
	return endpoint, err
}

// addressOfTag is where the revision with a tag answers; nil where it has no address yet.
func addressOfTag(service *knative.Service, tag string) (*apis.URL, error) {
	var tags []string
	for _, target := range service.Status.Traffic {
		if target.Tag == tag {
			return target.URL, nil
		}
		if target.Tag != "" {
			tags = append(tags, target.Tag)
		}
	}
	hint := "it has no tagged revisions: leave the tag out"
	if len(tags) > 0 {
		slices.Sort(tags)
		hint = "its tags: " + strings.Join(tags, ", ")
	}
	return nil, &failure.Error{
		Class: failure.Invalid, Reason: "TagNotFound", Object: ServiceRef(service.Namespace, service.Name).String(),
		Message: fmt.Sprintf("it has no revision with the tag %q", tag), Hint: hint,
	}
}

// gateway is the first gateway that exists, beginning with that of the networking layer that serves the Service. Not being
// allowed to look is no failure: a gateway is then not known.
func (c *Client) gateway(ctx context.Context, service *unstructured.Unstructured, local bool) (cluster.ServicePort, error) {
	class := service.GetAnnotations()["networking.knative.dev/ingress-class"]
	if class == "" {
		network, err := c.optional(ctx, "ConfigMap", "knative-serving", "config-network")
		if err != nil {
			return cluster.ServicePort{}, err
		}
		class = dataOf(network, "ingress-class", "ingress.class")
	}
	known := gateways()
	for i, g := range known {
		if g.class == class {
			known[0], known[i] = known[i], known[0]
		}
	}
	for _, g := range known {
		port := g.external
		if local {
			port = g.local
		}
		found, err := c.optional(ctx, "Service", port.Namespace, port.Service)
		if err != nil {
			return cluster.ServicePort{}, err
		}
		if found != nil {
			return port, nil
		}
	}
	return cluster.ServicePort{}, nil
}

// optional reads a core object; nil where it is not there or may not be read.
func (c *Client) optional(ctx context.Context, kind, namespace, name string) (*unstructured.Unstructured, error) {
	obj, err := c.cluster.Get(ctx, cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: kind}, Namespace: namespace, Name: name})
	if apierrors.IsNotFound(err) || failure.ClassOf(err) == failure.Forbidden {
		return nil, nil
	}
	return obj, err
}

// dataOf is the first of keys that a ConfigMap has.
func dataOf(configMap *unstructured.Unstructured, keys ...string) string {
	if configMap == nil {
		return ""
	}
	for _, key := range keys {
		if value, ok, err := unstructured.NestedString(configMap.Object, "data", key); ok && err == nil {
			return value
		}
	}
	return ""
}

// RevisionPort is where the pods of a revision take requests, without a gateway: the Service that Knative makes for its own probes.
func RevisionPort(revision cluster.Ref) cluster.ServicePort {
	return cluster.ServicePort{Namespace: revision.Namespace, Service: kmeta.ChildName(revision.Name, "-private"), Port: "http"}
}
