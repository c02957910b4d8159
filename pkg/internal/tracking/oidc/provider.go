package oidc

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// maxAnswer bounds what a provider answers.
const maxAnswer = 1 << 20

// newClient goes to providers: with the system's authorities and proxy, never with what is for a tracking server.
func newClient() *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: guard{&http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 30 * time.Second,
		}},
		// A request with a secret or a code goes where it was meant to go, and nowhere else.
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if via[0].Method != http.MethodGet || len(via) >= 5 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// guard lets nothing out in the clear, wherever a provider's document or redirect leads, and no endless answer in.
type guard struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if !safe(req.URL) {
		if req.Body != nil {
			_ = req.Body.Close() // nobody has read it
		}
		return nil, &unsafeError{req.URL}
	}
	resp, err := g.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = bounded{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

type bounded struct {
	io.Reader
	io.Closer
}

// unsafeError is a URL that would be asked without TLS.
type unsafeError struct{ url *url.URL }

func (e *unsafeError) Error() string {
	return fmt.Sprintf("%s://%s is not https", e.url.Scheme, e.url.Host)
}

// provider is what a provider tells of itself.
type provider struct {
	*Session
	*oidc.Provider
	namesItself bool // in its answers to the browser, as RFC 9207 has it
}

// through lets the libraries use our client.
func (s *Session) through(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, s.client) // which is also where oauth2 looks
}

func (s *Session) discover(ctx context.Context) (*provider, error) {
	found, err := oidc.NewProvider(s.through(ctx), s.Issuer)
	if err != nil {
		return nil, s.failed(ctx, "its discovery document cannot be had", err)
	}
	p := &provider{Session: s, Provider: found}
	var more struct {
		NamesItself bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, s.failed(ctx, "its discovery document cannot be read", err)
	}
	p.namesItself = more.NamesItself
	return p, nil
}

// config is that of a login in the browser: it shows no secret, but proves with PKCE that it was we who began it.
func (p *provider) config() *oauth2.Config {
	endpoint := p.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	return &oauth2.Config{ClientID: p.ClientID, Endpoint: endpoint, RedirectURL: p.RedirectURI, Scopes: []string{p.Scope}}
}

// showSecret logs in without a user.
func (p *provider) showSecret(ctx context.Context) (*tokens, error) {
	config := clientcredentials.Config{
		ClientID: p.ClientID, ClientSecret: p.ClientSecret, TokenURL: p.Endpoint().TokenURL, AuthStyle: oauth2.AuthStyleInParams,
		EndpointParams: url.Values{"audience": {p.Audience}},
	}
	t, err := config.Token(p.through(ctx))
	if err != nil {
		return nil, p.failed(ctx, "it does not log us in with the client's secret", err)
	}
	return p.tokensOf(ctx, t, "")
}

// refresh logs in with the refresh token of had.
func (p *provider) refresh(ctx context.Context, had *tokens) (*tokens, error) {
	config := p.config()
	if !p.Interactive {
		config.ClientSecret = p.ClientSecret
	}
	t, err := config.TokenSource(p.through(ctx), &oauth2.Token{RefreshToken: had.Refresh}).Token()
	if err != nil {
		return nil, p.failed(ctx, "it does not renew the login", err)
	}
	return p.tokensOf(ctx, t, "")
}

// redeem exchanges the code that the browser has brought.
func (p *provider) redeem(ctx context.Context, code, verifier, nonce string) (*tokens, error) {
	t, err := p.config().Exchange(p.through(ctx), code, oauth2.VerifierOption(verifier), oauth2.SetAuthURLParam("audience", p.Audience))
	if err != nil {
		return nil, p.failed(ctx, "it does not accept the login that it has sent by the browser", err)
	}
	return p.tokensOf(ctx, t, nonce)
}

// tokensOf checks the ID token, where there is one. nonce is what has to be in it, or "".
func (p *provider) tokensOf(ctx context.Context, t *oauth2.Token, nonce string) (*tokens, error) {
	got := &tokens{Type: t.Type(), Access: t.AccessToken, AccessUntil: t.Expiry, Refresh: t.RefreshToken}
	got.ID, _ = t.Extra("id_token").(string)
	if got.ID == "" {
		return got, nil
	}
	id, err := p.VerifierContext(p.through(ctx), &oidc.Config{ClientID: p.ClientID, Now: p.now}).Verify(p.through(ctx), got.ID)
	if err == nil && nonce != "" && id.Nonce != nonce {
		err = fmt.Errorf("it is of another login")
	}
	if err != nil {
		return nil, p.failed(ctx, "its ID token is not valid", err)
	}
	got.IDUntil = id.Expiry
	return got, nil
}

// random is a value that nobody can guess.
func random() string { return rand.Text() }
