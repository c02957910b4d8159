package deployments

import (
	"context"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/docker"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/uv"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/servingruntime"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// images makes images in one repository.
type images interface {
	CheckPush(ctx context.Context) error
	CheckPull(ctx context.Context, secrets []registry.PullSecret) (registry.Pull, error)
	ResolveBase(ctx context.Context, base, python string) (string, error)
	Given(ctx context.Context, image string, e image.Environment) (image.Environment, []string, error)
	Make(ctx context.Context, e image.Environment, c image.Content) (image.Made, error)
	// Labels are those of an image for a platform.
	Labels(ctx context.Context, image, platform string) (map[string]string, error)
}

// imageRepository is a repository with all that makes images in it.
type imageRepository struct {
	*registry.Repository
	*image.Maker
}

func (i imageRepository) Labels(ctx context.Context, image, platform string) (map[string]string, error) {
	config, err := i.Config(ctx, image, platform)
	if err != nil {
		return nil, err
	}
	return config.Config.Labels, nil
}

func openImages(name string, getenv func(string) string, r progress.Reporter) (images, error) {
	to, err := registry.Open(name, registry.WithWarnings(func(format string, args ...any) { progress.Say(r, format, args...) }))
	if err != nil {
		return nil, err
	}
	launcher, err := servingruntime.Launcher()
	if err != nil {
		return nil, err
	}
	warn := func(text string) { progress.Say(r, "Warning: %s", text) }
	builders := []image.Builder{&uv.Builder{Launcher: launcher, Warn: warn}, &docker.Builder{Launcher: launcher, Getenv: getenv, Warn: warn}}
	return imageRepository{to, &image.Maker{Repository: to, Builders: builders, Progress: r}}, nil
}
