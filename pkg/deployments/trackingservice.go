package deployments

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
)

const (
	// mlflowPort is what MLflow listens on where nobody says otherwise.
	mlflowPort = 5000
	// mlflowLabel is the value of the labels "app" and "app.kubernetes.io/name" of an MLflow, whoever put it there.
	mlflowLabel = "mlflow"
)

// validateTrackingService tells what is wrong without asking a cluster.
func validateTrackingService(r Request) error {
	if r.TrackingService == "" {
		return nil
	}
	if r.TrackingURI != "" {
		return invalid("TwoTrackingServers", "a tracking URI"+r.given()+" and a tracking Service are given", "leave out --tracking-uri or --tracking-service: the model is read from one server")
	}
	_, err := parseTrackingService(r.TrackingService)
	return err
}

// parseTrackingService reads [NAMESPACE/]NAME[:PORT]. What is left out is empty.
func parseTrackingService(text string) (cluster.ServicePort, error) {
	wrong := func(why string) error {
		return invalid("TrackingServiceInvalid", fmt.Sprintf("tracking Service %q: %s", text, why), "write it as NAMESPACE/NAME or NAMESPACE/NAME:PORT, as in ml/mlflow:5000")
	}
	var to cluster.ServicePort
	rest := text
	if namespace, name, ok := strings.Cut(text, "/"); ok {
		if errs := validation.IsDNS1123Label(namespace); len(errs) > 0 {
			return to, wrong("its namespace: " + strings.Join(errs, "; "))
		}
		to.Namespace, rest = namespace, name
	}
	name, port, withPort := strings.Cut(rest, ":")
	if errs := validation.IsDNS1123Label(name); len(errs) > 0 {
		return to, wrong("its name: " + strings.Join(errs, "; "))
	}
	to.Service, to.Port = name, port
	if !withPort {
		return to, nil
	}
	if number, err := strconv.Atoi(port); err == nil {
		if errs := validation.IsValidPortNum(number); len(errs) > 0 {
			return to, wrong("its port: " + strings.Join(errs, "; "))
		}
		to.Port = strconv.Itoa(number)
		return to, nil
	}
	if errs := validation.IsDNS1123Label(port); len(errs) > 0 {
		return to, wrong("its port: " + strings.Join(errs, "; "))
	}
	return to, nil
}

// onCluster is the way to an MLflow on the cluster, the one named or the one to be found, and the installation that it belongs to. That
// is nil for a Service of somebody else, who is not to see an installation's password.
func (c *Client) onCluster(ctx context.Context, named string) (cluster.ServicePort, *instance.Instance, error) {
	namespace, _, err := c.namespace()
	if err != nil {
		return cluster.ServicePort{}, nil, err
	}
	if named == "" {
		found, err := c.find(ctx, namespace, "mlflow")
		if err == nil {
			err = found.Running()
		}
		if err != nil {
			return cluster.ServicePort{}, nil, err
		}
		return found.HTTP, found, nil
	}
	to, err := parseTrackingService(named)
	if err != nil {
		return to, nil, err
	}
	if to.Namespace == "" {
		to.Namespace = namespace
	}
	service, err := c.service(ctx, to.Namespace, to.Service)
	if apierrors.IsNotFound(err) {
		return to, nil, c.noService(ctx, to)
	}
	if err != nil {
		return to, nil, err
	}
	if to.Port, err = choosePort(service, to.Port); err != nil {
		return to, nil, err
	}
	of, err := c.owner(ctx, to)
	return to, of, err
}

// owner is the installation whose server to is, or nil. Who may not read its record could not read its password either, and a record
// that is broken is no reason not to ask a server that was named.
func (c *Client) owner(ctx context.Context, to cluster.ServicePort) (*instance.Instance, error) {
	of, err := c.record(ctx, to.Namespace)
	if class := failure.ClassOf(err); class == failure.Forbidden || class == failure.Refused {
		return nil, nil
	}
	if err != nil || of == nil || of.HTTP.Namespace != to.Namespace || of.HTTP.Service != to.Service || of.Running() != nil {
		return nil, err
	}
	return of, nil
}

// choosePort is the number of the port asked for, else of the Service's only one, else of the one that is MLflow's by name or number.
func choosePort(service *corev1.Service, asked string) (string, error) {
	ports := service.Spec.Ports
	with := func(number int32, name string) int {
		return slices.IndexFunc(ports, func(p corev1.ServicePort) bool { return p.Port == number || name != "" && p.Name == name })
	}
	var at int
	switch number, err := strconv.ParseInt(asked, 10, 32); {
	case err == nil:
		at = with(int32(number), "")
	case asked != "":
		at = with(0, asked)
	case len(ports) != 1:
		if at = with(0, "http"); at < 0 {
			at = with(mlflowPort, "")
		}
	}
	if at >= 0 {
		return strconv.Itoa(int(ports[at].Port)), nil
	}
	there := make([]string, 0, len(ports))
	for _, p := range ports {
		there = append(there, strings.TrimSpace(fmt.Sprintf("%d %s", p.Port, p.Name)))
	}
	e := &failure.Error{
		Class: failure.Invalid, Reason: "PortNotFound", Object: "service/" + service.Name, Message: fmt.Sprintf("it has no port %q", asked),
		Hint: "it has " + strings.Join(there, ", "),
	}
	switch {
	case len(ports) == 0:
		e.Message, e.Hint = "it has no ports", "a tunnel leads to a port of a pod: name a Service that has both"
	case asked == "":
		e.Message = "none of its ports is the only one, named http or 5000"
		e.Hint += fmt.Sprintf("; say which: --tracking-service %s/%s:PORT", service.Namespace, service.Name)
	}
	return "", e
}

// noService names what to may have meant. What cannot be listed is not named: that the Service is missing is the failure.
func (c *Client) noService(ctx context.Context, to cluster.ServicePort) error {
	e := &failure.Error{
		Class: failure.Invalid, Reason: "ServiceNotFound", Object: "service/" + to.Service, Message: "there is no such Service in namespace " + to.Namespace,
		Hint: fmt.Sprintf("see what there is: kubectl get services --namespace %s; or name another namespace: --tracking-service NAMESPACE/NAME", to.Namespace),
	}
	services, err := c.services(ctx, to.Namespace)
	if err != nil {
		return e
	}
	var near []string
	for i := range services {
		if s := &services[i]; s.Labels["app"] == mlflowLabel || s.Labels["app.kubernetes.io/name"] == mlflowLabel {
			near = append(near, to.Namespace+"/"+s.Name)
		}
	}
	if slices.Sort(near); len(near) > 0 {
		e.Hint = "did you mean --tracking-service " + strings.Join(near, " or ") + "?"
	}
	return e
}

func serviceOf(ctx context.Context, k *cluster.Client, namespace, name string) (*corev1.Service, error) {
	service := &corev1.Service{}
	return service, readInto(ctx, k, corev1.SchemeGroupVersion.WithKind("Service"), namespace, name, service)
}

func servicesOf(ctx context.Context, k *cluster.Client, namespace string) ([]corev1.Service, error) {
	objs, err := k.List(ctx, cluster.Query{GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Service"), Namespace: namespace})
	if err != nil {
		return nil, err
	}
	services := make([]corev1.Service, len(objs))
	for i, obj := range objs {
		if err := cluster.Into(obj, &services[i]); err != nil {
			return nil, err
		}
	}
	return services, nil
}

// given says where the tracking URI was given, where that is known.
func (r Request) given() string {
	if r.TrackingURIFrom == "" {
		return ""
	}
	return " of " + r.TrackingURIFrom
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// explainDials lets a dial to server that fails say who named it, and how the MLflow on the cluster is reached without a URI. A dial to a
// proxy before it stays as it is.
func explainDials(r Request, server *url.URL, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		if host, _, split := net.SplitHostPort(address); split != nil || !strings.EqualFold(host, server.Hostname()) {
			return conn, err
		}
		return nil, &failure.Error{
			Class: failure.Diagnosed, Reason: "TrackingServerUnreachable", Object: server.Redacted(),
			Message: "the tracking server" + r.given() + " does not answer", Hint: howToReach(r, server, err), Err: err,
		}
	}
}

// howToReach is the way out of err, a dial that failed; "" where the name says nothing.
func howToReach(r Request, server *url.URL, err error) string {
	name := r.TrackingURIFrom
	if name == "" {
		name = "the tracking URI"
	}
	host := strings.ToLower(server.Hostname())
	leaveOut := fmt.Sprintf("leave out %s to use the MLflow on the cluster", name)
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		if service := serviceIn(host, server.Port()); service != "" {
			return fmt.Sprintf("this name is known in the cluster only: %s, or name it with --tracking-service %s", leaveOut, service)
		}
		return ""
	}
	if host == "localhost" || net.ParseIP(host).IsLoopback() {
		return "nothing listens there: `kubectl mlflow port-forward` is not running; " + leaveOut
	}
	return ""
}

// serviceIn is the Service that a name of the cluster's DNS leads to, for --tracking-service; "" for other names. The last two labels
// before "svc" are it: a StatefulSet's pods have one more.
func serviceIn(host, port string) string {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	service := ""
	if at := slices.Index(labels, "svc"); at >= 2 && (at == len(labels)-1 || strings.HasSuffix("."+strings.Join(labels, "."), ".svc.cluster.local")) {
		service = labels[at-1] + "/" + labels[at-2]
	} else if len(labels) == 1 && labels[0] != "localhost" {
		service = "NAMESPACE/" + labels[0]
	}
	if service != "" && port != "" {
		service += ":" + port
	}
	return service
}
