package cluster

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The labels and annotations of KEP-3659. Tools that know them leave another tool's set alone.
const (
	applySetID         = "applyset.kubernetes.io/id"
	applySetPartOf     = "applyset.kubernetes.io/part-of"
	applySetTooling    = "applyset.kubernetes.io/tooling"
	applySetKinds      = "applyset.kubernetes.io/contains-group-kinds"
	applySetNamespaces = "applyset.kubernetes.io/additional-namespaces"
)

// ApplySetID is the identity of the set whose parent is the object with this name, namespace, kind and group.
func ApplySetID(name, namespace, kind, group string) string {
	hash := sha256.Sum256([]byte(strings.Join([]string{name, namespace, kind, group}, ".")))
	return "applyset-" + base64.RawURLEncoding.EncodeToString(hash[:]) + "-v1" // a label's value begins and ends with a letter or digit
}

// JoinApplySet makes obj a member of the set.
func JoinApplySet(obj *unstructured.Unstructured, id string) {
	obj.SetLabels(with(obj.GetLabels(), map[string]string{applySetPartOf: id}))
}

// MarkApplySet makes parent the parent of a set with these members, kept by tooling, "NAME/VERSION". Before an apply that is
// the old members and the new ones, so that none is forgotten when it breaks off.
func MarkApplySet(parent *unstructured.Unstructured, tooling string, members []Ref) {
	kinds, namespaces := map[string]bool{}, map[string]bool{}
	for _, r := range members {
		kinds[r.GroupKind().String()] = true
		if r.Namespace != "" && r.Namespace != parent.GetNamespace() {
			namespaces[r.Namespace] = true
		}
	}
	r := RefOf(parent)
	parent.SetLabels(with(parent.GetLabels(), map[string]string{applySetID: ApplySetID(r.Name, r.Namespace, r.Kind, r.Group)}))
	parent.SetAnnotations(with(parent.GetAnnotations(), map[string]string{
		applySetTooling:    tooling,
		applySetKinds:      commas(kinds),
		applySetNamespaces: commas(namespaces),
	}))
}

func with(m, more map[string]string) map[string]string {
	if m == nil {
		return more
	}
	maps.Copy(m, more)
	return m
}

func commas(set map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(set)), ",") }
