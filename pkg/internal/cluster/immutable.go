package cluster

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// immutable tells whether the server rejects an object because of what it was before, and not because of what it is.
func immutable(s metav1.Status) bool {
	return containsAny(s.Message, "field is immutable", "spec is immutable", "updates to statefulset spec for fields other than",
		"field can not be less than status.capacity", "may not change once set")
}

// immutableField names the fields and, where there is one, the way that loses no data.
func immutableField(err error, s metav1.Status, r Ref) error {
	f := &failure.Error{
		Class: failure.Refused, Reason: "ImmutableField", Object: r.String(),
		Message: "the change touches a field that cannot be changed",
		Hint:    "undo the change, or delete the object yourself once its data is safe",
		Err:     err,
	}
	if fields, why := causes(s); len(fields) > 0 {
		f.Message = strings.Join(fields, ", ") + " cannot be changed"
		f.Err = &reworded{text: strings.Join(why, ", "), err: err}
	}
	object := r.String()
	if r.Namespace != "" {
		object += " --namespace " + r.Namespace
	}
	switch r.GroupKind().String() {
	case "Job.batch":
		f.Hint = "a Job is made anew: kubectl delete " + object + ", and run again"
	case "StatefulSet.apps":
		f.Hint = "its pods and claims stay when it is made anew: kubectl delete " + object + " --cascade=orphan, and run again"
	case "PersistentVolumeClaim":
		f.Hint = "a claim keeps its class and access modes, and its size can only grow: undo the change, or back up, uninstall with --delete-data and restore"
	}
	return f
}

// causes returns the fields that are at fault, and what is wrong. The server's own text holds the old or the new value too.
func causes(s metav1.Status) (fields, why []string) {
	if s.Details == nil {
		return nil, nil
	}
	for _, cause := range s.Details.Causes {
		if cause.Field == "" {
			continue
		}
		text, _, _ := strings.Cut(cause.Message, "\n")
		if i := strings.LastIndex(text, ": "); i >= 0 { // "Invalid value: {…}: field is immutable", "Forbidden: spec is immutable after …"
			text = text[i+2:]
		}
		fields = append(fields, cause.Field)
		if !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	return fields, why
}
