package cluster

import (
	"cmp"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The tools that KeptBy knows.
const (
	ArgoCD = "Argo CD"
	Flux   = "Flux"
	Helm   = "Helm"
)

// Keeper is a tool that puts its own version of an object back.
type Keeper struct {
	Tool string // ArgoCD, Flux or Helm
	Name string // of the Application, of the Kustomization or HelmRelease, of the release; "" where the object does not tell
}

// KeptBy finds who keeps obj. Annotations that only tell Argo CD how to treat an object, its hooks and waves, do not count:
// they are in our own manifests.
func KeptBy(obj *unstructured.Unstructured) (Keeper, bool) {
	labels, annotations := obj.GetLabels(), obj.GetAnnotations()
	if id, ok := annotations["argocd.argoproj.io/tracking-id"]; ok { // APPLICATION:GROUP/KIND:NAMESPACE/NAME
		name, _, _ := strings.Cut(id, ":")
		return Keeper{Tool: ArgoCD, Name: name}, true
	}
	if name, ok := labels["argocd.argoproj.io/instance"]; ok {
		return Keeper{Tool: ArgoCD, Name: name}, true
	}
	for _, controller := range []string{"kustomize", "helm"} { // before Helm: Flux drives it
		prefix := controller + ".toolkit.fluxcd.io/"
		if name, ok := labels[prefix+"name"]; ok {
			if namespace := labels[prefix+"namespace"]; namespace != "" {
				name = namespace + "/" + name
			}
			return Keeper{Tool: Flux, Name: name}, true
		}
	}
	if release := annotations["meta.helm.sh/release-name"]; release != "" || labels[ManagedByLabel] == Helm {
		return Keeper{Tool: Helm, Name: cmp.Or(release, labels["app.kubernetes.io/instance"])}, true
	}
	return Keeper{}, false
}
