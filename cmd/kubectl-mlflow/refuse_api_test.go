//go:build api

package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// namespaceYAML is the namespace where it has to be there before install.
const namespaceYAML = "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAMESPACE}"

// untouched runs the program, wants its exit code and what it says, and wants nothing in the namespace changed.
func (s *scene) untouched(want int, says []string, args ...string) *call {
	s.t.Helper()
	before := s.controller.Portrait(s.t, s.namespace)
	writes := len(s.proxy.Writes())
	c := s.run(want, args...)
	for _, text := range says {
		if !strings.Contains(c.stderr.String(), strings.ReplaceAll(text, "NAMESPACE", s.namespace)) {
			s.t.Errorf("%s says\n%s\nwant %q", strings.Join(args, " "), c.stderr.String(), text)
		}
	}
	after := s.controller.Portrait(s.t, s.namespace)
	if diff := cmp.Diff(before, after); diff != "" {
		s.t.Errorf("%s was refused, and has changed the namespace (-before +after; writes %v):\n%s", strings.Join(args, " "), s.proxy.Writes()[writes:], diff)
	}
	return c
}

// TestRealRefusals are the states that install must not touch.
func TestRealRefusals(t *testing.T) {
	stage := newStage(t)
	install := []string{"install"}
	for _, c := range []struct {
		name  string
		ready func(*scene)
		args  []string
		code  int
		says  []string
	}{
		{
			name: "the namespace is being deleted",
			ready: func(s *scene) {
				s.controller.Apply(s.t, s.namespace, "kit", "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAMESPACE, finalizers: [kit.example.com/stays]}")
				s.t.Cleanup(func() { s.controller.Edit(s.t, "", "namespaces", s.namespace, `{"metadata":{"finalizers":null}}`) })
				s.controller.End(s.t, s.namespace)
				s.controller.Await(s.t, "", "namespaces", s.namespace, func(ns *unstructured.Unstructured) bool {
					left, _, err := unstructured.NestedSlice(ns.Object, "spec", "finalizers")
					return err == nil && len(left) == 0
				})
			},
			args: install, code: 5, says: []string{"namespace NAMESPACE is being deleted"},
		},
		{
			name: "an object is being deleted",
			ready: func(s *scene) {
				s.run(0, "install")
				s.controller.Edit(s.t, s.namespace, "services", "mlflow", `{"metadata":{"finalizers":["kit.example.com/stays"]}}`)
				s.t.Cleanup(func() { s.controller.Edit(s.t, s.namespace, "services", "mlflow", `{"metadata":{"finalizers":null}}`) })
				s.controller.Delete(s.t, s.namespace, "services", "mlflow")
			},
			args: install, code: 5, says: []string{"service/mlflow", "being deleted"},
		},
		{
			name: "the quota has no room",
			ready: func(s *scene) {
				s.controller.Apply(s.t, s.namespace, "kit", namespaceYAML+`
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: small}
spec: {hard: {persistentvolumeclaims: "1"}}
status: {hard: {persistentvolumeclaims: "1"}, used: {persistentvolumeclaims: "1"}}`)
			},
			args: install, code: 5, says: []string{"exceeded quota: small", "persistentvolumeclaim"},
		},
		{
			name: "a webhook refuses",
			ready: func(s *scene) {
				s.controller.Apply(s.t, s.namespace, "kit", namespaceYAML+"\n---\n"+webhookYAML(s.t, "statefulsets", func() (bool, string) { return false, "no databases on Thursdays" }))
			},
			args: install, code: 5, says: []string{"statefulset.apps/postgres", "no databases on Thursdays"},
		},
		{
			name:  "a volume cannot change its class",
			ready: func(s *scene) { s.run(0, "install") },
			args:  []string{"install", "--storage-class", "other"}, code: 5, says: []string{"persistentvolumeclaim/", "spec"},
		},
		{
			name:  "a volume cannot shrink",
			ready: func(s *scene) { s.run(0, "install", "--database-storage", "20Gi") },
			args:  []string{"install", "--database-storage", "5Gi"}, code: 5, says: []string{"persistentvolumeclaim/postgres-data"},
		},
		{
			name: "the Secret is gone, the data is not",
			ready: func(s *scene) {
				s.run(0, "install")
				s.run(0, "uninstall")
				s.controller.Delete(s.t, s.namespace, "secrets", "mlflow-secret")
			},
			args: install, code: 5, says: []string{"secret/mlflow-secret", "postgres-data"},
		},
		{
			name: "the Secret may not be read",
			ready: func(s *scene) {
				s.run(0, "install")
				s.proxy.Fail(kit.Deny("get", "secrets"))
			},
			args: install, code: 6, says: []string{"secrets"},
		},
		{
			name: "the record was edited by hand: install",
			ready: func(s *scene) {
				s.run(0, "install")
				s.controller.Edit(s.t, s.namespace, "configmaps", "kubectl-mlflow", `{"data":{"inventory":"[{]"}}`)
			},
			args: install, code: 5, says: []string{"configmap/kubectl-mlflow"},
		},
		{
			name: "the record was edited by hand: uninstall",
			ready: func(s *scene) {
				s.run(0, "install")
				s.controller.Edit(s.t, s.namespace, "configmaps", "kubectl-mlflow", `{"data":{"inventory":"[{]"}}`)
			},
			args: []string{"uninstall", "--delete-data"}, code: 5, says: []string{"configmap/kubectl-mlflow"},
		},
		{
			name: "a service of that name was made by hand",
			ready: func(s *scene) {
				s.controller.Apply(s.t, s.namespace, "kubectl-client-side-apply", namespaceYAML+theirs(""))
			},
			args: install, code: 5, says: []string{"service/postgres", "kubectl-mlflow did not make"},
		},
		{
			name: "Helm keeps a service of that name",
			ready: func(s *scene) {
				s.controller.Apply(s.t, s.namespace, "helm", namespaceYAML+
					theirs("labels: {app.kubernetes.io/managed-by: Helm}, annotations: {meta.helm.sh/release-name: community-mlflow, meta.helm.sh/release-namespace: NAMESPACE}"))
			},
			args: install, code: 5, says: []string{"service/postgres", "Helm", "community-mlflow"},
		},
		{
			name: "Argo CD keeps a service of that name",
			ready: func(s *scene) {
				s.controller.Apply(s.t, s.namespace, "argocd-controller", namespaceYAML+
					theirs(`annotations: {argocd.argoproj.io/tracking-id: "ml-platform:/Service:NAMESPACE/postgres"}`))
			},
			args: install, code: 5, says: []string{"service/postgres", "Argo CD", "ml-platform", "export"},
		},
		{
			name: "Flux keeps a service of that name",
			ready: func(s *scene) {
				s.controller.Apply(s.t, s.namespace, "kustomize-controller", namespaceYAML+
					theirs("labels: {kustomize.toolkit.fluxcd.io/name: ml-platform, kustomize.toolkit.fluxcd.io/namespace: flux-system}"))
			},
			args: install, code: 5, says: []string{"service/postgres", "Flux", "flux-system/ml-platform", "export"},
		},
		{
			name: "Argo CD has taken over what install made: upgrade",
			ready: func(s *scene) {
				s.run(0, "install", "--image", older)
				s.controller.Edit(s.t, s.namespace, "deployments.v1.apps", "mlflow",
					`{"metadata":{"annotations":{"argocd.argoproj.io/tracking-id":"ml-platform:apps/Deployment:x/mlflow"}}}`)
			},
			args: []string{"upgrade"}, code: 5, says: []string{"deployment.apps/mlflow", "Argo CD", "ml-platform"},
		},
		{
			name: "Argo CD has taken over what install made: uninstall",
			ready: func(s *scene) {
				s.run(0, "install")
				s.controller.Edit(s.t, s.namespace, "deployments.v1.apps", "mlflow",
					`{"metadata":{"annotations":{"argocd.argoproj.io/tracking-id":"ml-platform:apps/Deployment:x/mlflow"}}}`)
			},
			args: []string{"uninstall"}, code: 5, says: []string{"deployment.apps/mlflow", "Argo CD", "ml-platform"},
		},
		{
			name: "no storage class is the default", ready: func(*scene) {},
			args: []string{"install", "--storage-class", ""}, code: 4, says: []string{"default storage class", "--storage-class", stage.controller.StorageClass},
		},
		{
			name: "the storage class is not there", ready: func(*scene) {},
			args: []string{"install", "--storage-class", "missing"}, code: 2, says: []string{`"missing"`, stage.controller.StorageClass},
		},
		{
			name:  "another overlay",
			ready: func(s *scene) { s.run(0, "install") },
			args:  []string{"install", "--overlay", "gcp", "--artifacts-destination", "gs://bucket/prefix"}, code: 5, says: []string{"overlay"},
		},
		{
			name:  "install with another version",
			ready: func(s *scene) { s.run(0, "install", "--image", older) },
			args:  []string{"install", "--image", "ghcr.io/mlflow/mlflow:v3.17.2-full"}, code: 5, says: []string{"kubectl mlflow upgrade"},
		},
		{
			name:  "upgrade to an older version",
			ready: func(s *scene) { s.run(0, "install") },
			args:  []string{"upgrade", "--image", older}, code: 5, says: []string{"v3.16.1", "backup"},
		},
		{
			name: "another manager has set a field",
			ready: func(s *scene) {
				s.run(0, "install")
				s.controller.Apply(s.t, s.namespace, "somebody", memoryYAML)
			},
			args: install, code: 5,
			says: []string{"deployment.apps/mlflow", `.spec.template.spec.containers[name="mlflow"].resources.limits.memory`, `"somebody"`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := stage.scene(t)
			c.ready(s)
			s.untouched(c.code, c.says, c.args...)
		})
	}
}

// theirs is a Service with a name of ours; metadata is more of it.
func theirs(metadata string) string {
	if metadata != "" {
		metadata = ", " + metadata
	}
	return "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: postgres" + metadata + "}\nspec: {selector: {app: theirs}, ports: [{port: 5432}]}"
}

// memoryYAML sets a field that install sets too.
const memoryYAML = `apiVersion: apps/v1
kind: Deployment
metadata: {name: mlflow}
spec: {template: {spec: {containers: [{name: mlflow, resources: {limits: {memory: 3Gi}}}]}}}`

// webhookYAML is a webhook that says of each object of a resource whether it is let in, and why not.
func webhookYAML(t *testing.T, resource string, says func() (allowed bool, message string)) string {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Request struct {
				UID string `json:"uid"`
			} `json:"request"`
		}
		text, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(text, &review)
		}
		if err != nil {
			t.Errorf("what the API server asks: %v", err)
		}
		allowed, message := says()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
			"response": map[string]any{"uid": review.Request.UID, "allowed": allowed, "status": map[string]any{"message": message, "code": 403}},
		})
	}))
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: NAMESPACE}
webhooks:
- name: thursdays.example.com
  clientConfig: {url: %q, caBundle: %s}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}}
  rules: [{operations: ["*"], apiGroups: ["*"], apiVersions: ["*"], resources: [%s]}]
  sideEffects: None
  admissionReviewVersions: [v1]`, server.URL, base64.StdEncoding.EncodeToString(ca), resource)
}
