package cluster

import "testing"

func TestKeptBy(t *testing.T) {
	for _, tc := range []struct {
		name                string
		labels, annotations map[string]string
		want                Keeper
	}{
		{name: "nobody"},
		{name: "ourselves", labels: map[string]string{ManagedByLabel: FieldManager}},
		{name: "a hook that Argo CD would run", annotations: map[string]string{"argocd.argoproj.io/hook": "PreSync", "argocd.argoproj.io/sync-wave": "1"}},
		{name: "Argo CD, annotation", annotations: map[string]string{"argocd.argoproj.io/tracking-id": "ml:apps/Deployment:mlflow/mlflow"}, want: Keeper{ArgoCD, "ml"}},
		{name: "Argo CD, label", labels: map[string]string{"argocd.argoproj.io/instance": "ml"}, want: Keeper{ArgoCD, "ml"}},
		{
			name:   "Flux, Kustomization",
			labels: map[string]string{"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"},
			want:   Keeper{Flux, "flux-system/apps"},
		},
		{
			name:        "Flux, HelmRelease",
			labels:      map[string]string{"helm.toolkit.fluxcd.io/name": "mlflow", ManagedByLabel: "Helm"},
			annotations: map[string]string{"meta.helm.sh/release-name": "mlflow"},
			want:        Keeper{Flux, "mlflow"},
		},
		{
			name:        "Helm",
			labels:      map[string]string{ManagedByLabel: "Helm", "app.kubernetes.io/instance": "other"},
			annotations: map[string]string{"meta.helm.sh/release-name": "mlflow", "meta.helm.sh/release-namespace": "ml"},
			want:        Keeper{Helm, "mlflow"},
		},
		{name: "Helm, label", labels: map[string]string{ManagedByLabel: "Helm", "app.kubernetes.io/instance": "mlflow"}, want: Keeper{Helm, "mlflow"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			obj := configMap("c", nil)
			obj.SetLabels(tc.labels)
			obj.SetAnnotations(tc.annotations)
			if got, ok := KeptBy(obj); got != tc.want || ok != (tc.want != Keeper{}) {
				t.Errorf("got %+v, %t, want %+v", got, ok, tc.want)
			}
		})
	}
}
