package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// explain turns what a call met into what a person can act on. NotFound, AlreadyExists and a stale resourceVersion stay
// recognisable by apierrors' functions; the end of ctx by errors.Is.
func (c *Client) explain(ctx context.Context, err error, verb string, r Ref) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", r, context.Cause(ctx))
	}
	if explained, ok := errors.AsType[*failure.Error](err); ok { // by a call below: it knows what was at fault, which need not be r
		return explained
	}
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		return explainStatus(err, status.ErrStatus, verb, r)
	}
	if _, ok := errors.AsType[*url.Error](err); ok || transient(err, true) {
		return c.unreachable(err)
	}
	return fmt.Errorf("%s: %w", r, err)
}

func explainStatus(err error, s metav1.Status, verb string, r Ref) error {
	f := &failure.Error{Object: r.String(), Err: err}
	switch {
	case s.Code == http.StatusUnauthorized:
		f.Class, f.Reason, f.Object = failure.Forbidden, "Unauthorized", ""
		f.Message = "the cluster does not accept the kubeconfig's credentials"
		f.Hint = "log in again, or choose another context with --context"
	case s.Code == http.StatusForbidden && terminating(s):
		f.Class, f.Reason = failure.Refused, "NamespaceTerminating"
		f.Message = fmt.Sprintf("namespace %s is being deleted", r.Namespace)
		f.Hint = fmt.Sprintf("wait until it is gone: kubectl wait --for=delete namespace/%s", r.Namespace)
	case s.Code == http.StatusForbidden && writes(verb) && !strings.Contains(s.Message, "cannot "+verb): // admission says 403 too
		f.Class, f.Reason = failure.Refused, "AdmissionRefused"
		f.Message = "the cluster's admission refuses it"
		f.Hint = "the message names the quota or the policy"
	case s.Code == http.StatusForbidden:
		return forbidden(err, s, verb, r)
	case s.Code == http.StatusConflict && hasCause(s, metav1.CauseTypeFieldManagerConflict):
		return fieldConflict(err, s, r)
	case s.Code == http.StatusConflict && s.Reason == metav1.StatusReasonConflict:
		f.Class, f.Reason = failure.Refused, "Conflict"
		f.Message = "somebody else changed it at the same time"
		f.Hint = "run the command again"
	case s.Code == http.StatusUnprocessableEntity && immutable(s):
		return immutableField(err, s, r)
	case s.Code == http.StatusUnprocessableEntity, s.Code == http.StatusBadRequest, strings.Contains(s.Message, "field not declared in schema"):
		f.Class, f.Reason = failure.Invalid, "ObjectInvalid"
		f.Message = "the cluster does not accept the object"
	case s.Code == http.StatusNotFound && s.Details != nil && s.Details.Kind == "namespaces" && r.Kind != "Namespace":
		f.Class, f.Reason = failure.Invalid, "NamespaceNotFound"
		f.Message = fmt.Sprintf("namespace %s does not exist", s.Details.Name)
		f.Hint = fmt.Sprintf("kubectl create namespace %s", s.Details.Name)
	default:
		return fmt.Errorf("%s %s: %w", verb, r, err)
	}
	return f
}

// forbidden names the verb and the resource as RBAC writes them.
func forbidden(err error, s metav1.Status, verb string, r Ref) error {
	what := strings.ToLower(r.Kind)
	if s.Details != nil && s.Details.Kind != "" {
		what = s.Details.Kind
	}
	if r.Group != "" {
		what += "." + r.Group
	}
	where, flag := "in all namespaces", "--all-namespaces"
	if r.Namespace != "" {
		where, flag = "in namespace "+r.Namespace, "--namespace "+r.Namespace
	}
	return &failure.Error{
		Class: failure.Forbidden, Reason: "Forbidden", Object: r.String(),
		Message: fmt.Sprintf("you may not %s %s %s", verb, what, where),
		Hint:    fmt.Sprintf("ask for a role that allows it; check with: kubectl auth can-i %s %s %s", verb, what, flag),
		Err:     err,
	}
}

// fieldConflict names each field and who manages it. The API server puts the manager in the cause's message:
// `conflict with "kubectl-scale" with subresource "scale" using apps/v1`.
func fieldConflict(err error, s metav1.Status, r Ref) error {
	var fields []string
	for _, cause := range s.Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			fields = append(fields, fmt.Sprintf("%s (%s)", cause.Field, cause.Message))
		}
	}
	flag := ""
	if r.Namespace != "" {
		flag = " --namespace " + r.Namespace
	}
	return &failure.Error{
		Class: failure.Refused, Reason: "FieldConflict", Object: r.String(),
		Message:  "another manager has set " + strings.Join(fields, ", "),
		Hint:     fmt.Sprintf("undo that change and run again, or take the field with --force-conflicts; who did what: kubectl get %s%s --show-managed-fields -o yaml", r, flag),
		Evidence: fields,
		Err:      &reworded{text: "apply refused", err: err},
	}
}

// reworded keeps an error in the chain where the message says most of its text already.
type reworded struct {
	text string
	err  error
}

func (r *reworded) Error() string { return r.text }
func (r *reworded) Unwrap() error { return r.err }

// hopeless tells that it is not this call alone that fails: no cluster, or nobody that it knows.
func hopeless(err error) bool {
	f, ok := errors.AsType[*failure.Error](err)
	return ok && slices.Contains([]string{
		"ClusterUnreachable", "CredentialsUnavailable", "Unauthorized", "KubeconfigInvalid", "UnknownContext", "NoKubeconfig",
	}, f.Reason)
}

func hasCause(s metav1.Status, t metav1.CauseType) bool {
	return s.Details != nil && slices.ContainsFunc(s.Details.Causes, func(c metav1.StatusCause) bool { return c.Type == t })
}

// writes tells the verbs that pass admission, which is asked after RBAC.
func writes(verb string) bool {
	return slices.Contains([]string{"create", "update", "patch", "delete"}, verb)
}

func terminating(s metav1.Status) bool {
	return hasCause(s, "NamespaceTerminating") || strings.Contains(s.Message, "because it is being terminated")
}

// unreachable is the one failure of a connection that does not come about.
func (c *Client) unreachable(err error) error {
	f := &failure.Error{
		Class: failure.Diagnosed, Reason: "ClusterUnreachable",
		Hint: "is the cluster running? try: kubectl cluster-info; another one: --context or KUBECONFIG",
		Err:  err,
	}
	server := "the API server"
	c.mu.Lock()
	if c.conn != nil {
		server += " " + c.conn.config.Host
		if name := c.contextOf(c.conn.config); name != "" {
			server += fmt.Sprintf(" (context %q)", name)
		}
	}
	c.mu.Unlock()
	f.Message = server + " cannot be reached"
	if e, ok := errors.AsType[*url.Error](err); ok {
		f.Err = &reworded{text: e.Err.Error(), err: err} // without `Get "https://…": `
	}
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case unknown || name || invalid:
		f.Hint = "its certificate does not fit the kubeconfig's certificate-authority-data: fetch the kubeconfig anew, and check the machine's clock"
	case strings.Contains(err.Error(), "getting credentials:"):
		f.Class, f.Reason = failure.Forbidden, "CredentialsUnavailable"
		f.Message = "the kubeconfig's credential plugin gives no credentials for " + server
		f.Hint = "run that plugin, or log in with your cloud's tool, and try again"
	}
	return f
}

// explainConfig explains a kubeconfig that leads nowhere.
func (c *Client) explainConfig(err error) error {
	f := &failure.Error{
		Class: failure.Invalid, Reason: "KubeconfigInvalid", Message: "the kubeconfig cannot be used", Err: err,
		Hint: "check it with: kubectl config view",
	}
	raw, rawErr := c.getter.ToRawKubeConfigLoader().RawConfig()
	switch {
	case rawErr != nil: // the file itself cannot be read: err says why
	case clientcmd.IsEmptyConfig(err), clientcmdapi.IsConfigEmpty(&raw) && !clientcmd.IsContextNotFound(err):
		return noKubeconfig()
	case clientcmd.IsContextNotFound(err) || strings.Contains(err.Error(), "does not exist"):
		f.Reason = "UnknownContext"
		f.Hint = "the kubeconfig has no contexts: set KUBECONFIG or --kubeconfig"
		if len(raw.Contexts) > 0 {
			f.Hint = "contexts there are: " + strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", ")
		}
	}
	return f
}

// checkFound refuses client-go's own default, http://localhost:8080, which stands for "no kubeconfig at all".
func (c *Client) checkFound(config *rest.Config) error {
	raw, err := c.getter.ToRawKubeConfigLoader().RawConfig()
	if err == nil && clientcmdapi.IsConfigEmpty(&raw) && strings.TrimSuffix(strings.TrimPrefix(config.Host, "http://"), "/") == "localhost:8080" {
		return noKubeconfig()
	}
	return nil
}

func noKubeconfig() error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "NoKubeconfig", Message: "no cluster is configured: there is no kubeconfig",
		Hint: "set KUBECONFIG or --kubeconfig, or log in with your cluster's tool, which writes ~/.kube/config",
	}
}

// contextOf is the context that leads to the server, where that is certain: the loader does not tell which it took.
func (c *Client) contextOf(config *rest.Config) string {
	raw, err := c.getter.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return ""
	}
	var names []string
	for name, context := range raw.Contexts {
		if cluster := raw.Clusters[context.Cluster]; cluster != nil && cluster.Server == config.Host {
			names = append(names, name)
		}
	}
	if len(names) == 1 {
		return names[0]
	}
	return ""
}
