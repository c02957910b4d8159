package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
)

// Check is one thing that a cluster needs, and what was seen of it.
type Check struct {
	Name  string
	Ready bool
	// Detail says how it is, or what is wrong.
	Detail string
}

// systemNamespaces hold the lab's own workloads. What its users run does not make the lab ready or not.
func systemNamespaces() []string {
	return []string{"kube-system", "local-path-storage", "knative-serving", "kourier-system"}
}

// checks looks once at everything that the profile promises.
func (c *client) checks(ctx context.Context, profile artifacts.Profile) []Check {
	if profile == artifacts.API {
		return []Check{c.apiCheck(ctx)}
	}
	list := []Check{c.apiCheck(ctx), c.nodeCheck(ctx)}
	list = append(list, c.deploymentChecks(ctx, systemNamespaces())...)
	return append(list, c.storageCheck(ctx), c.webhookCheck(ctx), c.gatewayCheck(ctx))
}

// pending are the checks that do not hold.
func pending(list []Check) []Check {
	return slices.DeleteFunc(slices.Clone(list), func(c Check) bool { return c.Ready })
}

func failed(name string, err error) Check { return Check{Name: name, Detail: err.Error()} }

func (c *client) apiCheck(ctx context.Context) Check {
	const name = "API server"
	var version struct{ GitVersion string }
	if err := c.get(ctx, "/version", &version); err != nil {
		return failed(name, err)
	}
	return Check{Name: name, Ready: true, Detail: "Kubernetes " + version.GitVersion + " at " + c.server}
}

// condition is one of an object's status.conditions.
type condition struct{ Type, Status, Reason, Message string }

func (c *client) nodeCheck(ctx context.Context) Check {
	const name = "node " + nodeName
	var n struct {
		Status struct {
			Conditions []condition
			NodeInfo   struct{ KubeletVersion, ContainerRuntimeVersion string }
		}
	}
	if err := c.get(ctx, "/api/v1/nodes/"+nodeName, &n); err != nil {
		return failed(name, err)
	}
	for _, k := range n.Status.Conditions {
		if k.Type == "Ready" {
			ready := k.Status == "True"
			detail := k.Message
			if ready {
				detail = "kubelet " + n.Status.NodeInfo.KubeletVersion + ", " + n.Status.NodeInfo.ContainerRuntimeVersion
			}
			return Check{Name: name, Ready: ready, Detail: detail}
		}
	}
	return Check{Name: name, Detail: "has no condition Ready yet"}
}

type metadata struct {
	Name, Namespace string
	Generation      int64
	Annotations     map[string]string
}

type deployment struct {
	Metadata metadata
	Spec     struct {
		Replicas int
		Selector struct{ MatchLabels map[string]string }
	}
	Status struct {
		ObservedGeneration                                           int64
		Replicas, UpdatedReplicas, ReadyReplicas, UnavailableReplica int
	}
}

func (d deployment) ready() bool {
	return d.Status.ObservedGeneration >= d.Metadata.Generation &&
		d.Status.UpdatedReplicas == d.Spec.Replicas && d.Status.ReadyReplicas == d.Spec.Replicas && d.Status.Replicas == d.Spec.Replicas
}

// deploymentChecks is one check for every Deployment in the namespaces, and one for every namespace that has none.
func (c *client) deploymentChecks(ctx context.Context, namespaces []string) []Check {
	var list struct{ Items []deployment }
	if err := c.get(ctx, "/apis/apps/v1/deployments", &list); err != nil {
		return []Check{failed("deployments", err)}
	}
	var checks []Check
	for _, namespace := range namespaces {
		found := false
		for _, d := range list.Items {
			if d.Metadata.Namespace != namespace {
				continue
			}
			found = true
			check := Check{
				Name:   "deployment " + namespace + "/" + d.Metadata.Name,
				Ready:  d.ready(),
				Detail: fmt.Sprintf("%d of %d ready", d.Status.ReadyReplicas, d.Spec.Replicas),
			}
			if !check.Ready {
				check.Detail += c.podTrouble(ctx, d)
			}
			checks = append(checks, check)
		}
		if !found {
			checks = append(checks, Check{Name: "namespace " + namespace, Detail: "has no deployment yet"})
		}
	}
	return checks
}

// podTrouble says what the pods of a deployment wait for.
func (c *client) podTrouble(ctx context.Context, d deployment) string {
	var selector []string
	for key, value := range d.Spec.Selector.MatchLabels {
		selector = append(selector, key+"%3D"+value)
	}
	slices.Sort(selector)
	var list struct {
		Items []struct {
			Metadata metadata
			Status   struct {
				Conditions        []condition
				ContainerStatuses []struct {
					Name  string
					State struct {
						Waiting    *struct{ Reason, Message string }
						Terminated *struct{ Reason, Message string }
					}
					RestartCount int
				}
			}
		}
	}
	path := "/api/v1/namespaces/" + d.Metadata.Namespace + "/pods?labelSelector=" + strings.Join(selector, ",")
	if err := c.get(ctx, path, &list); err != nil {
		return "; its pods: " + err.Error()
	}
	if len(list.Items) == 0 {
		return "; no pod yet"
	}
	var why []string
	for _, p := range list.Items {
		for _, k := range p.Status.Conditions {
			if k.Type == "PodScheduled" && k.Status == "False" {
				why = append(why, k.Message)
			}
		}
		for _, s := range p.Status.ContainerStatuses {
			switch {
			case s.State.Waiting != nil:
				why = append(why, strings.TrimSpace(s.State.Waiting.Reason+" "+s.State.Waiting.Message))
			case s.State.Terminated != nil:
				why = append(why, strings.TrimSpace(s.State.Terminated.Reason+" "+s.State.Terminated.Message))
			case s.RestartCount > 0:
				why = append(why, fmt.Sprintf("%s restarted %d times", s.Name, s.RestartCount))
			}
		}
	}
	if len(why) == 0 {
		return ""
	}
	return "; " + strings.Join(why, "; ")
}

func (c *client) storageCheck(ctx context.Context) Check {
	const name = "default StorageClass"
	var list struct{ Items []struct{ Metadata metadata } }
	if err := c.get(ctx, "/apis/storage.k8s.io/v1/storageclasses", &list); err != nil {
		return failed(name, err)
	}
	for _, s := range list.Items {
		if s.Metadata.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			return Check{Name: name, Ready: true, Detail: s.Metadata.Name}
		}
	}
	return Check{Name: name, Detail: "there is none yet"}
}

// webhookCheck proves that Knative's webhook answers, with a Service that is never made.
func (c *client) webhookCheck(ctx context.Context) Check {
	const name = "Knative webhook"
	const probe = `{"apiVersion":"serving.knative.dev/v1","kind":"Service","metadata":{"name":"lab-probe"},
		"spec":{"template":{"spec":{"containers":[{"image":"example.com/never-pulled@sha256:` +
		`0000000000000000000000000000000000000000000000000000000000000000"}]}}}}`
	var made struct{ Metadata metadata }
	err := c.do(ctx, http.MethodPost, "/apis/serving.knative.dev/v1/namespaces/default/services?dryRun=All", "application/json", []byte(probe), &made)
	if err != nil {
		return failed(name, err)
	}
	// Without the webhook the API server would have taken the Service as it was.
	if made.Metadata.Annotations["serving.knative.dev/creator"] == "" {
		return Check{Name: name, Detail: "is not called yet"}
	}
	return Check{Name: name, Ready: true, Detail: "answers"}
}

// gatewayCheck proves that Kourier's Envoy answers where its load balancer would be.
func (c *client) gatewayCheck(ctx context.Context) Check {
	const name = "Knative gateway"
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+NodeAddress+"/", nil)
	if err != nil {
		return failed(name, err)
	}
	transport := &http.Transport{DialContext: (&net.Dialer{}).DialContext}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return failed(name, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if server := resp.Header.Get("Server"); server != "envoy" {
		return Check{Name: name, Detail: fmt.Sprintf("http://%s answers %s, which is not Envoy but %q", NodeAddress, resp.Status, server)}
	}
	return Check{Name: name, Ready: true, Detail: "http://" + NodeAddress + ", Host: NAME.NAMESPACE." + domain}
}
