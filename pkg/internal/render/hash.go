package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// hashLength in hex digits: enough for the specs of one object, short in a name of at most 63 characters.
const hashLength = 10

// HashName appends a hash of obj's spec to its name, for objects whose spec cannot be changed. kustomize's own hash will not
// do: it is taken before the names of ConfigMaps are final, so that a changed ConfigMap would leave the name as it was.
func HashName(obj *unstructured.Unstructured) error {
	spec, err := json.Marshal(obj.Object["spec"]) // keys sorted
	if err != nil {
		return fmt.Errorf("%s %s: %w", obj.GetKind(), obj.GetName(), err)
	}
	sum := sha256.Sum256(spec)
	obj.SetName(obj.GetName() + "-" + hex.EncodeToString(sum[:])[:hashLength])
	return nil
}
