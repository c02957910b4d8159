//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestModelFaultsAreTold brings a new version that cannot come up, for one reason after the other, beside one that serves: the reason is
// told long before Knative gives up, and what served goes on.
func TestModelFaultsAreTold(t *testing.T) {
	l := openLab(t)
	m := &models{installed: l.namespace(t, "e2e-modelfaults"), directory: t.TempDir()}
	m.create(t)
	m.kubectl(t, "label", "namespace", m.namespace, "pod-security.kubernetes.io/enforce-") // it would not take the sidecars
	m.train(t)
	m.deploy(t, "1")
	m.kubectl(t, "create", "secret", "docker-registry", "wrong", "--docker-server=127.0.0.1:5056", "--docker-username=nobody", "--docker-password=none")
	m.pushForeign(t, "foreign/sidecar", "1")
	defer m.closedRegistry(t, "127.0.0.1:5056")()
	for _, f := range m.faults(t) {
		t.Run(f.name, func(t *testing.T) {
			began := time.Now()
			met := m.tells(t, f.fault, filepath.Join(m.root, "bin/kubectl-mlflow"), m.deployment(f.version, f.flags...)...)
			took := met.ended.Sub(began)
			if took > f.told {
				t.Errorf("it was told after %s, want %s", took, f.told)
			}
			m.serves(t, "1")
			t.Logf("| %s | %.1f s | %d |", f.name, took.Seconds(), f.code)
		})
	}
	m.lab.refused(t, nil, m.deployment("2", "--platform", "linux/arm64"), 2, []string{"linux/arm64", "hint:"})
}

// modelFault is one thing that goes wrong with a version.
type modelFault struct {
	fault

	version string
}

// faults are in the order of a deployment's life: a template is what the next one stands on.
func (m *models) faults(t *testing.T) []modelFault {
	t.Helper()
	sidecar := func(image string) string {
		return write(t, "service.yaml", fmt.Sprintf("apiVersion: serving.knative.dev/v1\nkind: Service\nspec: {template: {spec: {containers: [{image: $image}, {name: sidecar, image: %q}]}}}\n", image))
	}
	const none, code, told = "", 4, 30 * time.Second // none is a template that the next one does not stand on
	return []modelFault{
		{fault{name: "missing package", code: code, told: told, says: []string{"tabulator_that_nobody_required", "hint:"}, seen: `"terminated":`}, "missing"},
		{fault{name: "load failure", code: code, told: told, says: []string{"BadZipFile", "hint:"}, seen: `"terminated":`}, "corrupt"},
		{fault{
			name: "out of memory", flags: []string{"--limits", "memory=100Mi", "--requests", "memory=50Mi"},
			code: code, told: told, says: []string{"(100Mi)", "hint: raise the container's memory limit"}, seen: "OOMKilled",
		}, "2"},
		{fault{
			name: "image with a password", flags: []string{"--limits", "memory=1Gi", "--pull-secret", "wrong", "--service-template", sidecar("127.0.0.1:5056/sidecar@sha256:" + strings.Repeat("0", 64))},
			code: code, told: told, says: []string{"127.0.0.1:5056/sidecar@", "hint: let the cluster pull it"}, seen: "ErrImagePull",
		}, "2"},
		{fault{
			name: "image of another platform", flags: []string{"--service-template", sidecar(m.Registry + "/foreign/sidecar:1")},
			code: code, told: told, says: []string{"/foreign/sidecar@", "no match for platform", "hint: build the image for the nodes' platform"}, seen: "ErrImagePull",
		}, "3"},
		{fault{
			name: "image that Knative does not find", flags: []string{"--service-template", sidecar(m.Registry + "/none/sidecar:1")},
			code: code, told: told, says: []string{"ContainerMissing: Unable to fetch image", "/none/sidecar:1"}, seen: "ContainerMissing",
		}, "2"},
		{fault{
			name: "a Secret that is not there", flags: []string{"--service-template", none, "--env-from", "secret/gone"},
			code: code, told: told, says: []string{`secret "gone" not found`, "hint: create the Secret"}, seen: "CreateContainerConfigError",
		}, "2"},
	}
}
