package oidc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const (
	loginFailed = "TrackingLoginFailed"
	// withoutBrowser is what machines do.
	withoutBrowser = "where nobody sits at a browser, set " + secretVariable + " of a client that may log in by itself, or MLFLOW_TRACKING_TOKEN"
)

// failed is the failure of a request to the provider that err is about. Nothing of what was sent or answered is in it, but the words
// that a provider has for its refusals.
func (s *Session) failed(ctx context.Context, message string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("log in at %s: %w", s.Issuer, context.Cause(ctx))
	}
	if e, ok := errors.AsType[*oidc.IssuerMismatchError](err); ok {
		return bad(s.From, fmt.Sprintf("the provider there calls itself %q, and not %q", e.Discovered, e.Provided),
			"set it to what the provider calls itself, to the last slash, if that is the provider that you mean")
	}
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return s.refused(message, e)
	}
	if e, ok := errors.AsType[*unsafeError](err); ok {
		return &failure.Error{Class: failure.Refused, Reason: loginFailed, Object: s.Issuer, Message: message, Err: e,
			Hint: "a login goes over https alone: correct the provider's own addresses"}
	}
	f := &failure.Error{Class: failure.Diagnosed, Reason: loginFailed, Object: s.Issuer, Message: message, Err: err}
	if e, ok := errors.AsType[*url.Error](err); ok {
		f.Err = e.Err // the rest is said already
		f.Hint = "check " + s.From + ", and HTTPS_PROXY where the provider is behind a proxy"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		f.Hint = "the provider's certificate is checked with the system's authorities: add the one that signed it, or name its file in SSL_CERT_FILE"
	}
	if text := f.Err.Error(); len(text) > maxWords || strings.Contains(text, "\n") { // a page of a proxy, perhaps
		f.Err = errors.New(short(strings.Join(strings.Fields(text), " ")))
	}
	return f
}

// maxWords is how much of an answer is shown.
const maxWords = 300

// refused is the failure of an answer of the token endpoint.
func (s *Session) refused(message string, e *oauth2.RetrieveError) error {
	f := &failure.Error{Class: failure.Forbidden, Reason: loginFailed, Object: s.Issuer, Message: message}
	if e.ErrorCode == "" {
		// The body is not shown: nobody knows what is in it.
		f.Err = &refusalError{status: e.Response.StatusCode, words: e.Response.Status}
		if e.Response.StatusCode >= http.StatusInternalServerError {
			f.Class = failure.Diagnosed
		}
		return f
	}
	f.Err = &refusalError{status: e.Response.StatusCode, words: s.words(e.ErrorCode, e.ErrorDescription)}
	switch e.ErrorCode {
	case "invalid_client":
		f.Hint = "check " + clientVariable
		if !s.Interactive {
			f.Hint += " and " + secretVariable
		}
	case "unauthorized_client", "unsupported_grant_type":
		f.Hint = "let the provider allow the client the authorization code flow, without a secret and with PKCE"
		if !s.Interactive {
			f.Hint = "let the provider allow the client the client credentials flow, or set " + interactiveVariable + "=true to log in with a browser"
		}
	case "invalid_target", "invalid_audience", "access_denied", "invalid_request":
		f.Hint = "check " + audienceVariable + ", which is the client's id where it is not set"
	default:
		f.Hint = "see the provider's log"
	}
	return f
}

// refusalError is an answer of the provider that says no.
type refusalError struct {
	status int
	words  string
}

func (e *refusalError) Error() string { return e.words }

// refusal tells whether err is the provider's no, and not a failure to ask it.
func refusal(err error) bool {
	e, ok := errors.AsType[*refusalError](err)
	return ok && e.status < http.StatusInternalServerError
}

// words are a provider's for its refusal, without a secret that it may have repeated in them.
func (s *Session) words(code, description string) string {
	text := code
	if description != "" {
		text += ": " + description
	}
	if s.ClientSecret != "" {
		text = strings.ReplaceAll(text, s.ClientSecret, "…")
	}
	return short(text)
}

func short(text string) string {
	if len(text) > maxWords {
		return strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return text
}

// denied is the failure of a login in the browser that the provider did not let through.
func (s *Session) denied(code, description string) error {
	f := &failure.Error{Class: failure.Forbidden, Reason: loginFailed, Object: s.Issuer, Message: "it does not log you in: " + s.words(code, description)}
	switch code {
	case "access_denied":
		f.Hint = "log in as a user that may use this client, and allow it when you are asked"
	case "invalid_scope":
		f.Hint = "check " + scopeVariable
	case "unauthorized_client", "unsupported_response_type":
		f.Hint = "let the provider allow the client the authorization code flow, without a secret and with PKCE"
	default:
		f.Hint = "run the command again, and see the provider's log"
	}
	return f
}

func (s *Session) broken(message string, err error) error {
	return &failure.Error{Class: failure.Refused, Reason: loginFailed, Object: s.Issuer, Message: message, Err: err,
		Hint: "run the command again; see the provider's log if it comes to the same"}
}

func (s *Session) nobodyCame() error {
	return &failure.Error{Class: failure.TimedOut, Reason: loginFailed, Object: s.Issuer, Message: "nobody has logged in with the browser",
		Hint: "run the command again and open the address that it shows in a browser on this machine; " + withoutBrowser}
}

func (s *Session) portTaken(redirect *url.URL, err error) error {
	return &failure.Error{Class: failure.Diagnosed, Reason: loginFailed, Object: s.Issuer,
		Message: fmt.Sprintf("port %s of this machine, which the login comes back to, cannot be listened on", redirect.Port()), Err: err,
		Hint: "end what listens there, or set " + redirectVariable + " to an address with another port that is registered with the provider"}
}

func (s *Session) noIDToken() error {
	return &failure.Error{Class: failure.Diagnosed, Reason: loginFailed, Object: s.Issuer, Message: "it gave no ID token, which is what the tracking server is to see",
		Hint: "set " + idTokenVariable + "=false to show the access token, or have openid among the scopes of " + scopeVariable}
}

// Denied is the failure of a token that server, the tracking server, did not accept with the challenges of its answer.
func (s *Session) Denied(server string, challenges []string) error {
	kind, other, value := "access token", "ID token", "true"
	if s.UseIDToken {
		kind, other, value = "ID token", "access token", "false"
	}
	f := &failure.Error{Class: failure.Forbidden, Reason: "TrackingServerDenied", Object: server,
		Message: fmt.Sprintf("the tracking server does not accept the %s of %s", kind, s.Issuer),
		Hint: fmt.Sprintf("check %s and %s, and what the server accepts: %s=%s shows it the %s",
			clientVariable, audienceVariable, idTokenVariable, value, other)}
	for _, challenge := range challenges {
		f.Evidence = append(f.Evidence, "WWW-Authenticate: "+challenge)
	}
	return f
}
