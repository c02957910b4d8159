package oidc

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// fake is a provider of which each part can be made to fail. It logs in whoever comes, and checks what a real one checks.
type fake struct {
	*httptest.Server
	t   *testing.T
	key *rsa.PrivateKey

	mu       sync.Mutex
	asked    []url.Values // of the token endpoint
	codes    map[string]url.Values
	count    int
	lifetime time.Duration

	// What is not nil comes in the place of what a provider should do.
	document  func(d map[string]any)
	authorize func(question, answer url.Values)
	token     func(w http.ResponseWriter, form url.Values) bool // false leaves it to the fake
	claims    func(c map[string]any)
}

func newFake(t *testing.T) *fake {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, key: key, codes: map[string]url.Values{}, lifetime: time.Hour}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", f.serveDocument)
	mux.HandleFunc("GET /keys", f.serveKeys)
	mux.HandleFunc("GET /authorize", f.serveAuthorize)
	mux.HandleFunc("POST /token", f.serveToken)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) serveDocument(w http.ResponseWriter, r *http.Request) {
	if len(r.Header.Values("Authorization"))+len(r.Header.Values("X-Mlflow-Workspace")) > 0 {
		f.t.Errorf("the provider got %v", r.Header)
	}
	d := map[string]any{
		"issuer": f.URL, "authorization_endpoint": f.URL + "/authorize", "token_endpoint": f.URL + "/token", "jwks_uri": f.URL + "/keys",
	}
	if f.document != nil {
		f.document(d)
	}
	write(w, http.StatusOK, d)
}

func (f *fake) serveKeys(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1",
		"n": encode(f.key.N.Bytes()), "e": encode(big.NewInt(int64(f.key.E)).Bytes()),
	}}})
}

func (f *fake) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	question := r.URL.Query()
	if question.Get("response_type") != "code" || question.Get("code_challenge_method") != "S256" || question.Has("audience") {
		f.t.Errorf("the browser asks %v", question)
	}
	f.mu.Lock()
	f.count++
	code := fmt.Sprintf("code-%d", f.count)
	f.codes[code] = question
	f.mu.Unlock()
	answer := url.Values{"code": {code}, "state": question["state"]}
	if f.authorize != nil {
		f.authorize(question, answer)
	}
	http.Redirect(w, r, question.Get("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
}

func (f *fake) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		f.t.Error(err)
	}
	form := r.PostForm
	f.mu.Lock()
	f.asked = append(f.asked, form)
	n := len(f.asked)
	question := f.codes[form.Get("code")]
	delete(f.codes, form.Get("code"))
	f.mu.Unlock()
	if r.Header.Get("Authorization") != "" {
		f.t.Error("credentials are in the body, not in the header")
	}
	if f.token != nil && f.token(w, form) {
		return
	}
	answer := map[string]any{"access_token": fmt.Sprintf("access-%d", n), "token_type": "bearer", "expires_in": int(f.lifetime.Seconds())}
	switch form.Get("grant_type") {
	case "authorization_code":
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		if question == nil || question.Get("code_challenge") != encode(sum[:]) || form.Get("redirect_uri") != question.Get("redirect_uri") || form.Has("client_secret") {
			write(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
			return
		}
		answer["id_token"] = f.sign(form.Get("client_id"), question.Get("nonce"), n)
		answer["refresh_token"] = fmt.Sprintf("refresh-%d", n)
	case "refresh_token":
		answer["id_token"] = f.sign(form.Get("client_id"), "", n)
	case "client_credentials":
		if form.Get("client_secret") != "s3cret" || form.Has("scope") {
			write(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": "no such client, or not with " + form.Get("client_secret")})
			return
		}
	default:
		write(w, http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type"})
		return
	}
	write(w, http.StatusOK, answer)
}

// grants are the kinds of all that the token endpoint was asked for.
func (f *fake) grants() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var kinds []string
	for _, form := range f.asked {
		kinds = append(kinds, form.Get("grant_type"))
	}
	return kinds
}

// sign is an ID token for client.
func (f *fake) sign(client, nonce string, n int) string {
	claims := map[string]any{
		"iss": f.URL, "aud": client, "sub": "fred", "nonce": nonce, "jti": n,
		"iat": time.Now().Unix(), "exp": time.Now().Add(f.lifetime).Unix(),
	}
	if f.claims != nil {
		f.claims(claims)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		f.t.Error(err)
	}
	signed := encode([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + encode(text)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, f.key, crypto.SHA256, sum[:])
	if err != nil {
		f.t.Error(err)
	}
	return signed + "." + encode(signature)
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever reads it will tell
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
