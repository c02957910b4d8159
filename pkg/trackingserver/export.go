package trackingserver

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Export writes what p renders into dir, as plain kustomize, and returns the path that `kubectl apply -k` takes. It needs no cluster:
// p has to be whole. What an earlier export wrote is replaced; failure.Refused where dir holds something else. Passwords are in
// Secrets, which are named and not written.
func (c *Client) Export(p Parameters, dir string) (overlay string, err error) {
	tree, err := c.tree(p)
	if err != nil {
		return "", err
	}
	objs, err := build(tree)
	if err != nil {
		return "", err
	}
	for _, obj := range objs {
		if obj.GetKind() == "Job" && stageOf(obj) == migration {
			// The tree has the name without the hash, and only a program can tell the hash.
			name := obj.GetName()[:strings.LastIndex(obj.GetName(), "-")]
			if err := tree.Rename("Job", name, obj.GetName()); err != nil {
				return "", err
			}
		}
	}
	if err := tree.Adopt("gitops"); err != nil {
		return "", err
	}
	return tree.Export(dir, map[string]string{"README.md": readme(p, objs)})
}

func readme(p Parameters, objs []*unstructured.Unstructured) string {
	namespace := cmp.Or(p.Namespace, DefaultNamespace)
	var secrets strings.Builder
	wanted := secretsOf(objs)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		fmt.Fprintf(&secrets, "%s\n", wanted[name].howToMake(name, namespace))
	}
	return fmt.Sprintf(`# MLflow on Kubernetes

Written by kubectl mlflow export; another export into this directory replaces it. What is of your own beside it stays.
The overlay is %[1]s, the namespace %[2]s.

    kubectl apply -k overlays/%[1]s

The server waits for the migration, and the migration for the database: the order of an apply does not matter.

## Secrets

They are named here and not written. `+"`kubectl mlflow install --secrets-only`"+` with the flags of the export makes those that it can
make, once for all time. By hand, in the namespace, with a file for each value and no line break at its end:

%[3]s
DB_PASSWORD becomes part of a URI: letters and digits do. The user of MLFLOW_AUTH_ADMIN_PASSWORD is admin. The passphrase protects
what MLflow keeps secret; with another one that cannot be read again.

## Argo CD

An Application with the path overlays/%[1]s. The migration is a hook of the sync, in a wave between database and server.

## Flux

A Kustomization with the path ./overlays/%[1]s and wait: true.

Neither deletes the namespace or a volume: they stay when the Application or the Kustomization goes.

## Changes

Export again, with other flags. Who edits the files gives the migration Job another name with it, in overlays/%[1]s: it is named after
what it does, and a Job cannot be changed. Back up the database before another version is applied: there is no way back from a
migration but a backup.
`, p.overlay(), namespace, secrets.String())
}

// namedSecret is what objects want of a Secret.
type namedSecret struct {
	keys []string
	kind string // as in kubectl create secret KIND
}

func (s namedSecret) howToMake(name, namespace string) string {
	line := fmt.Sprintf("    kubectl create secret %s %s --namespace %s", s.kind, name, namespace)
	switch s.kind {
	case "tls":
		line += " --cert=FILE --key=FILE"
	case "docker-registry":
		line += " --from-file=.dockerconfigjson=FILE"
	}
	for _, key := range s.keys {
		line += fmt.Sprintf(" --from-file=%s=FILE", key)
	}
	return line
}

// secretsOf are the Secrets that objs read, by name.
func secretsOf(objs []*unstructured.Unstructured) map[string]namedSecret {
	found := map[string]namedSecret{}
	add := func(name, kind, key string) {
		secret := found[name]
		secret.kind = kind
		if key != "" && !slices.Contains(secret.keys, key) {
			secret.keys = append(secret.keys, key)
			slices.Sort(secret.keys)
		}
		found[name] = secret
	}
	var walk func(field string, value any)
	walk = func(field string, value any) {
		switch value := value.(type) {
		case []any:
			for _, item := range value {
				walk(field, item)
			}
		case map[string]any:
			name, _ := value["name"].(string)
			key, _ := value["key"].(string)
			volume, _ := value["secretName"].(string)
			switch {
			case slices.Contains([]string{"secretKeyRef", "username", "password"}, field) && name != "":
				add(name, "generic", key)
			case field == "imagePullSecrets":
				add(name, "docker-registry", "")
			case field == "tls":
				add(volume, "tls", "")
			case field == "secret":
				add(volume, "generic", keyGoogleKey)
			}
			for field, value := range value {
				walk(field, value)
			}
		}
	}
	for _, obj := range objs {
		walk("", obj.Object)
	}
	return found
}
