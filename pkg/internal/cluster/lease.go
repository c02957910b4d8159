package cluster

import (
	"cmp"
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// What a Lease's fields have no room for is in annotations.
const (
	operationKey = "mlflow.kubectl/operation"
	sinceKey     = "mlflow.kubectl/since" // by the holder's clock, for people
	processKey   = "mlflow.kubectl/process"
)

func leaseKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}
}

// holder is who has a Lease.
type holder struct {
	id               string // "" is nobody
	renewed          string // as it is written: it is compared with itself only
	duration         time.Duration
	operation, since string
	process          process
}

func holderOf(lease *unstructured.Unstructured) holder {
	id, _, _ := unstructured.NestedString(lease.Object, "spec", "holderIdentity")
	renewed, _, _ := unstructured.NestedString(lease.Object, "spec", "renewTime")
	seconds, _, _ := unstructured.NestedInt64(lease.Object, "spec", "leaseDurationSeconds")
	notes := lease.GetAnnotations()
	return holder{
		id: id, renewed: renewed, duration: time.Duration(seconds) * time.Second,
		operation: notes[operationKey], since: notes[sinceKey], process: readProcess(notes[processKey]),
	}
}

// describe is for people: "install on laptop/4711/X3B7, since 2026-01-02T15:04:05Z".
func (h holder) describe() string {
	text := cmp.Or(h.operation, "somebody") + " on " + h.id
	if h.since != "" {
		text += ", since " + h.since
	}
	return text
}

// Holder says who has the lock of Lock, and for what: "install on laptop/4711/X3B7, since 2026-01-02T15:04:05Z"; "" is nobody. It
// may have died a moment ago.
func (c *Client) Holder(ctx context.Context, namespace, name string) (string, error) {
	lease, err := c.Get(ctx, Ref{GroupVersionKind: leaseKind(), Namespace: namespace, Name: name})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if h := holderOf(lease); h.id != "" {
		return h.describe(), nil
	}
	return "", nil
}

// fill is the Lease as we hold it from now on; live is the one that is there, or nil.
func (l *lock) fill(live *unstructured.Unstructured) *unstructured.Unstructured {
	now := time.Now()
	lease := &unstructured.Unstructured{Object: map[string]any{}}
	if live != nil {
		lease = live.DeepCopy()
	}
	lease.SetGroupVersionKind(l.ref.GroupVersionKind)
	lease.SetNamespace(l.ref.Namespace)
	lease.SetName(l.ref.Name)
	lease.SetLabels(with(lease.GetLabels(), map[string]string{ManagedByLabel: FieldManager}))

	before, _, _ := unstructured.NestedMap(lease.Object, "spec")
	spec := map[string]any{
		"holderIdentity":       l.id,
		"leaseDurationSeconds": int64(l.duration / time.Second),
		"acquireTime":          before["acquireTime"],
		"renewTime":            now.UTC().Format(metav1.RFC3339Micro),
		"leaseTransitions":     before["leaseTransitions"],
	}
	if before["holderIdentity"] != l.id {
		transitions, _ := before["leaseTransitions"].(int64)
		if live != nil {
			transitions++
		}
		spec["acquireTime"], spec["leaseTransitions"] = spec["renewTime"], transitions
		lease.SetAnnotations(with(lease.GetAnnotations(), map[string]string{
			operationKey: l.operation, sinceKey: now.UTC().Format(time.RFC3339), processKey: thisProcess().String(),
		}))
	}
	lease.Object["spec"] = spec
	return lease
}

// held is the refusal that names the holder.
func (l *lock) held(lease *unstructured.Unstructured) error {
	return &failure.Error{
		Class: failure.Refused, Reason: "LockHeld", Object: l.ref.String(),
		Message: "another run is at work here: " + holderOf(lease).describe(),
		Hint:    fmt.Sprintf("wait until it is done; if it hangs: kubectl delete lease %s --namespace %s, which stops it", l.ref.Name, l.ref.Namespace),
	}
}
