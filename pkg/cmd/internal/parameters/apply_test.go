package parameters

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

func TestSecretsAreReadFromFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const account = `{"type": "service_account", "private_key": "s3cret"}`
	for _, c := range []struct {
		name string
		args []string
		in   string
		want trackingserver.GivenSecrets
		says string
	}{
		{name: "nothing", want: trackingserver.GivenSecrets{}},
		{name: "a line", args: []string{"--database-password-file", file("line", "s3cret\n")}, want: trackingserver.GivenSecrets{DatabasePassword: "s3cret"}},
		{name: "Windows", args: []string{"--admin-password-file", file("crlf", "s3cret\r\n")}, want: trackingserver.GivenSecrets{AdminPassword: "s3cret"}},
		{name: "blanks stay", args: []string{"--database-password-file", file("blanks", " s3cret ")}, want: trackingserver.GivenSecrets{DatabasePassword: " s3cret "}},
		{name: "standard input", args: []string{"--database-password-file", "-"}, in: "s3cret\n", want: trackingserver.GivenSecrets{DatabasePassword: "s3cret"}},
		{name: "a key", args: []string{"--google-key-file", file("key", account)}, want: trackingserver.GivenSecrets{GoogleKey: account}},
		{name: "empty", args: []string{"--database-password-file", file("empty", "\n")}, says: "empty"},
		{name: "two lines", args: []string{"--database-password-file", file("two", "s3cret\ns3cret\n")}, says: "more than one line"},
		{name: "no key", args: []string{"--cloudsql-key-file", file("nokey", "s3cret")}, says: "it is no key"},
		{name: "too long", args: []string{"--database-password-file", file("long", strings.Repeat("s3cret", maxSecret))}, says: "more than"},
		{name: "absent", args: []string{"--database-password-file", filepath.Join(dir, "absent")}, says: "no such file"},
		{name: "standard input twice", args: []string{"--database-password-file", "-", "--admin-password-file", "-"}, in: "s3cret", says: "already"},
	} {
		t.Run(c.name, func(t *testing.T) {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			f := AddApply(flags)
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			o, err := f.Options(strings.NewReader(c.in), nil)
			if c.says == "" {
				if err != nil || o.Secrets != c.want {
					t.Errorf("got %v, %v", o.Secrets == c.want, err)
				}
				return
			}
			if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want it invalid with %q", err, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Error("the error tells the secret")
			}
		})
	}
}
