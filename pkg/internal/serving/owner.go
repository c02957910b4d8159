package serving

import (
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// Peer is the Python plugin mlflow-knative, by the value that it gives cluster.ManagedByLabel.
const Peer = "mlflow-knative"

// Owned is failure.Refused where service is not ours to write: made by somebody else, or kept by a tool that would put
// its own version back.
func Owned(service *unstructured.Unstructured) error {
	refused := &failure.Error{
		Class: failure.Refused, Reason: "ForeignService", Object: cluster.RefOf(service).String(),
		Hint: "choose another name, or delete that Service first",
	}
	if keeper, ok := cluster.KeptBy(service); ok {
		refused.Message = fmt.Sprintf("the Service in namespace %s is kept by %s", service.GetNamespace(), keeper.Tool)
		refused.Hint = "change it in the repository that " + keeper.Tool + " reads"
		if keeper.Tool == cluster.Helm {
			refused.Hint = "change it through its Helm release, or choose another name"
		}
		return refused
	}
	switch by := service.GetLabels()[cluster.ManagedByLabel]; by {
	case cluster.FieldManager:
		return nil
	case "":
		refused.Message = fmt.Sprintf("a Service of this name is in namespace %s, and was not made by kubectl mlflow", service.GetNamespace())
	default:
		refused.Message = fmt.Sprintf("the Service in namespace %s is managed by %s", service.GetNamespace(), by)
	}
	return refused
}

// explain adds what only this room knows of a write's failure.
func explain(err error) error {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !strings.Contains(status.ErrStatus.Message, "failed calling webhook") {
		return err
	}
	return &failure.Error{
		Class: failure.Diagnosed, Reason: "WebhookDown", Message: "a webhook that must see the Service does not answer",
		Hint: "look at Knative's webhook: kubectl -n knative-serving get pods -l app=webhook", Err: err,
	}
}
