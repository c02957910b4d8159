package deployments

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/inference"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// settling is how long a pod may take to be reached, after Knative has said that the revision is ready.
const settling = 30 * time.Second

// verify asks a new revision the example that its model was logged with, once: at its tag where it is held back, else at the Service.
// It goes through the gateway, which starts a pod where the revision has scaled to zero meanwhile, and, where that may not be reached, to a
// pod that there is. Where neither may be reached, the user is told.
func (p *plan) verify(ctx context.Context, a serving.Applied) error {
	tag := ""
	if a.Held {
		tag = serving.Candidate
	}
	return progress.Do(p.progress, "Asking "+a.Revision.Name+" the model's example", func(progress.Step) error {
		endpoint, err := p.knative.Endpoint(ctx, p.spec.Namespace, p.spec.Name, tag)
		if err != nil {
			return err
		}
		if endpoint.Gateway != (cluster.ServicePort{}) {
			if err = p.ask(ctx, endpoint, p.spec, p.example, startup); failure.ClassOf(err) != failure.Forbidden {
				return p.asked(ctx, a, err)
			}
		}
		pod := serving.Endpoint{URL: endpoint.URL, Host: endpoint.Host, Gateway: serving.RevisionPort(a.Revision)}
		switch err = p.ask(ctx, pod, p.spec, p.example, settling); failure.ClassOf(err) {
		case failure.Forbidden:
		case failure.TimedOut:
			return unasked(a, err)
		default:
			return p.asked(ctx, a, err)
		}
		progress.Say(p.progress, "warning: %s could not be asked the model's example: you may reach neither gateway nor pods: %v", a.Revision.Name, err)
		return nil
	})
}

// asked takes note of the answer.
func (p *plan) asked(ctx context.Context, a serving.Applied, err error) error {
	p.result.Verified = err == nil
	return smokeFailure(ctx, p.spec, a, err)
}

// ask sends the example once the model's server answers there, which it may take so long for.
func (c *Client) ask(ctx context.Context, endpoint serving.Endpoint, spec serving.Spec, example []byte, within time.Duration) error {
	client, closer, err := c.reach(endpoint, Prediction{Name: spec.Name})
	if err != nil {
		return err
	}
	defer closer()
	// The Open Inference Protocol's readiness, and what it says of the model.
	for _, path := range []string{spec.ReadyPath, strings.TrimSuffix(spec.ReadyPath, "/ready")} {
		if err := settled(ctx, client, path, within); err != nil {
			return err
		}
	}
	_, err = client.Invoke(ctx, "application/json", example)
	return err
}

func settled(ctx context.Context, client *inference.Client, path string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return client.Ready(ctx, path)
}

// unasked is what it means that no pod of a revision is reached: it may be as good as any.
func unasked(a serving.Applied, err error) error {
	f := &failure.Error{
		Class: failure.TimedOut, Reason: "ModelNotAsked", Object: a.Revision.String(),
		Message: "no pod of it was reached to be asked the example that the model was logged with",
		Hint: "a version that has no requests has no pods after a minute or two, and only the cluster's gateway starts them again, which you may not see: " +
			"deploy with the right to it, or unasked, with --no-verify",
		Err: err,
	}
	if a.Held {
		f.Message += "; it gets no requests"
	}
	return f
}

// smokeFailure is what it means that a new version does not answer its own example.
func smokeFailure(ctx context.Context, spec serving.Spec, a serving.Applied, err error) error {
	if err == nil || ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	f := &failure.Error{
		Class: failure.Diagnosed, Reason: "SmokeTestFailed", Object: a.Revision.String(),
		Message: "it does not answer the example that the model was logged with",
		Hint:    fmt.Sprintf("see its log: kubectl mlflow deployments logs %s; --no-verify deploys without asking", spec.Name),
		Err:     err,
	}
	if a.Held {
		f.Message += ", and gets no requests"
	}
	return f
}
