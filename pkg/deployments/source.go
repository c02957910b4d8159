package deployments

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking/oidc"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// serverAt is a tracking server, and the way to it.
type serverAt struct {
	url       *url.URL
	transport http.RoundTripper
}

// connect chooses the tracking server and tells s which. close ends the way to it, and must be called.
func (c *Client) connect(ctx context.Context, r Request, s progress.Step) (src source, closer func(), err error) {
	server, err := r.server()
	if err != nil {
		return nil, nil, err
	}
	transport := newTransport((&net.Dialer{Timeout: 30 * time.Second}).DialContext)
	transport.Proxy = http.ProxyFromEnvironment
	end := func() {}
	settings, err := tracking.SettingsFrom(c.getenv)
	if err != nil {
		return nil, nil, err
	}
	if server != nil {
		s.Note("tracking server " + server.Redacted())
		// The file says no server's name: it is for the one that the user has named, and not for one that is found.
		if settings, err = settings.WithFile(c.getenv); err != nil {
			return nil, nil, err
		}
		if settings.Exposed != "" {
			progress.Say(c.progress, "Warning: others than you can read %[1]s; to end that: chmod 600 %[1]s", settings.Exposed)
		}
		transport.DialContext = explainDials(r, server, transport.DialContext)
		if !settings.Usable() && server.User.String() == "" {
			if end, err = c.logIn(ctx, r, server, &settings, s); err != nil {
				return nil, nil, err
			}
		}
	} else {
		to, of, err := c.onCluster(ctx, r.TrackingService)
		if err != nil {
			return nil, nil, err
		}
		if !settings.Usable() && of != nil {
			if settings.Credentials, err = c.admin(ctx, of); err != nil {
				return nil, nil, err
			}
		}
		s.Note(fmt.Sprintf("tracking server on the cluster: service/%s in namespace %s, port %s", to.Service, to.Namespace, to.Port))
		way := c.dial(to, s.Note)
		transport = newTransport(way.DialContext)
		// MLflow answers to names that it knows: localhost is always one of them.
		server = &url.URL{Scheme: "http", Host: "localhost"}
		end = func() { _ = way.Close() } // nothing is under way any more
	}
	led, err := settings.Transport(transport, server)
	if err != nil {
		end()
		return nil, nil, err
	}
	return c.track(serverAt{server, led}), func() { led.CloseIdleConnections(); end() }, nil
}

// logIn lets settings log in at the OpenID provider of server, where there is one, and does so. end closes the way to the provider.
func (c *Client) logIn(ctx context.Context, r Request, server *url.URL, settings *tracking.Settings, s progress.Step) (end func(), err error) {
	how, err := oidc.SettingsFrom(c.getenv, c.project, r.TrackingURI)
	if err != nil || how == nil {
		return func() {}, err
	}
	s.Note(fmt.Sprintf("logging in at %s, which %s names", how.Issuer, how.From))
	session := oidc.Open(ctx, oidc.Config{Settings: *how, Server: tracking.Origin(server), Browse: c.browse, Progress: c.progress})
	if err := session.LogIn(ctx); err != nil {
		session.Close()
		return nil, err
	}
	settings.Login = session
	return session.Close, nil
}

// asAdmin reads as basic-auth's admin, where the installation has that and the user may read the password. Who may not is told by
// MLflow what it wants.
func asAdmin(ctx context.Context, k instance.Getter, i *instance.Instance) (tracking.Credentials, error) {
	password, err := i.AdminPassword(ctx, k)
	switch {
	case failure.ClassOf(err) == failure.Forbidden || apierrors.IsNotFound(err) || err == nil && password == "":
		return tracking.Credentials{}, nil
	case err != nil:
		return tracking.Credentials{}, err
	}
	return tracking.Credentials{Username: instance.AdminUser, Password: password}, nil
}

func newTransport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	return &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second}
}

// repository is where images go: what was asked for, else where the present image is, else where those of the namespace's other
// deployments are.
func (c *Client) repository(ctx context.Context, r Request, why purpose, s progress.Step) (string, error) {
	if r.ImageRepository != "" {
		return r.ImageRepository, nil
	}
	present, err := c.knative.Get(ctx, r.Namespace, r.Name)
	if err != nil && !isNotFound(err) && (why != toBuild || !noCluster(err)) {
		return "", err
	}
	if repository := repositoryOf(present.Image); repository != "" {
		return repository, nil
	}
	unknown := &failure.Error{
		Class: failure.Invalid, Reason: "ImageRepositoryMissing", Message: fmt.Sprintf("no image repository is known for %s", r.Name),
		Hint: "say where its images go: --image-repository REGISTRY/PATH, or KUBECTL_MLFLOW_IMAGE_REPOSITORY",
	}
	if noCluster(err) {
		return "", unknown
	}
	others, err := c.repositories(ctx, r.Namespace)
	switch {
	case err != nil && failure.ClassOf(err) != failure.Forbidden: // who may not see the others is asked to say it
		return "", err
	case len(others) == 1:
		s.Note(fmt.Sprintf("image repository %s, as of the other deployments in namespace %s", others[0], r.Namespace))
		return others[0], nil
	case len(others) > 1:
		unknown.Message += fmt.Sprintf("; the other deployments in namespace %s use %s", r.Namespace, strings.Join(others, ", "))
	}
	return "", unknown
}

// repositories are those of the images in a namespace, sorted.
func (c *Client) repositories(ctx context.Context, namespace string) ([]string, error) {
	var found []string
	err := c.knative.List(ctx, namespace, func(d serving.Deployment) error {
		if repository := repositoryOf(d.Image); repository != "" {
			found = append(found, repository)
		}
		return nil
	})
	slices.Sort(found)
	return slices.Compact(found), err
}
