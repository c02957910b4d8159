package tracking

import (
	"net/http"
	"net/url"
	"strings"
)

// Credentials are what MLflow's clients take from the environment.
type Credentials struct{ Username, Password, Token string }

// CredentialsFrom reads MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN.
func CredentialsFrom(getenv func(string) string) Credentials {
	return Credentials{
		Username: getenv("MLFLOW_TRACKING_USERNAME"),
		Password: getenv("MLFLOW_TRACKING_PASSWORD"),
		Token:    getenv("MLFLOW_TRACKING_TOKEN"),
	}
}

// Authenticate adds cred to the requests that go to server's scheme, host and port, and to no others. As in MLflow, username and
// password win over a token, and one of the two alone counts for nothing.
func Authenticate(rt http.RoundTripper, server *url.URL, cred Credentials) http.RoundTripper {
	return &authenticator{next: rt, origin: origin(server), cred: cred}
}

type authenticator struct {
	next   http.RoundTripper
	origin string
	cred   Credentials
}

// RoundTrip implements http.RoundTripper.
func (a *authenticator) RoundTrip(req *http.Request) (*http.Response, error) {
	if origin(req.URL) != a.origin {
		return a.next.RoundTrip(req)
	}
	switch {
	case a.cred.Username != "" && a.cred.Password != "":
		req = req.Clone(req.Context())
		req.SetBasicAuth(a.cred.Username, a.cred.Password)
	case a.cred.Token != "":
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+a.cred.Token)
	}
	return a.next.RoundTrip(req)
}

// origin is scheme://host:port with the port written out.
func origin(u *url.URL) string {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port == "" && scheme == "http" {
		port = "80"
	}
	if port == "" && scheme == "https" {
		port = "443"
	}
	return scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
