package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
)

// object is a Kubernetes object as YAML has it.
type object map[string]any

// parse splits a stream of YAML documents; empty ones are left out.
func parse(text []byte) ([]object, error) {
	var list []object
	for i, doc := range regexp.MustCompile(`(?m)^---.*$`).Split(string(text), -1) {
		var o object
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			return nil, fmt.Errorf("document %d: %w", i, err)
		}
		if len(o) > 0 {
			list = append(list, o)
		}
	}
	return list, nil
}

func render(list []object) ([]byte, error) {
	var out bytes.Buffer
	for _, o := range list {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, err
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	return out.Bytes(), nil
}

// field returns the object at a path below o, making what is missing.
func (o object) field(path ...string) object {
	at := map[string]any(o)
	for _, name := range path {
		next, ok := at[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	return at
}

func (o object) kind() string { return fmt.Sprint(o["kind"]) }
func (o object) name() string { return fmt.Sprint(o.field("metadata")["name"]) }

// tailor makes the original manifests fit a node with two cores and no load balancer, and says where Knative's names and
// gateway are. It returns what is to be applied.
func tailor(list []object) []object {
	var out []object
	for _, o := range list {
		switch o.kind() {
		case "HorizontalPodAutoscaler":
			// There are no metrics to scale by.
			continue
		case "Deployment", "StatefulSet", "DaemonSet":
			lowerRequests(o)
		case "StorageClass":
			o.field("metadata", "annotations")["storageclass.kubernetes.io/is-default-class"] = "true"
		case "ConfigMap":
			moveVolumes(o)
			for key, value := range settings()[o.name()] {
				o.field("data")[key] = value
			}
		}
		out = append(out, o)
	}
	return out
}

// webhooksLast orders objects so that none is sent to a webhook that does not run yet.
func webhooksLast(list []object) []object {
	isWebhook := func(o object) int {
		if strings.HasSuffix(o.kind(), "WebhookConfiguration") {
			return 1
		}
		return 0
	}
	return slices.SortedStableFunc(slices.Values(list), func(a, b object) int { return isWebhook(a) - isWebhook(b) })
}

// settings are what the lab says in Knative's ConfigMaps.
func settings() map[string]map[string]string {
	return map[string]map[string]string{
		"config-network":    {"ingress-class": "kourier.ingress.networking.knative.dev"},
		"config-domain":     {domain: ""},
		"config-autoscaler": {"scale-to-zero-grace-period": "10s"},
	}
}

// moveVolumes keeps volumes where the run's files are, instead of in the host's /opt.
func moveVolumes(configMap object) {
	if config, ok := configMap.field("data")["config.json"].(string); ok {
		configMap.field("data")["config.json"] = strings.ReplaceAll(config, "/opt/local-path-provisioner", "/var/lib/local-path-provisioner")
	}
}

// lowerRequests lets pods be scheduled that ask for more than they need: Knative's and Kourier's ask for a core together.
func lowerRequests(workload object) {
	containers, _ := workload.field("spec", "template", "spec")["containers"].([]any)
	for _, c := range containers {
		if container, ok := c.(map[string]any); ok {
			object(container).field("resources", "requests")["cpu"] = "20m"
		}
	}
}

// load reads manifests of the set, tailored.
func load(set artifacts.Set, names ...string) ([]object, error) {
	var all []object
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(set.Manifests, name))
		if err != nil {
			return nil, fmt.Errorf("manifests of the lab: %w", err)
		}
		list, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("manifests of the lab, %s: %w", name, err)
		}
		all = append(all, tailor(list)...)
	}
	return all, nil
}
