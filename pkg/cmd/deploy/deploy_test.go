package deploy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

type deployer func(ctx context.Context, r deployments.Request) (*deployments.Result, error)

func (f deployer) Deploy(ctx context.Context, r deployments.Request) (*deployments.Result, error) {
	return f(ctx, r)
}

func TestRun(t *testing.T) {
	broken := errors.New("no Knative here")
	result := func(action string) *deployments.Result {
		return &deployments.Result{
			Name: "iris", Action: action, URL: "http://iris.example.com\x1b[2J", ModelURI: "models:/iris/3", Example: true,
			Timings: deployments.Timings{Resolve: 300 * time.Millisecond, Model: time.Second, Ready: 6 * time.Second},
		}
	}
	for name, c := range map[string]struct {
		result      *deployments.Result
		err         error
		out, errOut string
	}{
		"created": {result: result("created"), out: "http://iris.example.com\\x1b[2J\n",
			errOut: "iris created: checks 0.3s, model layers 1.0s, ready 6.0s; 7.3s together\nNext: kubectl mlflow predict iris true\n"},
		"unchanged": {result: result("unchanged"), out: "http://iris.example.com\\x1b[2J\n",
			errOut: "iris already serves models:/iris/3; nothing changed\nNext: kubectl mlflow predict iris true\n"},
		"failed": {err: broken},
	} {
		t.Run(name, func(t *testing.T) {
			streams, _, out, errOut := genericiooptions.NewTestIOStreams()
			o := Options{Streams: streams, Talk: ui.NewProgress(errOut), Next: func(example bool) string { return fmt.Sprintf("kubectl mlflow predict iris %t", example) },
				Client: deployer(func(context.Context, deployments.Request) (*deployments.Result, error) { return c.result, c.err })}
			if err := o.Run(t.Context()); !errors.Is(err, c.err) {
				t.Errorf("error is %v, want %v", err, c.err)
			}
			if out.String() != c.out || errOut.String() != c.errOut {
				t.Errorf("stdout %q, want %q\nstderr %q, want %q", out.String(), c.out, errOut.String(), c.errOut)
			}
		})
	}
}

func TestWhatIsSaidOfTheRolloutReachesTheRequest(t *testing.T) {
	flags, set := NewFlags(), pflag.NewFlagSet("deploy", pflag.ContinueOnError)
	flags.Add(set)
	if err := set.Parse([]string{"--canary", "10", "--no-verify", "--adopt"}); err != nil {
		t.Fatal(err)
	}
	o, err := flags.ToOptions([]string{"iris", "models:/iris/3"}, func(string) string { return "" })
	if err != nil || o.Request.Canary != 10 || !o.Request.NoVerify || !o.Request.Adopt || o.Request.Timeout != deployments.DefaultTimeout {
		t.Errorf("%+v, %v", o, err)
	}
}
