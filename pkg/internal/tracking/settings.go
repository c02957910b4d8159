package tracking

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// The variables of MLflow's clients, as in mlflow.environment_variables.
const (
	usernameVariable   = "MLFLOW_TRACKING_USERNAME"
	passwordVariable   = "MLFLOW_TRACKING_PASSWORD" //nolint:gosec // a name
	tokenVariable      = "MLFLOW_TRACKING_TOKEN"    //nolint:gosec // a name
	serverCertVariable = "MLFLOW_TRACKING_SERVER_CERT_PATH"
	clientCertVariable = "MLFLOW_TRACKING_CLIENT_CERT_PATH"
	insecureVariable   = "MLFLOW_TRACKING_INSECURE_TLS"
	workspaceVariable  = "MLFLOW_WORKSPACE"
)

// Credentials are what MLflow's clients show to a server.
type Credentials struct{ Username, Password, Token string }

// Usable tells whether there is something to show: one of username and password alone counts for nothing.
func (c Credentials) Usable() bool { return c.Username != "" && c.Password != "" || c.Token != "" }

// Settings are what MLflow's clients take from the user's environment for their way to a server.
type Settings struct {
	Credentials
	Workspace  string // to work in, or "" for the server's default
	ServerCert string // file or directory of the authorities to trust, or "" for the system's
	ClientCert string // file with a certificate and its key, or ""
	Insecure   bool   // any server's certificate will do
	Exposed    string // the credentials file, where others than its owner may read it, or ""
	Login      Login  // for who has no credentials, or nil
}

// SettingsFrom reads the variables, as mlflow.utils.credentials does; an empty one counts as none. Certificates are read by Transport,
// when it is known that they are needed.
func SettingsFrom(getenv func(string) string) (Settings, error) {
	s := Settings{
		Credentials: Credentials{Username: getenv(usernameVariable), Password: getenv(passwordVariable), Token: getenv(tokenVariable)},
		Workspace:   strings.TrimSpace(getenv(workspaceVariable)),
		ServerCert:  getenv(serverCertVariable),
		ClientCert:  getenv(clientCertVariable),
	}
	switch strings.ToLower(getenv(insecureVariable)) {
	case "true", "1":
		s.Insecure = true
	case "", "false", "0":
	default:
		return Settings{}, badVariable(insecureVariable, "it is neither true nor false", "set it to true or false, or unset it")
	}
	if s.Insecure && s.ServerCert != "" {
		return Settings{}, badVariable(insecureVariable, "it is set together with "+serverCertVariable,
			"unset one of them: "+insecureVariable+" trusts everybody, "+serverCertVariable+" those in the file")
	}
	for variable, value := range map[string]string{tokenVariable: s.Token, workspaceVariable: s.Workspace} {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return Settings{}, badVariable(variable, "it has line breaks or other control characters, which no HTTP header can have", "set it to one line")
		}
	}
	return s, nil
}

// WithFile fills what is missing of username and password from the file .mlflow/credentials in the home directory that getenv names.
func (s Settings) WithFile(getenv func(string) string) (Settings, error) {
	if s.Username != "" && s.Password != "" {
		return s, nil
	}
	home := getenv("HOME")
	if runtime.GOOS == "windows" { // where Python's expanduser looks
		home = getenv("USERPROFILE")
	}
	if home == "" {
		return s, nil
	}
	file, err := readCredentialsFile(filepath.Join(home, ".mlflow", "credentials"))
	if err != nil {
		return Settings{}, err
	}
	for key, value := range map[string]*string{usernameVariable: &s.Username, passwordVariable: &s.Password} {
		if *value != "" {
			continue
		}
		if *value, err = file.get(key); err != nil {
			return Settings{}, err
		}
	}
	s.Exposed = file.exposed
	return s, nil
}

// credentialsFile is what there is in the user's file; none at all where there is no file.
type credentialsFile struct {
	path    string
	options options
	exposed string // path, or ""
}

func readCredentialsFile(path string) (credentialsFile, error) {
	file := credentialsFile{path: path}
	info, err := os.Stat(path)
	if err != nil {
		return file, nil // MLflow, too, takes a file that it cannot see for none: HOME may be another user's
	}
	text, err := os.ReadFile(path) //nolint:gosec // the user's own file, where MLflow has it
	if err != nil {
		return file, file.bad("it cannot be read", err)
	}
	if file.options, err = parseINI(string(text)); err != nil {
		return file, file.bad("it is not a credentials file of MLflow", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o044 != 0 { // Windows has no such bits
		file.exposed = path
	}
	return file, nil
}

// get is the value of variable's key, or "".
func (f credentialsFile) get(variable string) (string, error) {
	value, err := f.options.get("mlflow", strings.ToLower(variable))
	if err != nil {
		return "", f.bad("it is not a credentials file of MLflow", err)
	}
	return value, nil
}

// bad is the failure of the file. err says nothing of its content.
func (f credentialsFile) bad(message string, err error) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "CredentialsFileInvalid", Object: f.path, Message: message,
		Hint: fmt.Sprintf("it has a line [mlflow], and below it %s = … and %s = …, with %%%% for a percent sign; "+
			"where %s and %s are set, it is not read",
			strings.ToLower(usernameVariable), strings.ToLower(passwordVariable), usernameVariable, passwordVariable),
		Err: err,
	}
}

// badVariable is the failure of a variable. Its value is not repeated: it may be a secret.
func badVariable(name, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "TrackingSettingsInvalid", Object: name, Message: message, Hint: hint}
}
