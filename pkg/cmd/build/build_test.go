package build

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

type builder func(ctx context.Context, r deployments.Request) (*deployments.Built, error)

func (f builder) Build(ctx context.Context, r deployments.Request) (*deployments.Built, error) {
	return f(ctx, r)
}

func TestRun(t *testing.T) {
	denied := errors.New("not allowed")
	built := &deployments.Built{
		Image: "registry.example.com/iris@sha256:12\x1b", ModelURI: "models:/iris/3", Version: "3", Platform: "linux/arm64", EnvironmentKey: "ab",
		Timings: deployments.Timings{Resolve: 300 * time.Millisecond, Model: time.Second},
	}
	const said = "models:/iris/3 for linux/arm64: checks 0.3s, model layers 1.0s; 1.3s together\n"
	for name, c := range map[string]struct {
		output      string
		built       *deployments.Built
		err         error
		out, errOut string
	}{
		"text": {built: built, out: "registry.example.com/iris@sha256:12\\x1b\n", errOut: said},
		"yaml": {output: "yaml", built: built, errOut: said, out: `environmentKey: ab
image: "registry.example.com/iris@sha256:12\e"
modelURI: models:/iris/3
platform: linux/arm64
timings:
  apply: 0
  environment: 0
  model: 1000000000
  ready: 0
  resolve: 300000000
version: "3"
`},
		"failed": {err: denied},
	} {
		t.Run(name, func(t *testing.T) {
			streams, _, out, errOut := genericiooptions.NewTestIOStreams()
			o := Options{Streams: streams, Talk: ui.NewProgress(errOut), Output: c.output,
				Client: builder(func(context.Context, deployments.Request) (*deployments.Built, error) { return c.built, c.err })}
			if err := o.Run(t.Context()); !errors.Is(err, c.err) {
				t.Errorf("error is %v, want %v", err, c.err)
			}
			if out.String() != c.out || errOut.String() != c.errOut {
				t.Errorf("stdout %q, want %q\nstderr %q, want %q", out.String(), c.out, errOut.String(), c.errOut)
			}
		})
	}
}
