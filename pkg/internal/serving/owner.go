package serving

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// Peer is the Python plugin mlflow-knative, by the value that it gives cluster.ManagedByLabel.
const Peer = "mlflow-knative"

// peerModel is the name that the models of Peer's images answer to, where their Service does not say otherwise.
const peerModel = "mlflow-model"

// owned is failure.Refused where service is not ours to write: made by somebody else, or kept by a tool that would put
// its own version back and from which it was not adopted.
func owned(service *unstructured.Unstructured) error {
	if maker := metav1.GetControllerOf(service); maker != nil {
		return foreign(service, fmt.Sprintf("is made from %s %s, whose controller would put its own version back at once", maker.Kind, maker.Name), fmt.Sprintf(
			"choose another name, or delete what it is made from, and it with that: kubectl delete %s %s --namespace %s", strings.ToLower(maker.Kind), maker.Name, service.GetNamespace()))
	}
	adopt := fmt.Sprintf("take it over: kubectl mlflow deploy %s MODEL_URI --adopt", service.GetName())
	if keeper, ok := cluster.KeptBy(service); ok {
		if service.GetAnnotations()[adoptedKey] == keeper.Tool && service.GetLabels()[cluster.ManagedByLabel] == cluster.FieldManager {
			return nil
		}
		hint := "change it in the repository that " + keeper.Tool + " reads, or "
		if keeper.Tool == cluster.Helm {
			hint = "change it through its Helm release, or "
		}
		return foreign(service, "is kept by "+keeper.Tool, hint+adopt)
	}
	switch by := service.GetLabels()[cluster.ManagedByLabel]; by {
	case cluster.FieldManager:
		return nil
	case "":
		return foreign(service, "was not made by kubectl mlflow", "choose another name, or "+adopt)
	default:
		return foreign(service, "is managed by "+by, "choose another name, or "+adopt)
	}
}

// adoptable tells whether service can be taken over: not from a controller, which gives nothing away.
func adoptable(service *unstructured.Unstructured) bool {
	return metav1.GetControllerOf(service) == nil
}

// deletable is failure.Refused where service is neither ours nor Peer's to delete.
func deletable(service *unstructured.Unstructured) error {
	_, kept := cluster.KeptBy(service)
	if service.GetLabels()[cluster.ManagedByLabel] == Peer && !kept {
		return nil
	}
	err := owned(service)
	if f, ok := errors.AsType[*failure.Error](err); ok {
		f.Hint = "delete it with what made it"
	}
	return err
}

func foreign(service *unstructured.Unstructured, why, hint string) *failure.Error {
	return &failure.Error{
		Class: failure.Refused, Reason: "ForeignService", Object: cluster.RefOf(service).String(),
		Message: fmt.Sprintf("the Service in namespace %s %s", service.GetNamespace(), why), Hint: hint,
	}
}

// adopt takes from merged, a Service of somebody else that is about to be ours, what would keep our model server from running or tell
// lies of it: how to start and to probe another program, and Peer's settings of MLServer.
func adopt(merged *unstructured.Unstructured) error {
	if keeper, ok := cluster.KeptBy(merged); ok {
		if err := unstructured.SetNestedField(merged.Object, keeper.Tool, "metadata", "annotations", adoptedKey); err != nil {
			return fmt.Errorf("adopt %s: %w", cluster.RefOf(merged), err)
		}
	}
	container := modelOf(merged.Object)
	drop(mapAt(merged.Object, "spec", "template", "metadata", "annotations"), "client.knative.dev/user-image") // kn would show it
	drop(container, "command", "args", "workingDir", "livenessProbe", "startupProbe", "lifecycle")
	env, _ := container["env"].([]any)
	if merged.GetLabels()[cluster.ManagedByLabel] == Peer && len(env) > 0 {
		container["env"] = slices.DeleteFunc(env, func(v any) bool { return strings.HasPrefix(keyOf(v, "name"), "MLSERVER_") })
	}
	return nil
}

// modelName is what the model of a Service answers to beside its Service's name: "" is that.
func modelName(live *unstructured.Unstructured) string {
	if name := live.GetAnnotations()[modelNameKey]; name != "" || live.GetLabels()[cluster.ManagedByLabel] != Peer {
		return name
	}
	env, _ := modelOf(live.Object)["env"].([]any)
	told, _ := withKey(env, map[string]any{"name": "MLSERVER_MODEL_NAME"}, "name")["value"].(string)
	return cmp.Or(told, peerModel)
}

// explain adds what only this room knows of a write's failure.
func explain(err error) error {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	switch {
	case !ok:
		return err
	case strings.Contains(status.ErrStatus.Message, "failed calling webhook"):
		return &failure.Error{
			Class: failure.Diagnosed, Reason: "WebhookDown", Message: "a webhook that must see the Service does not answer",
			Hint: "look at Knative's webhook: kubectl -n knative-serving get pods -l app=webhook", Err: err,
		}
	case strings.Contains(status.ErrStatus.Message, "must not set the field(s)"):
		return &failure.Error{
			Class: failure.Invalid, Reason: "FieldSwitchedOff", Message: "Knative does not take a field that the manifest sets",
			Hint: "leave it out, or have it switched on: kubectl -n knative-serving edit configmap config-features", Err: err,
		}
	}
	return err
}
