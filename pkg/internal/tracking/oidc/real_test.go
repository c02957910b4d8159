//go:build real

package oidc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// TestLoginsAtARealProvider is held against a provider that knows nothing of us.
func TestLoginsAtARealProvider(t *testing.T) {
	issuer := kit.Provider(t)
	settings := func(more ...string) Settings {
		env := map[string]string{issuerVariable: issuer, clientVariable: kit.NativeClient}
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		s, err := SettingsFrom(func(name string) string { return env[name] }, t.TempDir(), "https://mlflow.example.com")
		if err != nil {
			t.Fatal(err)
		}
		return *s
	}
	config := func(s Settings) Config {
		return Config{Settings: s, Server: "https://mlflow.example.com:443", Progress: &talk{}, Cache: t.TempDir(), Browse: fillIn(t)}
	}

	t.Run("a user", func(t *testing.T) {
		c := config(settings(redirectVariable, "http://"+freePort(t)+kit.RedirectPath, scopeVariable, defaultScope+" offline_access"))
		s := open(t, c)
		first := authorization(t, s)
		if again := authorization(t, open(t, c)); again != first {
			t.Error("the next command logs in again")
		}
		s.now = func() time.Time { return time.Now().Add(time.Hour - 10*time.Second) } // the token lasts an hour
		c.Browse = func(context.Context, string) error {
			t.Error("there is a refresh token, and the user is asked")
			return nil
		}
		s.Browse = c.Browse
		if renewed := authorization(t, s); renewed == first {
			t.Error("the token was not renewed")
		}
		s.current.Refresh = "no-such-token"
		asked := 0
		s.Browse = func(ctx context.Context, where string) error {
			asked++
			return fillIn(t)(ctx, where)
		}
		s.current.IDUntil = time.Now()
		if err := s.cache.write(s.current); err != nil {
			t.Fatal(err)
		}
		s.now = time.Now
		if authorization(t, s); asked != 1 {
			t.Errorf("the refresh token is refused, and the user is asked %d times", asked)
		}
	})
	t.Run("a machine", func(t *testing.T) {
		s := open(t, config(settings(clientVariable, kit.MachineClient, secretVariable, kit.MachineSecret)))
		if got := authorization(t, s); !strings.HasPrefix(got, "Bearer ey") {
			t.Errorf("it is no token: %.12s", got)
		}
	})
	t.Run("a wrong secret", func(t *testing.T) {
		_, err := open(t, config(settings(clientVariable, kit.MachineClient, secretVariable, "wr0ng"))).Authorization(t.Context())
		if failure.ClassOf(err) != failure.Forbidden || !strings.Contains(err.Error(), "invalid_client") || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%v", err)
		}
		t.Log(err)
	})
	t.Run("an unknown redirect", func(t *testing.T) {
		c := config(settings(redirectVariable, "http://"+freePort(t)+"/elsewhere"))
		c.Browse = func(_ context.Context, where string) error {
			status, body, err := get(where)
			if status != http.StatusBadRequest || err != nil {
				t.Errorf("%d %s, %v", status, body, err)
			}
			return nil
		}
		s := open(t, c)
		s.patience = time.Millisecond
		_, err := s.Authorization(t.Context())
		e, ok := errors.AsType[*failure.Error](err)
		if !ok || e.Class != failure.TimedOut {
			t.Errorf("%#v", err)
		}
	})
}

// fillIn is a browser with a user before it who knows the password.
func fillIn(t *testing.T) func(ctx context.Context, where string) error {
	return func(_ context.Context, where string) error {
		go func() {
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Error(err)
				return
			}
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			browser := &http.Client{Transport: transport, Jar: jar}
			page, err := browser.Get(where)
			if err != nil {
				t.Error(err)
				return
			}
			_ = page.Body.Close()
			form := url.Values{"id": {page.Request.URL.Query().Get("authRequestID")}, "username": {kit.ProviderUser}, "password": {kit.ProviderPass}}
			end, err := browser.PostForm(page.Request.URL.String(), form)
			if err != nil {
				t.Error(err)
				return
			}
			text, err := io.ReadAll(end.Body)
			_ = end.Body.Close()
			if end.StatusCode != http.StatusOK || !strings.Contains(string(text), "Go back to the terminal") {
				t.Errorf("the browser shows %s %s, %v", end.Status, text, err)
			}
		}()
		return nil
	}
}
