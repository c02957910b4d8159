package trackingserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// The checks before an installation; CheckNetworkPolicies is one of them, too.
const (
	CheckKubernetes   = "kubernetes"
	CheckRights       = "rights"
	CheckNames        = "names"
	CheckStorageClass = "storage-class"
	CheckAdmission    = "admission"
)

// Preflight looks for all that stands in the way of Install with p, each on its own: so that a person learns at once of all that is
// wrong. It writes nothing and starts no pod. An error is one of the looking itself: bad input, or a cluster that does not answer.
func (c *Client) Preflight(ctx context.Context, p Parameters) ([]failure.Checked, error) {
	var results []failure.Checked
	err := progress.Do(c.progress, "Looking at what MLflow needs", func(progress.Step) error {
		in, _, _, err := c.draft(ctx, p, install, Options{}) // who may not read the record is told by the rights
		if err != nil {
			return err
		}
		for _, check := range []struct {
			name string
			look func(ctx context.Context, c *failure.Checked) error
		}{
			{CheckKubernetes, in.newEnough}, {CheckRights, in.checkRights}, {CheckNames, in.checkNames},
			{CheckStorageClass, in.checkStorage}, {CheckAdmission, in.checkAdmission}, {CheckNetworkPolicies, in.enforced},
		} {
			result := failure.Checked{Name: check.name}
			result, err = result.Fill(check.look(ctx, &result))
			if err != nil {
				return err
			}
			results = append(results, result)
		}
		return nil
	})
	return results, err
}

// newEnough compares the API server with what the manifests use: a Job's podFailurePolicy, on by default since 1.26, and sidecars,
// since 1.29. An older server drops such a field without a word.
func (in *installation) newEnough(ctx context.Context, c *failure.Checked) error {
	least, because := version.MustParseGeneric("1.26"), "the migration's Job says in podFailurePolicy what is not worth another try"
	if slices.ContainsFunc(in.rendered.all(), hasSidecar) {
		least, because = version.MustParseGeneric("1.29"), "the Cloud SQL Auth Proxy is a sidecar container"
	}
	runs, err := in.cluster.Version(ctx)
	if err != nil {
		return err
	}
	c.Where = "v" + runs.String()
	if runs.AtLeast(least) {
		return nil
	}
	return &failure.Error{
		Class: failure.Diagnosed, Reason: "KubernetesTooOld", Message: fmt.Sprintf("the cluster is Kubernetes %s, and %s or newer is needed: %s", runs, least, because),
		Hint: "upgrade the cluster, or choose another one with --context",
	}
}

// hasSidecar tells whether an object's pods have one: an init container that goes on.
func hasSidecar(obj *unstructured.Unstructured) bool {
	for _, path := range [][]string{{"spec", "template"}, {"spec", "jobTemplate", "spec", "template"}} {
		containers, _, err := unstructured.NestedSlice(obj.Object, append(path, "spec", "initContainers")...)
		if err == nil && slices.ContainsFunc(containers, func(container any) bool {
			fields, ok := container.(map[string]any)
			return ok && fields["restartPolicy"] == string(corev1.ContainerRestartPolicyAlways)
		}) {
			return true
		}
	}
	return false
}

func (in *installation) checkRights(ctx context.Context, _ *failure.Checked) error {
	return in.mayDoIt(ctx)
}

// checkNames tells whether the objects' names are free, or ours, and whether the cluster knows their kinds.
func (in *installation) checkNames(ctx context.Context, c *failure.Checked) error {
	err := in.namesAreFree(ctx)
	if failure.ClassOf(err) == failure.Forbidden {
		*c = c.Unseen(err)
		return nil
	}
	return err
}

func (in *installation) checkStorage(ctx context.Context, c *failure.Checked) error {
	claims := slices.DeleteFunc(in.rendered.all(), func(obj *unstructured.Unstructured) bool { return obj.GetKind() != "PersistentVolumeClaim" })
	if len(claims) == 0 {
		c.State, c.Message = failure.CheckSkipped, "no volumes are wanted"
		return nil
	}
	return in.hasStorage(ctx)
}

// checkAdmission asks the API server whether it would take the objects: schemas, webhooks, policies and Pod Security.
func (in *installation) checkAdmission(ctx context.Context, c *failure.Checked) error {
	err := in.dryRun(ctx)
	f, ok := errors.AsType[*failure.Error](err)
	switch {
	case ok && f.Reason == "NamespaceNotFound":
		c.State, c.Message = failure.CheckSkipped, "the namespace does not exist yet, so that the API server cannot be asked; install asks before anything stays"
		return nil
	case ok && f.Class == failure.Forbidden:
		*c = c.Unseen(err)
		return nil
	}
	return err
}

// enforcers are the DaemonSets of network plugins that enforce NetworkPolicies.
func enforcers() map[string]string {
	return map[string]string{
		"calico-node": "Calico", "canal": "Calico", "cilium": "Cilium", "anetd": "GKE Dataplane V2", "antrea-agent": "Antrea",
		"kube-router": "kube-router", "weave-net": "Weave Net", "ovnkube-node": "OVN-Kubernetes", "kube-ovn-cni": "Kube-OVN",
		"azure-npm": "Azure Network Policy Manager", "kube-network-policies": "kube-network-policies",
	}
}

// enforced tells by the network plugin whether NetworkPolicies are more than paper. To be sure it takes pods: that is what Check does
// where they are installed.
func (in *installation) enforced(ctx context.Context, c *failure.Checked) error {
	sets, err := in.cluster.List(ctx, cluster.Query{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSet"}})
	if failure.ClassOf(err) == failure.Forbidden {
		*c = c.Unseen(err)
		return nil
	}
	if err != nil {
		return err
	}
	known := enforcers()
	for _, set := range sets {
		switch plugin := known[set.GetName()]; {
		case plugin != "":
			c.State, c.Where, c.Message = failure.CheckOK, fmt.Sprintf("%s, %s in namespace %s", plugin, cluster.RefOf(set), set.GetNamespace()), ""
			return nil
		case strings.HasPrefix(set.GetName(), "kube-flannel"):
			c.State, c.Reason = failure.CheckNotEnforced, "NetworkPoliciesNotEnforced"
			c.Message = fmt.Sprintf("the network plugin is Flannel (%s in namespace %s), which enforces no NetworkPolicies", cluster.RefOf(set), set.GetNamespace())
			c.Hint = "--network-policies installs them all the same; they hold as soon as a plugin enforces them: Calico, Cilium, GKE Dataplane V2"
		}
	}
	if c.State == "" {
		c.State, c.Message = failure.CheckUnknown, "no network plugin was recognised; once MLflow is installed with --network-policies, `kubectl mlflow check` tries it"
	}
	return nil
}
