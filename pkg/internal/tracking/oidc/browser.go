package oidc

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// farewell is how long the browser may take to read its page.
const farewell = 2 * time.Second

// askUser logs in with the user's browser: the provider asks the user whatever it wants to know, and sends the browser to us with a code.
func (p *provider) askUser(ctx context.Context) (t *tokens, err error) {
	redirect, err := url.Parse(p.RedirectURI)
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(p.Endpoint().AuthURL); err != nil || !safe(u) {
		return nil, p.broken("its discovery document has no authorization endpoint with https", nil)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", redirect.Host)
	if err != nil {
		return nil, p.portTaken(redirect, err)
	}
	state, nonce, verifier := random(), random(), oauth2.GenerateVerifier()
	answers := &answers{path: redirect.Path, state: state, came: make(chan url.Values, 1)}
	if answers.path == "" {
		answers.path = "/"
	}
	server := &http.Server{Handler: answers, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	var broke error // why it ended
	go func() {
		broke = server.Serve(listener)
		close(served)
	}()
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		if server.Shutdown(bye) != nil {
			_ = server.Close() // whoever is left has had the time
		}
		<-served
	}()
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier), oidc.Nonce(nonce)}
	where := p.config().AuthCodeURL(state, options...)

	err = progress.Do(p.Progress, "Logging in at "+p.Issuer, func(s progress.Step) error {
		progress.Say(p.Progress, "Log in with your browser at: %s", where)
		if p.Browse != nil {
			if err := p.Browse(ctx, where); err != nil {
				progress.Say(p.Progress, "No browser opens by itself (%v): open this address in one on this machine", err)
			}
		}
		s.Note(fmt.Sprintf("waiting until you have logged in with your browser, at most %s", p.patience))
		waiting, cancel := context.WithTimeout(ctx, p.patience)
		defer cancel()
		select {
		case answer := <-answers.came:
			code, err := p.codeIn(answer)
			if err != nil {
				return err
			}
			t, err = p.redeem(ctx, code, verifier, nonce)
			return err
		case <-served:
			return p.broken("the login cannot be waited for", broke)
		case <-waiting.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("log in at %s: %w", p.Issuer, context.Cause(ctx))
			}
			return p.nobodyCame()
		}
	})
	return t, err
}

// codeIn is the code in the provider's answer.
func (p *provider) codeIn(answer url.Values) (string, error) {
	if iss := answer.Get("iss"); iss != p.Issuer && (iss != "" || p.namesItself) {
		return "", p.broken(fmt.Sprintf("the answer is of another provider, %q", iss), nil)
	}
	if code := answer.Get("error"); code != "" {
		return "", p.denied(code, answer.Get("error_description"))
	}
	if answer.Get("code") == "" {
		return "", p.broken("its answer has no code", nil)
	}
	return answer.Get("code"), nil
}

// answers waits for the browser to come back, with the one answer that is to our question. Any page that the user looks at could send the
// browser here: what does not know our state is turned away and ends nothing.
type answers struct {
	path, state string
	came        chan url.Values
}

// ServeHTTP implements http.Handler.
func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Connection", "close")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", "text/html; charset=utf-8")
	say := func(status int, title, text string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, page, title, title, text) // the terminal says the same
	}
	answer := r.URL.Query()
	switch {
	case r.URL.Path != a.path:
		say(http.StatusNotFound, "Nothing here", "This is where kubectl mlflow waits for a login.")
		return
	case r.Method != http.MethodGet:
		say(http.StatusMethodNotAllowed, "Nothing here", "This is where kubectl mlflow waits for a login.")
		return
	case subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(a.state)) != 1:
		say(http.StatusBadRequest, "Another login is awaited", "Open the address that kubectl mlflow shows in the terminal.")
		return
	}
	select {
	case a.came <- answer:
	default: // the page was loaded again
	}
	if answer.Get("error") != "" {
		say(http.StatusOK, "You are not logged in", "The terminal says why. This page can be closed.")
		return
	}
	say(http.StatusOK, "Go back to the terminal", "kubectl mlflow has the provider's answer and goes on. This page can be closed.")
}

const page = `<!DOCTYPE html>
<html lang="en"><head><title>%s</title></head><body><h1>%s</h1><p>%s</p></body></html>
`
