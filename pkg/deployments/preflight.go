package deployments

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// The checks before a deployment.
const (
	CheckKnative          = "knative"
	CheckDeploymentRights = "deployment-rights"
	CheckArchitectures    = "architectures"
	CheckImageRepository  = "image-repository"
	CheckImagePull        = "image-pull"
)

// Preflight looks for all that stands in the way of a deployment in namespace, each on its own. Without an image repository nobody
// has said that models are to be deployed: what is wrong is then a warning. It writes nothing that stays. An error is one of the
// looking itself.
func (c *Client) Preflight(ctx context.Context, namespace, imageRepository string) ([]failure.Checked, error) {
	namespace, err := c.in(namespace)
	if err != nil {
		return nil, err
	}
	var results []failure.Checked
	err = progress.Do(c.progress, "Looking at what models need", func(progress.Step) error {
		for _, check := range []struct {
			name string
			look func(ctx context.Context, r *failure.Checked) error
		}{
			{CheckKnative, func(ctx context.Context, r *failure.Checked) error { return c.checkKnative(ctx, namespace, r) }},
			{CheckDeploymentRights, func(ctx context.Context, _ *failure.Checked) error { return c.checkRights(ctx, namespace) }},
			{CheckArchitectures, c.checkArchitectures},
			{CheckImageRepository, func(ctx context.Context, r *failure.Checked) error { return c.checkRepository(ctx, imageRepository, r) }},
			{CheckImagePull, func(ctx context.Context, r *failure.Checked) error {
				return c.checkPullers(ctx, namespace, imageRepository, r)
			}},
		} {
			result := failure.Checked{Name: check.name}
			result, err := result.Fill(check.look(ctx, &result))
			if err != nil {
				return err
			}
			if imageRepository == "" {
				result = result.Warn()
			}
			results = append(results, result)
		}
		return nil
	})
	return results, err
}

// preflightName is that of a Service which is sent as a dry run alone.
const preflightName = "kubectl-mlflow-preflight"

// checkKnative tells whether Knative is there, new enough, and takes a Service.
func (c *Client) checkKnative(ctx context.Context, namespace string, r *failure.Checked) error {
	version, err := c.knative.Version(ctx)
	if err != nil {
		return err
	}
	if r.Where = version; version == "" {
		r.Where = "of an unknown version"
	}
	err = c.knative.Check(ctx, serving.Spec{Namespace: namespace, Name: preflightName, ReadyPath: "/ready", Port: 8080, Timeout: DefaultTimeout})
	f, ok := errors.AsType[*failure.Error](err)
	switch {
	case ok && f.Reason == "NamespaceNotFound":
		r.State, r.Message = failure.CheckSkipped, fmt.Sprintf("namespace %s does not exist yet, so that Knative cannot be asked whether it takes a Service", namespace)
		return nil
	case ok && f.Class == failure.Forbidden:
		*r = r.Unseen(err)
		return nil
	}
	return err
}

// checkRights tells whether one may do what deploy, predict and the waits do in the namespace.
func (c *Client) checkRights(ctx context.Context, namespace string) error {
	missing, err := c.missing(ctx, serving.Rights(namespace))
	if err != nil || len(missing) == 0 {
		return err
	}
	return cluster.RightsMissing("deploy", namespace, missing)
}

// checkArchitectures tells for which platform images will be built.
func (c *Client) checkArchitectures(ctx context.Context, r *failure.Checked) error {
	architectures, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	r.Where = strings.Join(architectures, ", ")
	switch {
	case len(architectures) == 0:
		r.State, r.Message = failure.CheckUnknown, fmt.Sprintf("you may not list nodes, or there are none: images are built for %s, unless --platform says otherwise", defaultPlatform)
	case len(architectures) == 1 && architectures[0] != "amd64" && architectures[0] != "arm64":
		return &failure.Error{
			Class: failure.Diagnosed, Reason: "ArchitectureUnknown", Message: "the nodes are of " + r.Where + ", for which MLflow has no image",
			Hint: "add nodes of amd64 or arm64, or bring an image of your own with --image",
		}
	case len(architectures) > 1:
		r.State = failure.CheckWarning
		r.Message = fmt.Sprintf("the nodes are of %s: images are built for %s", r.Where, defaultPlatform)
		r.Hint = "say --platform to deploy where they should run elsewhere, and keep the pods there"
	}
	return nil
}

// checkRepository begins an upload, and cancels it.
func (c *Client) checkRepository(ctx context.Context, name string, r *failure.Checked) error {
	if name == "" {
		r.State, r.Message = failure.CheckSkipped, "none is named: --image-repository"
		return nil
	}
	r.Where = name
	to, err := c.images(name, c.progress)
	if err != nil {
		return err
	}
	return to.CheckPush(ctx)
}

// checkPullers tells whether pods of a deployment that is new to the namespace could pull from the repository.
func (c *Client) checkPullers(ctx context.Context, namespace, name string, r *failure.Checked) error {
	if name == "" {
		r.State, r.Message = failure.CheckSkipped, "no image repository is named: --image-repository"
		return nil
	}
	r.Where = name
	to, err := c.images(name, c.progress)
	if err != nil {
		return err
	}
	d, err := c.checkPull(ctx, serving.Spec{Namespace: namespace, Name: preflightName}, name, to)
	if d.text != "" {
		r.State, r.Message, r.Hint = failure.CheckUnknown, d.text, d.hint
	}
	return err
}
