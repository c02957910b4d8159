package parameters

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// stdin is the name of the file that is standard input.
const stdin = "-"

// maxSecret is how much of a file with a secret is read.
const maxSecret = 64 << 10

// ApplyFlags are those of the commands that write an installation: how, and with which secrets.
type ApplyFlags struct {
	forceConflicts   bool
	fieldManager     string
	databasePassword string
	adminPassword    string
	googleKey        string
	cloudSQLKey      string
}

// AddApply makes the flags.
func AddApply(flags *pflag.FlagSet) *ApplyFlags {
	f := &ApplyFlags{}
	flags.BoolVar(&f.forceConflicts, "force-conflicts", false, "Take fields that another manager has set, instead of refusing")
	flags.StringVar(&f.fieldManager, "field-manager", "", "Name under which fields are owned. Default: kubectl-mlflow")
	flags.StringVar(&f.databasePassword, "database-password-file", "", "File with the database user's password, - for standard input. Default: as made before, or else a new one")
	flags.StringVar(&f.adminPassword, "admin-password-file", "", "File with the password of basic-auth's user admin, - for standard input. Default: as made before, or else a new one")
	flags.StringVar(&f.googleKey, "google-key-file", "", "File with the exported key of the Google service account of MLflow's pods, as JSON, - for standard input")
	flags.StringVar(&f.cloudSQLKey, "cloudsql-key-file", "", "File with the exported key of the Google service account of the Cloud SQL proxy, as JSON, - for standard input")
	return f
}

// Options reads the files. in is standard input.
func (f *ApplyFlags) Options(in io.Reader, say func(line string)) (trackingserver.Options, error) {
	o := trackingserver.Options{ForceConflicts: f.forceConflicts, FieldManager: f.fieldManager, Say: say}
	used := ""
	for _, secret := range []struct {
		flag, file string
		into       *string
		check      func(string) (string, error)
	}{
		{"--database-password-file", f.databasePassword, &o.Secrets.DatabasePassword, password},
		{"--admin-password-file", f.adminPassword, &o.Secrets.AdminPassword, password},
		{"--google-key-file", f.googleKey, &o.Secrets.GoogleKey, key},
		{"--cloudsql-key-file", f.cloudSQLKey, &o.Secrets.CloudSQLKey, key},
	} {
		if secret.file == "" {
			continue
		}
		if secret.file == stdin {
			if used != "" {
				return o, invalid(secret.flag, "standard input is read for "+used+" already", "give one of them as a file")
			}
			used = secret.flag
		}
		text, err := readSecret(secret.file, in)
		if err == nil {
			*secret.into, err = secret.check(text)
		}
		if err != nil {
			return o, &failure.Error{
				Class: failure.Invalid, Reason: "SecretFile", Object: secret.file, Message: secret.flag + " cannot be used",
				Hint: "name a file that holds the secret and nothing else", Err: err,
			}
		}
	}
	return o, nil
}

func readSecret(name string, in io.Reader) (string, error) {
	if name != stdin {
		file, err := os.Open(name) //nolint:gosec // the user's own file
		if err != nil {
			return "", err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSecret+1))
	if err == nil && len(text) > maxSecret {
		err = fmt.Errorf("it has more than %d bytes", maxSecret)
	}
	return string(text), err
}

// password is one line. The line break that editors and echo put at its end is no part of it.
func password(text string) (string, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	switch {
	case text == "":
		return "", errors.New("it is empty")
	case strings.ContainsAny(text, "\r\n\x00"):
		return "", errors.New("it has more than one line")
	}
	return text, nil
}

// key is the JSON of an exported key. The text of a parser's error could be part of the key.
func key(text string) (string, error) {
	var fields struct {
		Type string `json:"type"`
	}
	if json.Unmarshal([]byte(text), &fields) != nil || fields.Type == "" {
		return "", errors.New("it is no key as `gcloud iam service-accounts keys create` writes it")
	}
	return text, nil
}
