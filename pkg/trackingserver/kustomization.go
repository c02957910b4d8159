package trackingserver

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
)

// kustomizationKey is where the record keeps the user's kustomization: JSON, an object of texts by path.
const kustomizationKey = "KUSTOMIZATION"

// ReadKustomization reads a kustomization directory of the user's, for Parameters.Kustomization: what it names and no more, and
// nothing outside of dir. What would be fetched from the network or be run is failure.Invalid.
func ReadKustomization(dir string) (map[string]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &failure.Error{
			Class: failure.Invalid, Reason: "Kustomization", Object: dir, Message: "it is no directory that can be read",
			Hint: "name a directory with a kustomization.yaml in it", Err: err,
		}
	}
	defer func() { _ = root.Close() }()
	files, err := render.ReadUser(root.FS())
	if failed, ok := errors.AsType[*failure.Error](err); ok {
		failed.Object = filepath.Join(dir, failed.Object)
	}
	return files, err
}

// noSecrets is failure.Invalid where a Secret is among objs: they are shown and recorded. Only a kustomization of the user's can bring one.
func noSecrets(objs []*unstructured.Unstructured) error {
	for _, obj := range objs {
		if obj.GetKind() == "Secret" && obj.GroupVersionKind().Group == "" {
			return &failure.Error{
				Class: failure.Invalid, Reason: "SecretInKustomization", Object: "secret/" + obj.GetName(),
				Message: "your kustomization has a Secret in it, and what is rendered is shown and recorded for all to read",
				Hint:    "make it with `kubectl create secret generic NAME`, and only name it in the kustomization",
			}
		}
	}
	return nil
}

func encodeKustomization(files map[string]string) string {
	text, err := json.Marshal(files)
	if err != nil { // a map of strings always can be
		return ""
	}
	return string(text)
}

// decodeKustomization gives nil for what is no kustomization.
func decodeKustomization(recorded string) map[string]string {
	var files map[string]string
	if json.Unmarshal([]byte(recorded), &files) != nil {
		return nil
	}
	return files
}
