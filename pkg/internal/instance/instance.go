// Package instance is the record of an MLflow that install put on a cluster: written by trackingserver, read by deployments.
package instance

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

const (
	// Name is the record's name in its namespace: there is one MLflow to a namespace.
	Name = "kubectl-mlflow"
	// tooling names us to other tools that know ApplySets, with the version of how we keep one.
	tooling = "kubectl-mlflow/v1"
	// Label is on every record, with the value "true".
	Label = "mlflow.kubectl/instance"
)

// Instance is kept in the ConfigMap that is also the inventory's parent.
type Instance struct {
	Namespace  string
	Overlay    string
	Image      string
	Schema     string            // alembic head
	Parameters map[string]string // as given at the last install, no secrets: upgrade starts from them
	HTTP       cluster.ServicePort
	AuthSecret string // Secret with the admin's credentials, or ""
	Replicas   int64  // of the server before an upgrade or a restore stopped it; 0 where none is under way
	Restoring  string // the backup that a restore under way is of, or ""
	Inventory  cluster.Inventory
}

// Running is failure.Invalid where uninstall has left the data and nothing to ask.
func (i *Instance) Running() error {
	if slices.ContainsFunc(i.Inventory.Items, func(item cluster.Change) bool { return item.Kind == "Service" }) {
		return nil
	}
	return &failure.Error{
		Class: failure.Invalid, Reason: "Uninstalled",
		Message: fmt.Sprintf("MLflow in namespace %s was uninstalled; its data is kept", i.Namespace),
		Hint:    "bring it back with: kubectl mlflow install",
	}
}

// The keys of the ConfigMap's data.
const (
	keyOverlay    = "overlay"
	keyImage      = "image"
	keySchema     = "schema"
	keyAuthSecret = "authSecret"
	keyReplicas   = "replicas"
	keyRestoring  = "restoring"
	keyParameters = "parameters" // JSON: object of strings
	keyHTTP       = "http"       // JSON: cluster.ServicePort
	keyInventory  = "inventory"  // JSON: array of item
)

// item is an object of the inventory as it is written.
type item struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Namespace  string    `json:"namespace,omitempty"`
	Name       string    `json:"name"`
	UID        types.UID `json:"uid,omitempty"`
}

// Save writes the record: before the first object is written (old and new items), and after each stage (UIDs).
// A record that says the same already is not written again.
func Save(ctx context.Context, c *cluster.Client, i Instance) error {
	obj, err := encode(i)
	if err != nil {
		return err
	}
	_, err = c.Apply(ctx, []*unstructured.Unstructured{obj}, false)
	return err
}

// Load reads the record of a namespace; it is nil where there is none. A record that cannot be read is failure.Refused:
// nothing may be deleted by it.
func Load(ctx context.Context, c *cluster.Client, namespace string) (*Instance, error) {
	obj, err := c.Get(ctx, ref(namespace))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decode(obj)
}

// Delete removes the record of a namespace. One that is not there is no error.
func Delete(ctx context.Context, c *cluster.Client, namespace string) error {
	obj, err := c.Get(ctx, ref(namespace))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := decode(obj); err != nil { // not ours
		return err
	}
	return c.Delete(ctx, ref(namespace), obj.GetUID())
}

func configMap() schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
}

func ref(namespace string) cluster.Ref {
	return cluster.Ref{GroupVersionKind: configMap(), Namespace: namespace, Name: Name}
}

func encode(i Instance) (*unstructured.Unstructured, error) {
	items := make([]item, 0, len(i.Inventory.Items))
	for _, it := range i.Inventory.Items {
		apiVersion, kind := it.ToAPIVersionAndKind()
		items = append(items, item{APIVersion: apiVersion, Kind: kind, Namespace: it.Namespace, Name: it.Name, UID: it.UID})
	}
	data := map[string]any{
		keyOverlay: i.Overlay, keyImage: i.Image, keySchema: i.Schema, keyAuthSecret: i.AuthSecret, keyReplicas: strconv.FormatInt(i.Replicas, 10),
	}
	if i.Restoring != "" {
		data[keyRestoring] = i.Restoring
	}
	for key, value := range map[string]any{keyParameters: i.Parameters, keyHTTP: i.HTTP, keyInventory: items} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("writing the record's %s: %w", key, err)
		}
		data[key] = string(text)
	}
	obj := &unstructured.Unstructured{Object: map[string]any{"data": data}}
	obj.SetGroupVersionKind(configMap())
	obj.SetNamespace(i.Namespace)
	obj.SetName(Name)
	obj.SetLabels(map[string]string{cluster.ManagedByLabel: cluster.FieldManager, Label: "true"})
	members := make([]cluster.Ref, 0, len(i.Inventory.Items))
	for _, it := range i.Inventory.Items {
		if it.Kind != "Namespace" && it.Kind != "Secret" { // these are made, not applied
			members = append(members, it.Ref)
		}
	}
	cluster.MarkApplySet(obj, tooling, members)
	return obj, nil
}

func decode(obj *unstructured.Unstructured) (*Instance, error) {
	if obj.GetLabels()[Label] != "true" {
		return nil, unreadable(obj, fmt.Errorf("it lacks the label %s=true", Label))
	}
	data, _, err := unstructured.NestedStringMap(obj.Object, "data")
	if err != nil {
		return nil, unreadable(obj, err)
	}
	i := &Instance{
		Namespace: obj.GetNamespace(), Overlay: data[keyOverlay], Image: data[keyImage],
		Schema: data[keySchema], AuthSecret: data[keyAuthSecret], Restoring: data[keyRestoring],
	}
	if text := data[keyReplicas]; text != "" { // records of before there were upgrades lack it
		if i.Replicas, err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, unreadable(obj, fmt.Errorf("its %s: %w", keyReplicas, err))
		}
	}
	var items []item
	for key, into := range map[string]any{keyParameters: &i.Parameters, keyHTTP: &i.HTTP, keyInventory: &items} {
		if err := json.Unmarshal([]byte(data[key]), into); err != nil {
			return nil, unreadable(obj, fmt.Errorf("its %s: %w", key, err))
		}
	}
	for n, it := range items {
		if it.APIVersion == "" || it.Kind == "" || it.Name == "" {
			return nil, unreadable(obj, fmt.Errorf("its %s: item %d lacks apiVersion, kind or name", keyInventory, n))
		}
		i.Inventory.Items = append(i.Inventory.Items, cluster.Change{
			Ref: cluster.Ref{GroupVersionKind: schema.FromAPIVersionAndKind(it.APIVersion, it.Kind), Namespace: it.Namespace, Name: it.Name},
			UID: it.UID,
		})
	}
	return i, nil
}

func unreadable(obj *unstructured.Unstructured, err error) error {
	return &failure.Error{
		Class: failure.Refused, Reason: "RecordUnreadable", Object: cluster.RefOf(obj).String(),
		Message: fmt.Sprintf("the record of the installation in namespace %s cannot be read", obj.GetNamespace()),
		Hint:    "it was edited or belongs to somebody else; restore it, or move it away",
		Err:     err,
	}
}
