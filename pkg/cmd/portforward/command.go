package portforward

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// parting is how long the command may take to end when it is asked to.
const parting = 10 * time.Second

// run runs the command to its end, with MLflow at url. It returns ui.ExitCode where the command failed.
func (o *Options) run(ctx context.Context, env []string, url string) error {
	cmd := exec.CommandContext(ctx, o.Command[0], o.Command[1:]...) //nolint:gosec // the command that the user typed
	cmd.Env = withMLflow(env, url)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Streams.In, o.Streams.Out, o.Streams.ErrOut
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // a terminal's Ctrl-C has reached it already
	cmd.WaitDelay = parting
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code := exit.ExitCode()
		if code < 0 { // a signal
			code = 128
		}
		return ui.ExitCode(code)
	}
	if err != nil {
		return &failure.Error{Class: failure.Invalid, Reason: "CommandNotStarted", Object: o.Command[0], Message: "the command cannot be run",
			Hint: "is it on PATH, and spelled as it is?", Err: err}
	}
	return nil
}

// withMLflow is the environment in which clients find MLflow at url, and no proxy on the way.
func withMLflow(env []string, url string) []string {
	const direct = "127.0.0.1,localhost,::1"
	set := map[string]string{"MLFLOW_TRACKING_URI": url, "NO_PROXY": direct, "no_proxy": direct}
	var with []string
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case name == "MLFLOW_TRACKING_URI":
		case strings.EqualFold(name, "NO_PROXY"):
			if value != "" {
				set[name] = value + "," + direct
			}
		default:
			with = append(with, kv)
		}
	}
	for name, value := range set {
		with = append(with, fmt.Sprintf("%s=%s", name, value))
	}
	return with
}
