package deployments

import (
	"context"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
)

// RegistryLogin is where a registry's credentials were stored, or removed from.
type RegistryLogin = registry.Login

// LogIn stores credentials for the registry that images go to, as docker login does, once the registry has accepted them. getenv finds
// Docker's configuration (DOCKER_CONFIG). failure.Forbidden where the registry does not accept them: nothing is stored then.
func LogIn(ctx context.Context, getenv func(string) string, host, username, password string) (RegistryLogin, error) {
	return registry.LogIn(ctx, getenv, host, username, password)
}

// LogOut removes what LogIn, or docker login, has stored. failure.Invalid where there is nothing.
func LogOut(getenv func(string) string, host string) (RegistryLogin, error) {
	return registry.LogOut(getenv, host)
}
