package deployments

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
)

// serviceWith is a Service with these ports.
func serviceWith(namespace, name string, labels map[string]string, ports ...corev1.ServicePort) corev1.Service {
	return corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}, Spec: corev1.ServiceSpec{Ports: ports}}
}

func port(number int32, name string) corev1.ServicePort {
	return corev1.ServicePort{Port: number, Name: name}
}

func TestPortOfTheTrackingService(t *testing.T) {
	for name, c := range map[string]struct {
		asked string
		there []corev1.ServicePort
		want  string
		says  []string // where there is none
	}{
		"the only one":          {"", []corev1.ServicePort{port(80, "web")}, "80", nil},
		"http before 5000":      {"", []corev1.ServicePort{port(5000, "mlflow"), port(80, "http")}, "80", nil},
		"5000":                  {"", []corev1.ServicePort{port(9090, "metrics"), port(5000, "mlflow")}, "5000", nil},
		"neither":               {"", []corev1.ServicePort{port(9090, "metrics"), port(8080, "web")}, "", []string{"9090 metrics, 8080 web", "ml/mlflow:PORT"}},
		"by number":             {"9090", []corev1.ServicePort{port(5000, "http"), port(9090, "metrics")}, "9090", nil},
		"by name":               {"metrics", []corev1.ServicePort{port(5000, "http"), port(9090, "metrics")}, "9090", nil},
		"number not there":      {"8080", []corev1.ServicePort{port(5000, "http")}, "", []string{`no port "8080"`, "it has 5000 http"}},
		"name not there":        {"web", []corev1.ServicePort{port(5000, "")}, "", []string{`no port "web"`, "it has 5000"}},
		"there are none":        {"", nil, "", []string{"it has no ports"}},
		"a nameless is no http": {"", []corev1.ServicePort{port(1, ""), port(2, "")}, "", []string{"1, 2"}},
	} {
		s := serviceWith("ml", "mlflow", nil, c.there...)
		got, err := choosePort(&s, c.asked)
		if c.says == nil {
			if err != nil || got != c.want {
				t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
			}
			continue
		}
		f, ok := errors.AsType[*failure.Error](err)
		if !ok || f.Class != failure.Invalid || f.Object != "service/mlflow" {
			t.Errorf("%s: %q, %v; want failure.Invalid", name, got, err)
			continue
		}
		for _, part := range c.says {
			if !strings.Contains(f.Message+" "+f.Hint, part) {
				t.Errorf("%s: %q, %q lack %q", name, f.Message, f.Hint, part)
			}
		}
	}
}

// sees connects to the MLflow of that name and returns the user that it is asked as.
func sees(t *testing.T, s *stage, c *Client, service string) string {
	t.Helper()
	user := ""
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { user, _, _ = r.BasicAuth() }))
	defer server.Close()
	s.dialTo = server.Listener.Addr().String()
	r := irisRequest()
	r.TrackingService = service
	_, closer, err := c.connect(t.Context(), r, step{s})
	if err != nil {
		t.Fatal(err)
	}
	defer closer()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.at.url.JoinPath("health").String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.at.transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return user
}

// The admin's password goes to the installation that it is of, and to nobody who has a Service beside it.
func TestTrackingServiceIsAskedAsAdminWhereItIsTheInstallations(t *testing.T) {
	record := func(namespace, service string, running bool) func() (*instance.Instance, error) {
		i := &instance.Instance{Namespace: namespace, HTTP: cluster.ServicePort{Namespace: namespace, Service: service, Port: "5000"}}
		if running {
			i.Inventory.Items = []cluster.Change{{}}
			i.Inventory.Items[0].Kind = "Service"
		}
		return func() (*instance.Instance, error) { return i, nil }
	}
	fails := func(class failure.Class) func() (*instance.Instance, error) {
		return func() (*instance.Instance, error) { return nil, &failure.Error{Class: class} }
	}
	for name, c := range map[string]struct {
		service string
		record  func() (*instance.Instance, error)
		env     string
		dialed  string
		user    string
	}{
		"the installation's":   {"ml/mlflow", record("ml", "mlflow", true), "", "ml/mlflow:5000", "admin"},
		"another beside it":    {"ml/mlflow", record("ml", "other", true), "", "ml/mlflow:5000", ""},
		"nobody's":             {"ml/mlflow", func() (*instance.Instance, error) { return nil, nil }, "", "ml/mlflow:5000", ""},
		"of one uninstalled":   {"ml/mlflow", record("ml", "mlflow", false), "", "ml/mlflow:5000", ""},
		"record hidden":        {"ml/mlflow", fails(failure.Forbidden), "", "ml/mlflow:5000", ""},
		"record broken":        {"ml/mlflow", fails(failure.Refused), "", "ml/mlflow:5000", ""},
		"with a port":          {"ml/mlflow:metrics", record("ml", "mlflow", true), "", "ml/mlflow:9090", "admin"},
		"context's namespace":  {"tracking", record("models", "mlflow", true), "", "models/tracking:80", ""},
		"own credentials win":  {"ml/mlflow", record("ml", "mlflow", true), "jane", "ml/mlflow:5000", "jane"},
		"own, for a foreigner": {"tracking", record("ml", "mlflow", true), "jane", "models/tracking:80", "jane"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage()
			s.find = func([]string) (*instance.Instance, error) {
				t.Error("another MLflow is looked for")
				return nil, errors.New("no")
			}
			s.record, s.admin = c.record, tracking.Credentials{Username: "admin", Password: "s3cret"}
			s.services = []corev1.Service{
				serviceWith("ml", "mlflow", nil, port(5000, "http"), port(9090, "metrics")), serviceWith("models", "tracking", nil, port(80, "")),
			}
			client := s.client()
			client.getenv = func(name string) string {
				return map[string]string{"MLFLOW_TRACKING_USERNAME": c.env, "MLFLOW_TRACKING_PASSWORD": c.env}[name]
			}
			user := sees(t, s, client, c.service)
			if user != c.user || !s.called("dial "+c.dialed) {
				t.Errorf("asked as %q, calls %q", user, s.calls)
			}
			namespace, name, _ := strings.Cut(strings.Split(c.dialed, ":")[0], "/")
			if !slices.ContainsFunc(s.notes, func(n string) bool {
				return strings.Contains(n, "service/"+name) && strings.Contains(n, "namespace "+namespace)
			}) {
				t.Errorf("nobody is told which it is: %q", s.notes)
			}
		})
	}
}

func TestTrackingServiceWhoseRecordCannotBeAskedFor(t *testing.T) {
	s, r := newStage(), irisRequest()
	away := &failure.Error{Class: failure.Diagnosed, Reason: "Unreachable"}
	s.record = func() (*instance.Instance, error) { return nil, away }
	s.services = []corev1.Service{serviceWith("ml", "mlflow", nil, port(5000, "http"))}
	r.TrackingService = "ml/mlflow"
	if _, err := s.client().Deploy(t.Context(), r); !errors.Is(err, away) || s.called("dial ml/mlflow:5000") {
		t.Errorf("%v, calls %q", err, s.calls)
	}
}

func TestTrackingServiceThatIsNotThere(t *testing.T) {
	services := []corev1.Service{
		serviceWith("ml", "tracking", map[string]string{"app.kubernetes.io/name": "mlflow"}), serviceWith("ml", "guide", map[string]string{"app": "mlflow"}),
		serviceWith("ml", "postgres", map[string]string{"app": "postgres"}), serviceWith("ml", "bare", nil),
	}
	for name, c := range map[string]struct {
		services []corev1.Service
		list     error
		hint     string
	}{
		"others look like MLflow": {services, nil, "did you mean --tracking-service ml/guide or ml/tracking?"},
		"none does":               {services[2:], nil, "see what there is: kubectl get services --namespace ml"},
		"may not be listed":       {nil, &failure.Error{Class: failure.Forbidden}, "see what there is: kubectl get services --namespace ml"},
	} {
		s, r := newStage(), irisRequest()
		s.services, s.servicesErr, r.TrackingService = c.services, c.list, "ml/mlflow"
		_, err := s.client().Deploy(t.Context(), r)
		f, ok := errors.AsType[*failure.Error](err)
		if !ok || f.Class != failure.Invalid || f.Object != "service/mlflow" || !strings.Contains(f.Message, "namespace ml") || !strings.HasPrefix(f.Hint, c.hint) {
			t.Errorf("%s: %v, %+v", name, err, f)
		}
	}
}

func TestWhatIsSaidOfATrackingURIThatLeadsNowhere(t *testing.T) {
	refused, noName := errors.New("connection refused"), &net.DNSError{Err: "no such host", IsNotFound: true}
	for uri, c := range map[string]struct {
		err  error
		says string // in the hint, "" for none
	}{
		"http://localhost:5000":                          {refused, "`kubectl mlflow port-forward` is not running; leave out MLFLOW_TRACKING_URI"},
		"http://user:secret@127.0.0.1:5000":              {refused, "`kubectl mlflow port-forward` is not running"},
		"http://[::1]:5000":                              {refused, "`kubectl mlflow port-forward` is not running"},
		"http://mlflow.ml.svc":                           {noName, "--tracking-service ml/mlflow"},
		"http://mlflow.ml.svc.cluster.local:5000/x":      {noName, "leave out MLFLOW_TRACKING_URI to use the MLflow on the cluster, or name it with --tracking-service ml/mlflow:5000"},
		"http://mlflow-0.mlflow.ml.svc.cluster.local.:1": {noName, "--tracking-service ml/mlflow:1"},
		"http://mlflow:5000":                             {noName, "--tracking-service NAMESPACE/mlflow:5000"},
		"http://mlflow.ml.svc:5000":                      {refused, ""},
		"https://mlflow.example.com":                     {noName, ""},
		"https://mlflow.svc.example.com":                 {noName, ""},
		"https://10.0.0.1":                               {refused, ""},
	} {
		server, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		dial := explainDials(Request{TrackingURIFrom: "MLFLOW_TRACKING_URI"}, server, func(context.Context, string, string) (net.Conn, error) { return nil, c.err })
		// Authenticate and a Transport lie between: what the client gets is what they let through.
		rt := tracking.Authenticate(newTransport(dial), server, tracking.Credentials{})
		_, err = tracking.New(server, rt).Resolve(t.Context(), tracking.URI{Scheme: "models", Name: "iris", Version: "3"})
		f, ok := errors.AsType[*failure.Error](err)
		if !ok || f.Class != failure.Diagnosed || !errors.Is(err, c.err) || !strings.Contains(f.Message, "of MLFLOW_TRACKING_URI does not answer") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if !strings.Contains(f.Hint, c.says) || c.says == "" && f.Hint != "" {
			t.Errorf("%s: hint %q, want %q", uri, f.Hint, c.says)
		}
	}
}

// A proxy that is away is not the tracking server, and the end of the context is nobody's fault.
func TestWhatIsNotOfTheTrackingURI(t *testing.T) {
	server := &url.URL{Scheme: "http", Host: "mlflow:5000"}
	broken := errors.New("broken")
	dial := explainDials(Request{}, server, func(context.Context, string, string) (net.Conn, error) { return nil, broken })
	if _, err := dial(t.Context(), "tcp", "proxy:3128"); !errors.Is(err, broken) || failure.ClassOf(err) != "" {
		t.Errorf("a proxy: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dial(ended, "tcp", "mlflow:5000"); !errors.Is(err, broken) || failure.ClassOf(err) != "" {
		t.Errorf("an end: %v", err)
	}
}
