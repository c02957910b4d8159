package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// TestMain looks for what logins leave behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// talk keeps what is said.
type talk struct {
	mu   sync.Mutex
	said []string
}

func (l *talk) Say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, fmt.Sprintf(format, args...))
}

func (l *talk) Start(name string) progress.Step {
	l.Say("%s", name)
	return step{l}
}

func (l *talk) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.said, "\n")
}

type step struct{ *talk }

func (s step) Note(text string) { s.Say("%s", text) }
func (step) Bytes(int64, int64) {}
func (step) End(error)          {}

// freePort is one that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// user logs in at f with a browser that opens pages as soon as it is told to.
func user(t *testing.T, f *fake) (Config, *talk) {
	t.Helper()
	said := &talk{}
	return Config{
		Settings: Settings{Issuer: f.URL, ClientID: "mlflow", RedirectURI: "http://" + freePort(t) + "/oauth2/callback", Scope: defaultScope, Audience: "api",
			Interactive: true, UseIDToken: true, From: issuerVariable},
		Server: "https://mlflow.example.com:443", Progress: said, Cache: filepath.Join(t.TempDir(), "oidc"), Browse: visit,
	}, said
}

// machine logs in at f with a secret.
func machine(t *testing.T, f *fake) (Config, *talk) {
	t.Helper()
	c, said := user(t, f)
	c.ClientSecret, c.Interactive, c.UseIDToken = "s3cret", false, false
	c.Browse = func(context.Context, string) error {
		t.Error("a browser is opened")
		return nil
	}
	return c, said
}

// visit is a browser.
func visit(_ context.Context, where string) error {
	go func() { _, _, _ = get(where) }()
	return nil
}

func get(where string) (status int, body string, err error) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(where) //nolint:noctx // it ends with the servers
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func open(t *testing.T, c Config) *Session {
	t.Helper()
	s := Open(t.Context(), c)
	t.Cleanup(s.Close)
	return s
}

func authorization(t *testing.T, s *Session) string {
	t.Helper()
	got, err := s.Authorization(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAUserLogsInOnce(t *testing.T) {
	f := newFake(t)
	c, said := user(t, f)
	first := authorization(t, open(t, c))
	if !strings.HasPrefix(first, "Bearer ey") {
		t.Errorf("it is no ID token: %.12s", first)
	}
	if again := authorization(t, open(t, c)); again != first {
		t.Error("the next command has another token")
	}
	if got := f.grants(); !slices.Equal(got, []string{"authorization_code"}) {
		t.Errorf("the provider was asked for %q", got)
	}
	form := f.asked[0]
	for key, want := range map[string]string{"client_id": "mlflow", "audience": "api", "redirect_uri": c.RedirectURI} {
		if form.Get(key) != want {
			t.Errorf("%s is %q", key, form.Get(key))
		}
	}
	for _, want := range []string{"Logging in at " + f.URL, "Log in with your browser at: " + f.URL + "/authorize?", "scope=openid+profile+email", "waiting until you have logged in"} {
		if !strings.Contains(said.all(), want) {
			t.Errorf("it does not say %q: %s", want, said.all())
		}
	}
	for _, secret := range []string{"access-1", "refresh-1", form.Get("code_verifier"), form.Get("code")} {
		if strings.Contains(said.all(), secret) {
			t.Errorf("it says %q", secret)
		}
	}
	c.UseIDToken = false
	if got := authorization(t, open(t, c)); got != "Bearer access-1" {
		t.Errorf("the access token is %q", got)
	}
}

func TestAMachineLogsInWithItsSecret(t *testing.T) {
	f := newFake(t)
	c, _ := machine(t, f)
	if got := authorization(t, open(t, c)); got != "Bearer access-1" {
		t.Errorf("%q", got)
	}
	want := url.Values{"grant_type": {"client_credentials"}, "client_id": {"mlflow"}, "client_secret": {"s3cret"}, "audience": {"api"}}
	if got := f.asked[0]; got.Encode() != want.Encode() {
		t.Errorf("it asks with %v", got)
	}
	if got := authorization(t, open(t, c)); got != "Bearer access-1" {
		t.Errorf("the next command shows %q", got)
	}
}

// What is kept is for one server, provider, client, audience, scope and kind of login.
func TestTokensAreKeptForOneServerAlone(t *testing.T) {
	f := newFake(t)
	c, _ := machine(t, f)
	authorization(t, open(t, c))
	for name, change := range map[string]func(c *Config){
		"server":   func(c *Config) { c.Server = "https://evil.example.com:443" },
		"client":   func(c *Config) { c.ClientID = "other" },
		"audience": func(c *Config) { c.Audience = "other" },
		"scope":    func(c *Config) { c.Scope = "other" },
		"kind":     func(c *Config) { c.Interactive, c.Browse = true, visit },
	} {
		other := c
		change(&other)
		before := len(f.grants())
		authorization(t, open(t, other))
		if len(f.grants()) != before+1 {
			t.Errorf("%s: another one's token is used", name)
		}
	}
}

func TestTokensAreRenewedBeforeTheyEnd(t *testing.T) {
	f := newFake(t)
	f.lifetime = margin - time.Second
	c, _ := user(t, f)
	s := open(t, c)
	authorization(t, s)
	authorization(t, s)
	if got := f.grants(); !slices.Equal(got, []string{"authorization_code", "refresh_token"}) {
		t.Errorf("the provider was asked for %q", got)
	}
	if form := f.asked[1]; form.Get("refresh_token") != "refresh-1" || form.Get("client_id") != "mlflow" || form.Has("client_secret") {
		t.Errorf("it renews with %v", form)
	}
	// The refresh token goes on to the next command where the provider gives no other.
	authorization(t, open(t, c))
	if got := f.grants(); !slices.Equal(got, []string{"authorization_code", "refresh_token", "refresh_token"}) {
		t.Errorf("the provider was asked for %q", got)
	}
}

func TestAMachineLogsInAnewWhenItsTokenEnds(t *testing.T) {
	f := newFake(t)
	f.lifetime = margin - time.Second
	c, _ := machine(t, f)
	s := open(t, c)
	authorization(t, s)
	if got := authorization(t, s); got != "Bearer access-2" {
		t.Errorf("%q", got)
	}
}

func TestARefusedRefreshLeadsToALogin(t *testing.T) {
	for name, c := range map[string]struct {
		token func(w http.ResponseWriter)
		login bool
	}{
		"refused":      {func(w http.ResponseWriter) { write(w, 400, map[string]any{"error": "invalid_grant"}) }, true},
		"no ID token":  {func(w http.ResponseWriter) { write(w, 200, map[string]any{"access_token": "a", "expires_in": 3600}) }, true},
		"out of order": {func(w http.ResponseWriter) { write(w, 503, map[string]any{}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.claims = func(claims map[string]any) { claims["exp"] = time.Now().Add(time.Minute).Unix() }
			config, _ := user(t, f)
			s := open(t, config)
			authorization(t, s)
			s.now = func() time.Time { return time.Now().Add(time.Hour) }
			f.claims = func(claims map[string]any) { claims["exp"] = time.Now().Add(2 * time.Hour).Unix() }
			f.token = func(w http.ResponseWriter, form url.Values) bool {
				if form.Get("grant_type") != "refresh_token" {
					return false
				}
				c.token(w)
				return true
			}
			_, err := s.Authorization(t.Context())
			want := []string{"authorization_code", "refresh_token"}
			if c.login {
				want = append(want, "authorization_code")
			}
			if got := f.grants(); (err == nil) != c.login || !slices.Equal(got, want) {
				t.Errorf("the provider was asked for %q, %v", got, err)
			}
		})
	}
}

func TestAKeptTokenThatIsRefusedIsRenewedOnce(t *testing.T) {
	f := newFake(t)
	c, _ := machine(t, f)
	s := open(t, c)
	kept := authorization(t, s)
	if got, err := s.Renew(t.Context(), kept); got != "" || err != nil {
		t.Errorf("a new token would be no better, and is %q, %v", got, err)
	}
	s = open(t, c)
	authorization(t, s)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if got, err := s.Renew(t.Context(), kept); got != "Bearer access-2" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	all.Wait()
	if got := f.grants(); len(got) != 2 {
		t.Errorf("the provider was asked for %q", got)
	}
	err := s.Denied("https://mlflow.example.com:443", []string{`Bearer error="invalid_token"`})
	e, ok := errors.AsType[*failure.Error](err)
	if !ok || e.Class != failure.Forbidden || !strings.Contains(e.Hint, idTokenVariable+"=true") || !slices.Contains(e.Evidence, `WWW-Authenticate: Bearer error="invalid_token"`) {
		t.Errorf("%#v", err)
	}
}

// Several commands at once log in once: the others wait, and read what came of it.
func TestCommandsAtOnceLogInOnce(t *testing.T) {
	f := newFake(t)
	c, _ := user(t, f)
	var all sync.WaitGroup
	got := make([]string, 4)
	for i := range got {
		all.Go(func() {
			s := Open(t.Context(), c)
			defer s.Close()
			var err error
			if got[i], err = s.Authorization(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if slices.Sort(got); got[0] != got[len(got)-1] || len(f.grants()) != 1 {
		t.Errorf("the provider was asked for %q", f.grants())
	}
}

func TestACacheThatCannotBeTrustedIsNone(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"damaged": func(t *testing.T, file string) {
			if err := os.WriteFile(file, []byte(`{"access_token": "acc`), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"empty": func(t *testing.T, file string) {
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
		},
		"others may read it": func(t *testing.T, file string) {
			if err := os.Chmod(file, 0o640); err != nil { //nolint:gosec // which is what is wrong
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T, file string) {
			if err := errors.Join(os.Rename(file, file+".moved"), os.Symlink(file+".moved", file)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			c, _ := machine(t, f)
			authorization(t, open(t, c))
			files, err := filepath.Glob(filepath.Join(c.Cache, "*.json"))
			if err != nil || len(files) != 1 {
				t.Fatalf("%q, %v", files, err)
			}
			spoil(t, files[0])
			if got := authorization(t, open(t, c)); got != "Bearer access-2" {
				t.Errorf("%q is used", got)
			}
			info, err := os.Lstat(files[0])
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("the file is %v, %v", info.Mode(), err)
			}
			if info, err = os.Stat(c.Cache); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the directory is %v, %v", info.Mode(), err)
			}
			if got := authorization(t, open(t, c)); got != "Bearer access-2" {
				t.Errorf("it is not mended: %q", got)
			}
			if left, err := filepath.Glob(filepath.Join(c.Cache, "*.new")); len(left) > 0 || err != nil {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

func TestWithoutACacheALoginIsForOneCommand(t *testing.T) {
	f := newFake(t)
	c, said := machine(t, f)
	c.Cache = filepath.Join(os.DevNull, "oidc")
	s := open(t, c)
	if got := authorization(t, s); got != "Bearer access-1" || authorization(t, s) != got {
		t.Errorf("%q", got)
	}
	if !strings.Contains(said.all(), "is not kept for the next command") {
		t.Errorf("it says %q", said.all())
	}
}

func TestWhatGoesWrongIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		machine bool
		change  func(t *testing.T, f *fake, c *Config)
		class   failure.Class
		want    []string // in the error or its hint
	}{
		"another issuer": {true, func(_ *testing.T, f *fake, _ *Config) {
			f.document = func(d map[string]any) { d["issuer"] = "https://evil.example.com" }
		}, failure.Invalid, []string{issuerVariable, `"https://evil.example.com"`, "to the last slash"}},
		"a slash more": {true, func(_ *testing.T, _ *fake, c *Config) { c.Issuer += "/" }, failure.Invalid, []string{issuerVariable, "calls itself"}},
		"a token endpoint in the clear": {true, func(_ *testing.T, f *fake, _ *Config) {
			f.document = func(d map[string]any) { d["token_endpoint"] = "http://login.example.com/token" }
		}, failure.Refused, []string{"http://login.example.com is not https"}},
		"a login page that is no page": {false, func(_ *testing.T, f *fake, _ *Config) {
			f.document = func(d map[string]any) { d["authorization_endpoint"] = "file:///etc/passwd" }
		}, failure.Refused, []string{"no authorization endpoint with https"}},
		"no provider":  {true, func(_ *testing.T, _ *fake, c *Config) { c.Issuer += "/nothing" }, failure.Diagnosed, []string{"discovery document", "404"}},
		"nobody there": {true, func(t *testing.T, _ *fake, c *Config) { c.Issuer = "http://" + freePort(t) }, failure.Diagnosed, []string{"refused", "check " + issuerVariable}},
		"wrong secret": {true, func(_ *testing.T, _ *fake, c *Config) { c.ClientSecret = "wr0ng" }, failure.Forbidden, []string{"invalid_client: no such client, or not with …", secretVariable}},
		"a page for an answer": {true, func(_ *testing.T, f *fake, _ *Config) {
			f.token = func(w http.ResponseWriter, _ url.Values) bool {
				http.Error(w, "<html>wr0ng", http.StatusBadGateway)
				return true
			}
		}, failure.Diagnosed, []string{"502 Bad Gateway"}},
		"a redirect of the secret": {true, func(t *testing.T, f *fake, _ *Config) {
			thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				t.Errorf("the secret comes to %s", r.URL)
			}))
			t.Cleanup(thief.Close)
			f.token = func(w http.ResponseWriter, _ url.Values) bool {
				w.Header().Set("Location", thief.URL)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}
		}, failure.Forbidden, []string{"307 Temporary Redirect"}},
		"no ID token": {true, func(_ *testing.T, _ *fake, c *Config) { c.UseIDToken = true }, failure.Diagnosed, []string{"no ID token", idTokenVariable + "=false"}},
		"an ID token of another login": {false, func(_ *testing.T, f *fake, _ *Config) {
			f.claims = func(c map[string]any) { c["nonce"] = "another" }
		}, failure.Diagnosed, []string{"ID token is not valid: it is of another login"}},
		"an ID token for another client": {false, func(_ *testing.T, f *fake, _ *Config) {
			f.claims = func(c map[string]any) { c["aud"] = "another" }
		}, failure.Diagnosed, []string{"ID token is not valid"}},
		"an ID token that has ended": {false, func(_ *testing.T, f *fake, _ *Config) { f.lifetime = -time.Hour }, failure.Diagnosed, []string{"expired"}},
		"the user says no": {false, func(_ *testing.T, f *fake, _ *Config) {
			f.authorize = func(_, a url.Values) {
				a.Del("code")
				a.Set("error", "access_denied")
				a.Set("error_description", "fred said no")
			}
		}, failure.Forbidden, []string{"access_denied: fred said no", "allow it"}},
		"no code": {false, func(_ *testing.T, f *fake, _ *Config) {
			f.authorize = func(_, a url.Values) { a.Del("code") }
		}, failure.Refused, []string{"no code"}},
		"an answer of another provider": {false, func(_ *testing.T, f *fake, _ *Config) {
			f.authorize = func(_, a url.Values) { a.Set("iss", "https://evil.example.com") }
		}, failure.Refused, []string{"https://evil.example.com"}},
		"a code of another login": {false, func(_ *testing.T, f *fake, _ *Config) {
			f.authorize = func(_, a url.Values) { a.Set("code", "stolen") }
		}, failure.Forbidden, []string{"invalid_grant"}},
		"the port is taken": {false, func(t *testing.T, _ *fake, c *Config) {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			c.RedirectURI = "http://" + l.Addr().String() + "/"
		}, failure.Diagnosed, []string{"port ", redirectVariable}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			config, _ := user(t, f)
			if c.machine {
				config, _ = machine(t, f)
			}
			c.change(t, f, &config)
			_, err := open(t, config).Authorization(t.Context())
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Class != c.class {
				t.Fatalf("%#v", err)
			}
			text := e.Error() + "\n" + e.Hint
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%s; want %s", text, want)
				}
			}
			for _, secret := range []string{"s3cret", "wr0ng", "access-", "refresh-"} {
				if strings.Contains(text, secret) {
					t.Errorf("a secret is shown: %s", text)
				}
			}
			if kept := cachedIn(t, config.Cache); len(kept) > 0 {
				t.Errorf("kept: %q", kept)
			}
		})
	}
}

func cachedIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// What comes with another state, or to another page, is turned away, and the login is still waited for.
func TestAStrangersAnswerIsNoLogin(t *testing.T) {
	f := newFake(t)
	c, _ := user(t, f)
	c.Browse = func(_ context.Context, where string) error {
		if !strings.Contains(where, "state=") {
			t.Errorf("no state in %s", where)
		}
		for path, want := range map[string]int{
			c.RedirectURI + "?code=evil&state=guessed": 400, c.RedirectURI + "?code=evil": 400, c.RedirectURI + "?error=access_denied": 400,
			strings.TrimSuffix(c.RedirectURI, "/callback") + "/?code=evil": 404,
		} {
			status, body, err := get(path)
			if status != want || err != nil || strings.Contains(body, "evil") {
				t.Errorf("%s: %d %s, %v", path, status, body, err)
			}
		}
		go func() {
			status, body, err := get(where)
			if status != 200 || !strings.Contains(body, "Go back to the terminal") {
				t.Errorf("the browser shows %d %s, %v", status, body, err)
			}
		}()
		return nil
	}
	authorization(t, open(t, c))
	if got := f.grants(); len(got) != 1 {
		t.Errorf("the provider was asked for %q", got)
	}
}

func TestALoginIsNotWaitedForForever(t *testing.T) {
	f := newFake(t)
	for name, end := range map[string]func(s *Session, cancel context.CancelFunc){
		"time is over":         func(s *Session, _ context.CancelFunc) { s.patience = time.Millisecond },
		"command's time, even": func(*Session, context.CancelFunc) {},
		"interrupted":          func(_ *Session, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			c, said := user(t, f)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if strings.HasPrefix(name, "command") {
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
			}
			s := Open(ctx, c)
			s.Browse = func(context.Context, string) error {
				end(s, cancel)
				return errors.New("no program")
			}
			err := s.LogIn(ctx)
			s.Close()
			if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", strings.TrimSuffix(strings.TrimPrefix(c.RedirectURI, "http://"), "/oauth2/callback")); err != nil {
				t.Errorf("the port is still taken: %v", err)
			} else {
				_ = l.Close()
			}
			if name == "interrupted" {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%v", err)
				}
				return
			}
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Class != failure.TimedOut || !strings.Contains(e.Hint, secretVariable) || !strings.Contains(e.Hint, "MLFLOW_TRACKING_TOKEN") {
				t.Errorf("%#v", err)
			}
			if !strings.Contains(said.all(), "No browser opens by itself (no program)") {
				t.Errorf("it says %s", said.all())
			}
		})
	}
}

// A request that gives up does not end the login that it has begun: the next one finds it under way.
func TestALoginOutlivesTheRequestThatAskedForIt(t *testing.T) {
	f := newFake(t)
	c, _ := user(t, f)
	opened := make(chan string, 1)
	c.Browse = func(_ context.Context, where string) error {
		opened <- where
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := Open(ctx, c) // what it was made in may end, too
	defer s.Close()
	gaveUp := make(chan error, 1)
	go func() {
		_, err := s.Authorization(ctx)
		gaveUp <- err
	}()
	where := <-opened
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := visit(ctx, where); err != nil {
		t.Fatal(err)
	}
	authorization(t, s)
	if got := f.grants(); len(got) != 1 {
		t.Errorf("the provider was asked for %q", got)
	}
}

func TestTheCacheFileHoldsNoMoreThanItNeeds(t *testing.T) {
	f := newFake(t)
	c, _ := machine(t, f)
	authorization(t, open(t, c))
	text, err := os.ReadFile(cachedIn(t, c.Cache)[0])
	if err != nil {
		t.Fatal(err)
	}
	var kept map[string]any
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 3 || kept["access_token"] != "access-1" || kept["token_type"] != "Bearer" || strings.Contains(string(text), "s3cret") {
		t.Errorf("it keeps %s", text)
	}
}
