package cmd

import (
	"errors"
	"fmt"
	"io/fs"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// getter is ConfigFlags with failures that say what to do. Where there is no kubeconfig at all, kubectl tries
// localhost:8080; nobody who has no kubeconfig means that.
type getter struct {
	*genericclioptions.ConfigFlags
}

func (g *getter) ToRESTConfig() (*rest.Config, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	return g.ConfigFlags.ToRESTConfig()
}

func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	return g.ConfigFlags.ToDiscoveryClient()
}

func (g *getter) ToRESTMapper() (meta.RESTMapper, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	return g.ConfigFlags.ToRESTMapper()
}

// check loads the kubeconfig and looks whether it, with the flags, names a cluster.
func (g *getter) check() error {
	loader := g.ToRawKubeConfigLoader()
	_, err := loader.ClientConfig()
	switch {
	case err == nil:
	case clientcmd.IsContextNotFound(err):
		return &failure.Error{Class: failure.Invalid, Reason: "ContextNotFound",
			Message: fmt.Sprintf("the kubeconfig has no context %q", *g.Context),
			Hint:    "`kubectl config get-contexts` lists those it has",
		}
	default:
		fmt.Printf("DEBUG %T %v %v %v\n", err, err, errors.Is(err, fs.ErrNotExist), clientcmd.IsEmptyConfig(err))
	}
	return err
}
