package tracking

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// apiError is what MLflow answers when it refuses: {"error_code": …, "message": …}.
type apiError struct {
	Status  int    `json:"-"`
	Code    string `json:"error_code"`
	Message string `json:"message"`
}

func (e *apiError) Error() string {
	if e.Message == "" {
		return http.StatusText(e.Status)
	}
	return e.Message
}

// isAbsent tells whether err says that the thing asked for does not exist. An unknown alias is INVALID_PARAMETER_VALUE in MLflow.
func isAbsent(err error) bool {
	e, ok := errors.AsType[*apiError](err)
	if ok && strings.HasPrefix(e.Message, "Workspace ") {
		return false // MLFLOW_WORKSPACE names one that does not exist
	}
	return ok && (e.Code == "RESOURCE_DOES_NOT_EXIST" || e.Code == "INVALID_PARAMETER_VALUE" && strings.Contains(e.Message, "not found"))
}

// isUnknownEndpoint tells whether err is the answer of a server that has no such endpoint.
func isUnknownEndpoint(err error) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.Code == "ENDPOINT_NOT_FOUND" || failureReason(err) == "NotMLflow"
}

func failureReason(err error) string {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		return e.Reason
	}
	return ""
}

func servesNoArtifacts(body []byte) bool {
	text := string(body)
	return strings.Contains(text, "--no-serve-artifacts") || strings.Contains(text, "--artifacts-only") || strings.Contains(text, "--serve-artifacts")
}

// refusal turns an answer that is not a good one into the failure that it means.
func (c *Client) refusal(resp *http.Response, body []byte) error {
	api := &apiError{Status: resp.StatusCode}
	isJSON := json.Unmarshal(body, api) == nil && api.Code != ""
	e := &failure.Error{Object: c.name(), Err: api}
	switch {
	case resp.StatusCode == http.StatusForbidden && strings.Contains(string(body), "Invalid Host header"):
		e.Class, e.Reason = failure.Diagnosed, "HostNotAllowed"
		e.Message = fmt.Sprintf("MLflow does not answer to the name %q", resp.Request.URL.Host)
		e.Hint = fmt.Sprintf("add %s to MLFLOW_SERVER_ALLOWED_HOSTS of the server, with the port", resp.Request.URL.Host)
		e.Err = nil
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		e.Class, e.Reason = failure.Forbidden, "TrackingServerDenied"
		e.Message = fmt.Sprintf("the tracking server does not let us (%s)", resp.Status)
		e.Hint = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; behind an OpenID provider, " +
			"MLFLOW_TRACKING_OIDC_ISSUER and MLFLOW_TRACKING_OIDC_CLIENT_ID"
		if resp.StatusCode == http.StatusForbidden && resp.Request.Header.Get("Authorization") != "" {
			e.Hint = "it knows who asks: ask those who run it for the right to read the model, or use other credentials"
		}
		if !isJSON {
			e.Err = nil
		}
	case servesNoArtifacts(body):
		e.Class, e.Reason = failure.Diagnosed, "ArtifactsNotServed"
		e.Message = "the tracking server does not serve artifacts"
		e.Hint = "start it with --serve-artifacts and --artifacts-destination"
		e.Err = nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		e.Class, e.Reason = failure.Invalid, "TrackingServerElsewhere"
		e.Message = fmt.Sprintf("it redirects to %s", redacted(resp.Header.Get("Location")))
		e.Hint = "set MLFLOW_TRACKING_URI to where the server is; if it is the page of a login, see MLFLOW_TRACKING_OIDC_ISSUER"
		e.Err = nil
	case !isJSON && resp.StatusCode < 500:
		return c.notMLflow(resp.Request.URL, errors.New(resp.Status))
	case !isJSON:
		e.Class, e.Reason, e.Message = failure.Diagnosed, "TrackingServerFailed", resp.Status
		e.Err = nil
	case api.Code == "RESOURCE_DOES_NOT_EXIST":
		e.Class, e.Reason = failure.Invalid, "NotInTrackingServer"
	case resp.StatusCode < 500:
		e.Class, e.Reason = failure.Invalid, "TrackingServerRefused"
	default:
		e.Class, e.Reason, e.Message = failure.Diagnosed, "TrackingServerFailed", resp.Status
	}
	return e
}

// notMLflow is the failure of an answer that MLflow does not give.
func (c *Client) notMLflow(asked *url.URL, why error) error {
	return &failure.Error{
		Class:   failure.Diagnosed,
		Reason:  "NotMLflow",
		Object:  c.name(),
		Message: fmt.Sprintf("what answers at %s is not MLflow's REST API", asked.Path),
		Hint:    "check MLFLOW_TRACKING_URI, and whether a proxy or a login page stands before it",
		Err:     why,
	}
}

// unreachable is the failure of a request that got no answer.
func (c *Client) unreachable(err error) error {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		return e // the words of who dials are better than ours
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // the URL is said already, and without its credentials
	}
	e := &failure.Error{
		Class:   failure.Diagnosed,
		Reason:  "TrackingServerUnreachable",
		Object:  c.name(),
		Message: "the tracking server does not answer",
		Err:     err,
	}
	_, named := errors.AsType[x509.HostnameError](err)
	_, uncertain := errors.AsType[*uncertified](err)
	switch {
	case isUntrusted(err) && named:
		e.Reason, e.Message = "TrackingServerUntrusted", "the tracking server's certificate is not trusted"
		e.Hint = "set MLFLOW_TRACKING_URI to a name that the certificate is for"
	case isUntrusted(err):
		e.Reason, e.Message = "TrackingServerUntrusted", "the tracking server's certificate is not trusted"
		e.Hint = "set " + serverCertVariable + " to the certificate of the authority that signed it"
	case isCertificateAlert(err):
		e.Class, e.Reason, e.Message = failure.Forbidden, "ClientCertificateDenied", "the tracking server does not take our certificate, or asks for one"
		e.Hint = "set " + clientCertVariable + " to a PEM file with a certificate that it takes, and its key"
	case uncertain:
		e.Hint = "it asks for a client certificate: set " + clientCertVariable + " to one that it takes"
	}
	return e
}

// interrupted is the failure of a call whose ctx ended while err kept it waiting.
func (c *Client) interrupted(ctx context.Context, err error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", c.name(), context.Cause(ctx))
	}
	e := &failure.Error{
		Class:   failure.TimedOut,
		Reason:  "TrackingServerTimedOut",
		Object:  c.name(),
		Message: "the tracking server did not answer in time",
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		e.Err = err
	}
	return e
}

// isUntrusted tells whether we refused the server's certificate.
func isUntrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// isCertificateAlert tells whether the server refused ours. The alert has a type that crypto/tls keeps to itself.
func isCertificateAlert(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error" && strings.Contains(e.Err.Error(), "certificate")
}

// isDial tells whether the connection could not be made at all.
func isDial(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial" || failure.ClassOf(err) != ""
}

// name is the server's URL as it may be shown.
func (c *Client) name() string { return c.server.Redacted() }

func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "another place"
	}
	u.RawQuery = ""
	return u.Redacted()
}
