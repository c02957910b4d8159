package deployments

import (
	"context"
	"fmt"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// hold tells whether the new version has to show something before it gets requests.
func (r Request) hold(example []byte) bool {
	return r.Canary > 0 || r.verify(example)
}

// verify tells whether the new version is asked its example.
func (r Request) verify(example []byte) bool { return len(example) > 0 && !r.NoVerify }

// rollOut writes the Service, waits for the revision, asks it the model's example, and gives it the requests. What fails before the
// last step leaves them with those who have them.
func (p *plan) rollOut(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.request.timeout())
	defer cancel()
	timings := &p.result.Timings
	var applied serving.Applied
	err := timed(&timings.Apply, func() (err error) { applied, err = p.apply(ctx); return err })
	if err != nil {
		return err
	}
	if err := timed(&timings.Ready, func() error { return p.ready(ctx, applied) }); err != nil {
		return err
	}
	if p.request.verify(p.example) && (applied.Held || applied.Doubted || applied.Action != serving.Unchanged) {
		err := timed(&timings.Verify, func() error { return p.verify(ctx, applied) })
		if err := p.remember(ctx, applied, err); err != nil {
			return err
		}
	}
	if applied.Held {
		if err := timed(&timings.Traffic, func() error { return p.promote(ctx, applied) }); err != nil {
			return err
		}
	}
	deployed, err := p.knative.Get(ctx, p.request.Namespace, p.request.Name)
	p.result.URL = deployed.URL
	return err
}

// remember returns err, with which the revision answered its example or did not. Of the first version, which serves all the same, it is kept
// on the Service: to the same command again, nothing has changed, and it must not call that well.
func (p *plan) remember(ctx context.Context, applied serving.Applied, err error) error {
	doubted := failure.ClassOf(err) == failure.Diagnosed
	heard := doubted || p.result.Verified // else nobody could be asked
	if applied.Held || !heard || doubted == applied.Doubted {
		return err
	}
	if kept := p.knative.Doubt(ctx, applied, doubted); kept != nil {
		if err == nil {
			return kept
		}
		progress.Say(p.progress, "warning: that it does not answer could not be kept on %s: %v", applied.Service, kept)
	}
	return err
}

func timed(took *time.Duration, work func() error) error {
	began := time.Now()
	err := work()
	*took = time.Since(began)
	return err
}

// apply writes the Service.
func (p *plan) apply(ctx context.Context) (applied serving.Applied, err error) {
	err = progress.Do(p.progress, fmt.Sprintf("Applying Knative Service %s in namespace %s", p.spec.Name, p.spec.Namespace), func(s progress.Step) error {
		if applied, err = p.knative.Apply(ctx, p.spec); err == nil {
			s.Note(applied.Action)
		}
		return err
	})
	p.result.Action, p.result.Revision, p.result.Traffic = applied.Action, applied.Revision.Name, applied.Shares
	if applied.Keeper != "" && applied.Action != serving.Unchanged {
		progress.Say(p.progress, "warning: %s is kept by %s, which may put its own version back", applied.Service, applied.Keeper)
	}
	return applied, err
}

// ready waits for the revision, and for the gateway to send it what it is to get so far.
func (p *plan) ready(ctx context.Context, applied serving.Applied) error {
	return progress.Do(p.progress, "Waiting for revision "+applied.Revision.Name, func(s progress.Step) error {
		revision := readiness.Target{Object: applied.Revision, Pods: serving.Pods(applied.Revision.Name), Status: serving.RevisionStatus, Alone: true}
		if err := p.wait(ctx, []readiness.Target{revision}, s); err != nil {
			return err
		}
		return p.routed(ctx, applied, s)
	})
}

// promote gives a revision that was held back its requests.
func (p *plan) promote(ctx context.Context, applied serving.Applied) error {
	percent := p.request.Canary
	if percent == 0 {
		percent = 100
	}
	return progress.Do(p.progress, fmt.Sprintf("Giving %s %d %% of the requests", applied.Revision.Name, percent), func(s progress.Step) error {
		promoted, err := p.knative.Promote(ctx, applied, percent)
		if err != nil {
			return err
		}
		p.result.Action, p.result.Traffic = promoted.Action, promoted.Shares
		return p.routed(ctx, promoted, s)
	})
}

// routed waits until the gateway gives the requests as a asked. failure.Refused where somebody else has asked otherwise since.
func (c *Client) routed(ctx context.Context, a serving.Applied, s progress.Step) error {
	reason, judge := "", serving.RouteStatus(a)
	err := c.wait(ctx, []readiness.Target{{Object: a.Service, Status: func(service *unstructured.Unstructured) (*status.Result, error) {
		result, err := judge(service)
		if reason = ""; err == nil && len(result.Conditions) > 0 {
			reason = result.Conditions[0].Reason
		}
		return result, err
	}}}, s)
	if err != nil && (reason == serving.Superseded || reason == serving.TrafficChanged) {
		return serving.Overtaken(a.Service, reason)
	}
	return err
}
