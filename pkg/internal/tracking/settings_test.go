package tracking

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// environment is a getenv of a few variables.
func environment(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// homeWith is a home directory with a credentials file.
func homeWith(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".mlflow"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, ".mlflow", "credentials")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return home
}

func TestCredentialsOfEnvironmentAndFile(t *testing.T) {
	const both = "[mlflow]\nmlflow_tracking_username = fred\nmlflow_tracking_password = f1le\n"
	for name, c := range map[string]struct {
		env  map[string]string
		file string
		want Credentials
	}{
		"environment alone": {map[string]string{"MLFLOW_TRACKING_USERNAME": "eve", "MLFLOW_TRACKING_PASSWORD": "env"}, "", Credentials{Username: "eve", Password: "env"}},
		"file alone":        {nil, both, Credentials{Username: "fred", Password: "f1le"}},
		"environment wins":  {map[string]string{"MLFLOW_TRACKING_USERNAME": "eve", "MLFLOW_TRACKING_PASSWORD": "env"}, both, Credentials{Username: "eve", Password: "env"}},
		"each for itself":   {map[string]string{"MLFLOW_TRACKING_PASSWORD": "env"}, both, Credentials{Username: "fred", Password: "env"}},
		"file is not read where it is not needed": {map[string]string{"MLFLOW_TRACKING_USERNAME": "eve", "MLFLOW_TRACKING_PASSWORD": "env"}, "broken",
			Credentials{Username: "eve", Password: "env"}},
		"token beside a file":     {map[string]string{"MLFLOW_TRACKING_TOKEN": "t"}, both, Credentials{Username: "fred", Password: "f1le", Token: "t"}},
		"of another section":      {nil, "[other]\nmlflow_tracking_username = x\n", Credentials{}},
		"defaults":                {nil, "[DEFAULT]\nmlflow_tracking_username = d\nmlflow_tracking_password = d\n[mlflow]\nmlflow_tracking_password = m", Credentials{Username: "d", Password: "m"}},
		"defaults of no section":  {nil, "[DEFAULT]\nmlflow_tracking_username = d\n", Credentials{}},
		"signs in a password":     {nil, "# c\r\n; c\r\n[mlflow]\r\nMLFLOW_Tracking_Password: a=b:c #d ;e \"f' %%s\r\n", Credentials{Password: `a=b:c #d ;e "f' %s`}},
		"password over two lines": {nil, "[mlflow]\nmlflow_tracking_password = one\n  two\n\nmlflow_tracking_username = u\n", Credentials{Username: "u", Password: "one\ntwo"}},
		"empty file":              {nil, "\n", Credentials{}},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"HOME": homeWith(t, c.file, 0o600)}
			env["USERPROFILE"] = env["HOME"]
			for k, v := range c.env {
				env[k] = v
			}
			s, err := withFile(env)
			if err != nil || s.Credentials != c.want || s.Exposed != "" {
				t.Errorf("%+v, %v; want %+v", s, err, c.want)
			}
		})
	}
	for name, env := range map[string]map[string]string{"no home": nil, "no file": {"HOME": t.TempDir()}, "home is a file": {"HOME": "/dev/null"}} {
		if s, err := withFile(env); err != nil || s != (Settings{}) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestCredentialsFileThatIsNone(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no section":      {"mlflow_tracking_password = s3cret\n", "line 1: there is no [section] before it"},
		"no value":        {"[mlflow]\n\ns3cret\n", "line 3: it is not KEY = VALUE"},
		"no key":          {"[mlflow]\n= s3cret\n", "line 2: it is not KEY = VALUE"},
		"key twice":       {"[mlflow]\nmlflow_tracking_password = s3cret\nMLFLOW_TRACKING_PASSWORD = s3cret\n", "line 3: a key for the second time"},
		"section twice":   {"[mlflow]\n[x]\n[mlflow]\nk = s3cret\n", "line 3: a section for the second time"},
		"single percent":  {"[mlflow]\nmlflow_tracking_password = %s3cret\n", "mlflow_tracking_password has a percent sign that is not doubled"},
		"a reference":     {"[mlflow]\nmlflow_tracking_username = %(s3cret)s\n", "mlflow_tracking_username has a percent sign"},
		"three percents":  {"[mlflow]\nmlflow_tracking_username = s3cret%%%\n", "mlflow_tracking_username has a percent sign"},
		"other file kind": {"{\"password\": \"s3cret\"}", "line 1: there is no [section] before it"},
	} {
		t.Run(name, func(t *testing.T) {
			home := homeWith(t, c.text, 0o600)
			_, err := withFile(map[string]string{"HOME": home, "USERPROFILE": home})
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Class != failure.Invalid || e.Object != filepath.Join(home, ".mlflow", "credentials") || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error = %v", err)
			}
			if strings.Contains(err.Error()+e.Hint, "s3cret") || !strings.Contains(e.Hint, "mlflow_tracking_password = …, with %% for") {
				t.Errorf("error = %v, hint = %s", err, e.Hint)
			}
		})
	}
}

func TestCredentialsFileThatOthersMayRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	for mode, exposed := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o644: true} {
		home := homeWith(t, "[mlflow]\nmlflow_tracking_username = u\n", mode)
		s, err := withFile(map[string]string{"HOME": home})
		if err != nil || s.Username != "u" || (s.Exposed == filepath.Join(home, ".mlflow", "credentials")) != exposed {
			t.Errorf("%s: %+v, %v", mode, s, err)
		}
	}
}

// withFile are the settings for a server that was named.
func withFile(env map[string]string) (Settings, error) {
	s, err := SettingsFrom(environment(env))
	if err != nil {
		return s, err
	}
	return s.WithFile(environment(env))
}

func TestSettingsOfTheEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want Settings
		bad  string // variable and words of the failure
	}{
		"workspace":          {map[string]string{"MLFLOW_WORKSPACE": " team-a "}, Settings{Workspace: "team-a"}, ""},
		"insecure":           {map[string]string{"MLFLOW_TRACKING_INSECURE_TLS": "True"}, Settings{Insecure: true}, ""},
		"insecure by number": {map[string]string{"MLFLOW_TRACKING_INSECURE_TLS": "1"}, Settings{Insecure: true}, ""},
		"secure":             {map[string]string{"MLFLOW_TRACKING_INSECURE_TLS": "0", "MLFLOW_TRACKING_SERVER_CERT_PATH": "ca.pem"}, Settings{ServerCert: "ca.pem"}, ""},
		"perhaps":            {map[string]string{"MLFLOW_TRACKING_INSECURE_TLS": "yes"}, Settings{}, "MLFLOW_TRACKING_INSECURE_TLS: it is neither true nor false"},
		"both": {map[string]string{"MLFLOW_TRACKING_INSECURE_TLS": "true", "MLFLOW_TRACKING_SERVER_CERT_PATH": "ca.pem"}, Settings{},
			"MLFLOW_TRACKING_INSECURE_TLS: it is set together with MLFLOW_TRACKING_SERVER_CERT_PATH"},
		"token of two lines":     {map[string]string{"MLFLOW_TRACKING_TOKEN": "s3cret\nX-Evil: 1"}, Settings{}, "MLFLOW_TRACKING_TOKEN: it has line breaks"},
		"workspace of two lines": {map[string]string{"MLFLOW_WORKSPACE": "s3cret\r\nX-Evil: 1"}, Settings{}, "MLFLOW_WORKSPACE: it has line breaks"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := SettingsFrom(environment(c.env))
			if s != c.want || (err == nil) != (c.bad == "") {
				t.Errorf("%+v, %v; want %+v", s, err, c.want)
			}
			if err != nil && (failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.bad) || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("error = %v; want %s", err, c.bad)
			}
		})
	}
}
