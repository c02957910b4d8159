// Package oidc logs in at an OpenID provider, for the tokens that a tracking server behind one wants to see. It is configured as the
// Python package mlflow-oidc-client is.
package oidc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const (
	prefix         = "MLFLOW_TRACKING_OIDC_"
	issuerVariable = prefix + "ISSUER"
	clientVariable = prefix + "CLIENT_ID"
	secretVariable = prefix + "CLIENT_SECRET"
	// redirectVariable is also in the hint of a port that is taken.
	redirectVariable    = prefix + "REDIRECT_URI"
	scopeVariable       = prefix + "SCOPE"
	audienceVariable    = prefix + "AUDIENCE"
	interactiveVariable = prefix + "INTERACTIVE"
	idTokenVariable     = prefix + "USE_ID_TOKEN"

	defaultRedirect = "http://127.0.0.1:39303/oauth2/callback"
	defaultScope    = "openid profile email"

	// projectFile is read in the current directory alone; table is its part for us.
	projectFile = "pyproject.toml"
	table       = "mlflow-oidc-client"
)

// Settings say how to log in, and which token to show.
type Settings struct {
	Issuer       string
	ClientID     string
	ClientSecret string // or ""
	RedirectURI  string // where the provider sends the browser back to; on this machine
	Scope        string // of a login in the browser
	Audience     string
	Interactive  bool // log in with a browser, else with the secret
	UseIDToken   bool // show the ID token, else the access token
	// From is where the issuer is named: a variable, or the project's file.
	From string
}

// SettingsFrom reads the variables, and for what they leave open the block of the project's file in dir, if not "", that is for the
// tracking server uri. An empty variable counts as none. It returns nil where neither speaks of a login.
func SettingsFrom(getenv func(string) string, dir, uri string) (*Settings, error) {
	block, err := blockFor(dir, uri)
	if err != nil {
		return nil, err
	}
	// value is a setting, and the name of the place that it is from.
	value := func(variable string) (string, string) {
		if set := getenv(variable); set != "" {
			return set, variable
		}
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(variable, prefix)), "_", "-")
		if set, ok := block[key]; ok && set != nil {
			return fmt.Sprint(set), fmt.Sprintf("%s of %s", key, projectFile)
		}
		return "", variable
	}
	text := func(variable, otherwise string) string {
		if set, _ := value(variable); set != "" {
			return set
		}
		return otherwise
	}
	s := &Settings{ClientID: text(clientVariable, ""), ClientSecret: text(secretVariable, "")}
	s.Issuer, s.From = value(issuerVariable)
	if s.Issuer == "" && s.ClientID == "" && s.ClientSecret == "" && block == nil {
		return nil, nil
	}
	for _, needed := range []string{issuerVariable, clientVariable} {
		if text(needed, "") == "" {
			return nil, bad(needed, "it is not set, and the login that other variables or "+projectFile+" ask for needs it",
				fmt.Sprintf("set %s and %s, or issuer and client-id in a block [[tool.%s.tracking-servers]] of %s whose uri is %s",
					issuerVariable, clientVariable, table, projectFile, redacted(uri)))
		}
	}
	s.RedirectURI = text(redirectVariable, defaultRedirect)
	s.Scope = text(scopeVariable, defaultScope)
	s.Audience = text(audienceVariable, s.ClientID)
	public := fmt.Sprint(s.ClientSecret == "")
	s.Interactive = yes(text(interactiveVariable, public))
	s.UseIDToken = yes(text(idTokenVariable, public))
	return s, s.validate(value)
}

// yes is how the Python package reads a boolean.
func yes(text string) bool {
	switch strings.ToLower(text) {
	case "true", "yes", "1":
		return true
	}
	return false
}

// validate looks at what the network is not needed for. value says where a setting is from.
func (s *Settings) validate(value func(variable string) (text, from string)) error {
	issuer, err := url.Parse(s.Issuer)
	if err != nil || !safe(issuer) || issuer.User != nil || issuer.RawQuery != "" || issuer.Fragment != "" {
		_, from := value(issuerVariable)
		return bad(from, "it is not the URL of a provider: that begins with https, and has no user, query or fragment",
			"write it as https://login.example.com, exactly as the provider's /.well-known/openid-configuration has it")
	}
	if !s.Interactive && s.ClientSecret == "" {
		return bad(secretVariable, "it is not set, and a login without a browser needs it",
			"set it, or set "+interactiveVariable+"=true to log in with a browser")
	}
	if !s.Interactive {
		return nil
	}
	redirect, err := url.Parse(s.RedirectURI)
	if err != nil || redirect.Scheme != "http" || !loopback(redirect.Hostname()) || redirect.Port() == "" || redirect.Port() == "0" ||
		redirect.User != nil || redirect.RawQuery != "" || redirect.Fragment != "" {
		_, from := value(redirectVariable)
		return bad(from, "it is not a place on this machine that a login can come back to",
			"write it as "+defaultRedirect+", with http, a loopback address and a port, and register it with the provider")
	}
	return nil
}

// blockFor is the last block for uri in the project's file, nil where there is none. Of what else a project has in its file nothing is
// wrong for us.
func blockFor(dir, uri string) (map[string]any, error) {
	if dir == "" {
		return nil, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, projectFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.Contains(string(text), table) {
		return nil, nil
	}
	if err != nil {
		return nil, bad(projectFile, "it cannot be read", "make it readable, or run the command in another directory", err)
	}
	var project struct {
		Tool map[string]any `toml:"tool"`
	}
	if err := toml.Unmarshal(text, &project); err != nil {
		// The library's error may quote the file, which may hold a secret.
		where := ""
		if e, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := e.Position()
			where = fmt.Sprintf(": line %d, column %d", line, column)
		}
		return nil, bad(projectFile, "it is not TOML"+where, "correct it: its part tool."+table+" says how to log in at a tracking server")
	}
	ours, _ := project.Tool[table].(map[string]any)
	servers, _ := ours["tracking-servers"].([]any)
	var found map[string]any
	for _, server := range servers {
		if block, ok := server.(map[string]any); ok && uri != "" && block["uri"] == uri {
			found = block
		}
	}
	return found, nil
}

// safe tells whether what is sent to u stays between us and it.
func safe(u *url.URL) bool {
	return u.Hostname() != "" && (u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()))
}

func loopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "the tracking server's"
	}
	return u.Redacted()
}

// bad is the failure of a setting. Its value is not repeated: it may be a secret.
func bad(object, message, hint string, err ...error) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "TrackingSettingsInvalid", Object: object, Message: message, Hint: hint, Err: errors.Join(err...),
	}
}
