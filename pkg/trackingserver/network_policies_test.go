package trackingserver

import (
	"net/netip"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// peer is one end of a connection: a pod of the namespace with its labels, or an address outside.
type peer struct {
	name    string
	labels  labels.Set
	address string // "" for a pod
}

// network judges connections as the documentation of NetworkPolicy says a network plugin does.
type network []networkingv1.NetworkPolicy

func networkOf(t *testing.T, objs []*unstructured.Unstructured) network {
	t.Helper()
	var policies network
	for _, obj := range objs {
		if obj.GetKind() != "NetworkPolicy" {
			continue
		}
		var policy networkingv1.NetworkPolicy
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(obj.Object, &policy, true); err != nil {
			t.Fatal(err)
		}
		policies = append(policies, policy)
	}
	return policies
}

func selects(t *testing.T, selector *metav1.LabelSelector, pod peer) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return pod.address == "" && s.Matches(pod.labels)
}

func meets(t *testing.T, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, other peer, port int32) bool {
	t.Helper()
	there := len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			return other.address != "" && netip.MustParsePrefix(p.IPBlock.CIDR).Contains(netip.MustParseAddr(other.address))
		}
		return selects(t, p.PodSelector, other)
	})
	return there && (len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal == port }))
}

func (n network) allows(t *testing.T, from, to peer, port int32) bool {
	t.Helper()
	out, in := true, true
	for _, direction := range []struct {
		of    networkingv1.PolicyType
		pod   peer
		allow *bool
	}{{networkingv1.PolicyTypeEgress, from, &out}, {networkingv1.PolicyTypeIngress, to, &in}} {
		closed, open := false, false
		for _, policy := range n {
			if !slices.Contains(policy.Spec.PolicyTypes, direction.of) || !selects(t, &policy.Spec.PodSelector, direction.pod) {
				continue
			}
			closed = true
			if direction.of == networkingv1.PolicyTypeEgress {
				for _, rule := range policy.Spec.Egress {
					open = open || meets(t, rule.To, rule.Ports, to, port)
				}
			} else {
				for _, rule := range policy.Spec.Ingress {
					open = open || meets(t, rule.From, rule.Ports, from, port)
				}
			}
		}
		*direction.allow = !closed || open
	}
	return out && in
}

func TestNetworkPoliciesLetThroughWhatIsNeeded(t *testing.T) {
	stranger, world, metadata := peer{name: "a stranger", labels: labels.Set{"app": "other"}}, peer{name: "the world", address: "8.8.8.8"}, peer{name: "the metadata server", address: "169.254.169.254"}
	for _, name := range []string{"local-closed", "gcp-all", "gcp-cloudsql-keys", "gcp-cloudsql-sidecar-all"} {
		t.Run(name, func(t *testing.T) {
			objs := renderAll(t, goldens()[name])
			policies := networkOf(t, objs)
			judge := func(want bool, from, to peer, port int32) {
				t.Helper()
				if policies.allows(t, from, to, port) != want {
					t.Errorf("%s to %s, port %d: want %t", from.name, to.name, port, want)
				}
			}
			all := map[string]peer{}
			for component, pod := range templates(t, objs) {
				all[component] = peer{name: component, labels: pod.Labels}
			}
			for component, pod := range all {
				judge(true, pod, peer{name: "DNS", address: "10.0.0.10"}, 53)
				judge(false, pod, stranger, 8080)
				judge(false, pod, world, 80)
				judge(component == server, stranger, pod, 5000)
				judge(false, stranger, pod, 9090)
				judge(false, stranger, pod, 5432)
				inCluster := component == database && pod.labels["app"] == "postgres"
				judge(!inCluster, pod, world, 443)
				judge(!inCluster, pod, world, 3307)
				judge(!inCluster, pod, metadata, 80)
				judge(!inCluster, pod, peer{name: "the node", address: "169.254.169.252"}, 988)
				if component != database {
					judge(true, pod, all[server], 5000)
				}
				if db, ok := all[database]; ok {
					judge(component != database, pod, db, 5432)
				}
			}
		})
	}
}

// The proxy has a policy of its own, whatever else is closed: it asks nobody for a password.
func TestTheProxyIsClosedInAnyCase(t *testing.T) {
	objs := renderAll(t, goldens()[CloudSQLOverlay])
	policies, pods := networkOf(t, objs), templates(t, objs)
	proxy := peer{name: "the proxy", labels: pods[database].Labels}
	for component, want := range map[string]bool{server: true, migration: true} {
		if policies.allows(t, peer{labels: pods[component].Labels}, proxy, 5432) != want {
			t.Errorf("%s to the proxy: want %t", component, want)
		}
	}
	if policies.allows(t, peer{labels: labels.Set{"app": "other"}}, proxy, 5432) {
		t.Error("a stranger reaches the proxy")
	}
	if !policies.allows(t, proxy, peer{address: "8.8.8.8"}, 3307) {
		t.Error("the proxy does not reach Cloud SQL")
	}
}
