package deployments

import (
	"cmp"
	"context"
	"fmt"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/servingruntime"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// validateImage is Validate for a request that names an image.
func (r Request) validateImage() error {
	if r.ModelURI != "" || r.ImageRepository != "" || r.ImageTag != "" || r.Rebuild || r.BaseImage != "" || r.EnvironmentImage != "" || r.TorchBackend != "" ||
		len(r.Apt) > 0 || r.Builder != "" || r.ModelServer != "" || r.TrackingService != "" {
		return invalid("ImageConflict", "an image is deployed as it is: none is built, and no model is read", "leave out the model URI and what is about building, or the image")
	}
	if _, err := registry.Open(repositoryOf(r.Image)); err != nil {
		return invalid("ImageNameInvalid", fmt.Sprintf("%q is not the name of an image", r.Image), "write it as 'kubectl mlflow build' prints it: registry.example.com/models/iris@sha256:…")
	}
	return nil
}

// checkImage finds out what an image serves, from the labels that it was made with, and whether the cluster takes it.
func (c *Client) checkImage(ctx context.Context, r Request, d *deployment, s progress.Step) error {
	repository := repositoryOf(r.Image)
	to, err := c.images(repository, c.progress)
	if err != nil {
		return err
	}
	platform, err := c.platform(ctx, r.Platform, toDeploy, s)
	if err != nil {
		return err
	}
	image, err := to.ResolveBase(ctx, r.Image, "")
	if err != nil {
		return err
	}
	labels, err := to.Labels(ctx, image, platform)
	if err != nil {
		return err
	}
	if labels[serving.ModelURIKey] == "" || labels[serving.EnvironmentKey] == "" {
		return &failure.Error{
			Class: failure.Invalid, Reason: "NotAModelImage", Object: r.Image, Message: "it does not say which model it serves: it was not made by kubectl mlflow",
			Hint: "make one: kubectl mlflow build " + r.Name + " MODEL_URI",
		}
	}
	if d.present, err = c.lookUp(ctx, r); err != nil {
		return err
	}
	runtime, err := servingruntime.OfImage(cmp.Or(d.modelName(), r.Name))
	if err != nil {
		return err
	}
	annotations := map[string]string{}
	for _, key := range []string{serving.ModelURIKey, serving.EnvironmentKey, serving.VersionKey, serving.RunIDKey} {
		if labels[key] != "" {
			annotations[key] = labels[key]
		}
	}
	d.uri, d.version.Version = labels[serving.ModelURIKey], labels[serving.VersionKey]
	d.images = to
	d.example = []byte(labels[serving.ExampleKey])
	if d.spec, err = r.spec(runtime, d, annotations); err != nil {
		return err
	}
	d.spec.Image = image
	return together(ctx,
		func(ctx context.Context) error { return c.knative.Check(ctx, d.spec) },
		func(ctx context.Context) error { return c.tellPull(ctx, r, repository, to) },
	)
}
