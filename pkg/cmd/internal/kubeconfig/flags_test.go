package kubeconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
)

// kubectls are the flags of kubectl itself.
func kubectls() (*genericclioptions.ConfigFlags, *pflag.FlagSet) {
	config, flags := genericclioptions.NewConfigFlags(false), pflag.NewFlagSet("kubectl", pflag.ContinueOnError)
	config.AddFlags(flags)
	return config, flags
}

func ours() (*Flags, *pflag.FlagSet) {
	config, flags := New(), pflag.NewFlagSet("ours", pflag.ContinueOnError)
	config.AddFlags(flags)
	return config, flags
}

func TestTheFlagsAreKubectls(t *testing.T) {
	list := func(flags *pflag.FlagSet) map[string][3]string {
		found := map[string][3]string{}
		flags.VisitAll(func(f *pflag.Flag) {
			found[f.Name] = [3]string{f.Shorthand, f.Value.Type(), strings.Trim(f.DefValue, "[]")}
		})
		return found
	}
	_, want := kubectls()
	_, got := ours()
	if diff := cmp.Diff(list(want), list(got)); diff != "" {
		t.Errorf("-kubectl's +ours:\n%s", diff)
	}
}

const twoClusters = `apiVersion: v1
kind: Config
current-context: one
clusters:
  - {name: one, cluster: {server: "https://one.example.com"}}
  - {name: two, cluster: {server: "https://two.example.com", insecure-skip-tls-verify: true}}
users:
  - {name: ada, user: {token: adas}}
  - {name: bob, user: {username: bob, password: bobs}}
contexts:
  - {name: one, context: {cluster: one, user: ada, namespace: models}}
  - {name: two, context: {cluster: two, user: bob}}
`

func TestTheFlagsMeanWhatTheyMeanToKubectl(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(twoClusters), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
	for name, args := range map[string][]string{
		"none":            nil,
		"context":         {"--context", "two"},
		"unknown context": {"--context", "three"},
		"namespace":       {"-n", "a"},
		"cluster, user":   {"--cluster", "two", "--user", "ada"},
		"kubeconfig":      {"--kubeconfig", filepath.Join(t.TempDir(), "missing")},
		"server, token":   {"-s", "http://127.0.0.1:1", "--token", "secret", "--request-timeout", "3s"},
		"impersonation":   {"--as", "ada", "--as-uid", "7", "--as-group", "a", "--as-group", "b", "--as-user-extra", "k=1", "--as-user-extra", "k=2=3"},
		"TLS": {"--certificate-authority", "ca", "--client-certificate", "cert", "--client-key", "key", "--tls-server-name", "name",
			"--disable-compression"},
		"no verification": {"--insecure-skip-tls-verify"},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, theirFlags := kubectls()
			mine, myFlags := ours()
			for _, flags := range []*pflag.FlagSet{theirFlags, myFlags} {
				if err := flags.Parse(args); err != nil {
					t.Fatal(err)
				}
			}
			want, wantErr := theirs.ToRESTConfig()
			got, err := mine.ToRESTConfig()
			if text(err) != text(wantErr) {
				t.Errorf("error %q, kubectl's is %q", text(err), text(wantErr))
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(rest.Config{}), cmpopts.IgnoreFields(rest.Config{}, "WarningHandler")); diff != "" {
				t.Errorf("-kubectl's +ours:\n%s", diff)
			}
			wantNamespace, wantExplicit, _ := theirs.ToRawKubeConfigLoader().Namespace()
			namespace, explicit, _ := mine.ToRawKubeConfigLoader().Namespace()
			if namespace != wantNamespace || explicit != wantExplicit {
				t.Errorf("namespace %q (%v), kubectl's is %q (%v)", namespace, explicit, wantNamespace, wantExplicit)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestUseContextWrapAndBadExtra(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(twoClusters), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
	config, flags := ours()
	config.Wrap = func(c *rest.Config) *rest.Config {
		c.UserAgent = "me"
		return c
	}
	config.UseContext("two")
	got, err := config.ToRESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	if got.Host != "https://two.example.com" || got.UserAgent != "me" {
		t.Errorf("host %s, user agent %s", got.Host, got.UserAgent)
	}
	if err := flags.Parse([]string{"--as-user-extra", "key"}); err == nil {
		t.Error("an extra without a value was taken")
	}
}
