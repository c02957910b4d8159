package complete

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// flags are the values of flags, by name.
func (k *Completer) flags() map[string]values {
	return map[string]values{
		"context":   k.contexts,
		"cluster":   k.clusters,
		"user":      k.users,
		"namespace": k.namespaces,
		"target":    k.targets,
		"name":      k.deployments,
		"model-uri": k.modelURIs,

		"overlay":        overlays,
		"identity":       oneOf(trackingserver.GoogleIdentities()...),
		"cloudsql-proxy": oneOf("deployment", "sidecar"),
		"dry-run":        oneOf("none", "client", "server"),
		"output":         oneOf("json", "yaml"),
		"builder":        oneOf("auto", "uv", "docker"),
		"model-server":   oneOf("auto", "mlflow", "mlserver"),
		"platform":       oneOf("linux/amd64", "linux/arm64"),
		"torch-backend":  oneOf("none", "cpu", "cu126", "cu128"),
		"via":            oneOf(deployments.ViaGateway, deployments.ViaURL),
	}
}

// oneOf is a flag with a fixed set of values.
func oneOf(list ...string) values {
	return func(context.Context, *cobra.Command, string) []string { return slices.Clone(list) }
}

// overlays are those of an install; those that need Google Cloud where that is prepared.
func overlays(_ context.Context, c *cobra.Command, _ string) []string {
	all := trackingserver.Overlays()
	if c.HasParent() && c.Parent().Name() == "gcp" {
		return slices.DeleteFunc(all, func(name string) bool { return name == trackingserver.DefaultOverlay })
	}
	return all
}

// isPath tells the flags that take the name of a file or a directory: shells complete those themselves.
func isPath(flag string) bool {
	return strings.HasSuffix(flag, "-file") || slices.Contains([]string{"kubeconfig", "cache-dir", "certificate-authority", "client-certificate", "client-key", "filename", "kustomize", "service-template"}, flag)
}
