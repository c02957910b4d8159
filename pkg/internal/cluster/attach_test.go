package cluster

import (
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestSendThatIsRefused(t *testing.T) {
	const attach = "/api/v1/namespaces/team/pods/p/attach"
	forbidden := refuse(403, metav1.StatusReasonForbidden, `pods "p" is forbidden: User "u" cannot create resource "pods/attach"`, nil)
	_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + attach: forbidden, "POST " + attach: forbidden})
	err := c.Send(t.Context(), Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, Namespace: "team", Name: "p"}, "main", strings.NewReader("x"))
	wantFailure(t, err, failure.Diagnosed, "AttachFailed", "pods/attach")
}
