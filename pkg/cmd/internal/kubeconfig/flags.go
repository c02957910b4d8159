// Package kubeconfig is kubectl's flags that choose a cluster and a user. cli-runtime's ConfigFlags has them as well, but brings
// in every type of Kubernetes with its protobuf code, through a discovery client that nobody here asks for: 9 MB.
package kubeconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/homedir"
)

// Flags finds the cluster that the command line and the kubeconfig name.
type Flags struct {
	// Wrap changes what a client is made from.
	Wrap func(*rest.Config) *rest.Config

	file      string
	overrides clientcmd.ConfigOverrides
}

// New makes flags with their defaults.
func New() *Flags {
	return &Flags{
		Wrap:      func(c *rest.Config) *rest.Config { return c },
		overrides: clientcmd.ConfigOverrides{ClusterDefaults: clientcmd.ClusterDefaults},
	}
}

// AddFlags binds them to a flag set.
func (f *Flags) AddFlags(flags *pflag.FlagSet) {
	names := clientcmd.RecommendedConfigOverrideFlags("")
	// As in kubectl: a password is no argument, and a proxy stands in the kubeconfig.
	names.AuthOverrideFlags.Username.LongName, names.AuthOverrideFlags.Password.LongName = "", ""
	names.ClusterOverrideFlags.ProxyURL.LongName = ""
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	clientcmd.BindOverrideFlags(&f.overrides, flags, names)
	flags.StringVar(&f.file, "kubeconfig", "", "Path to the kubeconfig file to use for CLI requests.")
	flags.String("cache-dir", cacheDir(), "Default cache directory of kubectl; nothing is cached here")
	f.overrides.AuthInfo.ImpersonateUserExtra = map[string][]string{}
	flags.Var(userExtra(f.overrides.AuthInfo.ImpersonateUserExtra), "as-user-extra",
		"User extras to impersonate for the operation, this flag can be repeated to specify multiple values for the same key.")
}

// UseContext chooses a context, as --context does.
func (f *Flags) UseContext(name string) { f.overrides.CurrentContext = name }

// ToRESTConfig is what a client of the cluster is made from.
func (f *Flags) ToRESTConfig() (*rest.Config, error) {
	config, err := f.ToRawKubeConfigLoader().ClientConfig()
	if err != nil {
		return nil, err
	}
	return f.Wrap(config), nil
}

// ToRawKubeConfigLoader reads the kubeconfig anew with each loader.
func (f *Flags) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.DefaultClientConfig = &clientcmd.DefaultClientConfig
	rules.ExplicitPath = f.file
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &f.overrides)
}

func cacheDir() string {
	if dir := os.Getenv("KUBECACHEDIR"); dir != "" {
		return dir
	}
	return filepath.Join(homedir.HomeDir(), ".kube", "cache")
}

// userExtra is a flag's values by their keys.
type userExtra map[string][]string

func (u userExtra) String() string { return "" }
func (u userExtra) Type() string   { return "stringArray" }

func (u userExtra) Set(text string) error {
	key, value, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("%q is not KEY=VALUE", text)
	}
	u[key] = append(u[key], value)
	return nil
}
