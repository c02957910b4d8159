package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// closed is an address where nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestReport(t *testing.T) {
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	address := closed(t)
	_, refused := http.Get("http://" + address + "/secret/path") //nolint:bodyclose,noctx // nobody answers
	command := &cobra.Command{Use: "kubectl-mlflow", Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl mlflow"}}
	install := &cobra.Command{Use: "install"}
	command.AddCommand(install)

	for name, c := range map[string]struct {
		err  error
		code int
		want string
	}{
		"nothing": {nil, 0, ""},
		"differs": {ui.ErrDiffers, 1, ""},
		"plain":   {errors.New("broken"), 1, "error: broken\n"},
		"usage": {&usageError{install, errors.New("unknown flag: --foo")}, 2,
			"error: unknown flag: --foo\nSee 'kubectl mlflow install -h' for help and examples\n"},
		"invalid": {&failure.Error{Class: failure.Invalid, Object: "models:/iris", Message: "has no version", Hint: "write models:/iris/3"}, 2,
			"error: models:/iris: has no version\nhint: write models:/iris/3\n"},
		"timed out":              {&failure.Error{Class: failure.TimedOut, Message: "not ready", Evidence: []string{"pod/a: Pulling"}}, 3, "error: not ready\n  pod/a: Pulling\n"},
		"diagnosed":              {&failure.Error{Class: failure.Diagnosed, Message: "no"}, 4, "error: no\n"},
		"refused":                {&failure.Error{Class: failure.Refused, Message: "no"}, 5, "error: no\n"},
		"forbidden":              {&failure.Error{Class: failure.Forbidden, Message: "no"}, 6, "error: no\n"},
		"without a class":        {&failure.Error{Message: "no", Hint: "yes"}, 1, "error: no\nhint: yes\n"},
		"wrapped":                {fmt.Errorf("installing: %w", &failure.Error{Class: failure.Refused, Message: "no", Hint: "yes"}), 5, "error: installing: no\nhint: yes\n"},
		"escape sequences":       {&failure.Error{Class: failure.Diagnosed, Message: "\x1b]0;owned\a"}, 4, "error: \\x1b]0;owned\\a\n"},
		"several":                {errors.Join(&failure.Error{Class: failure.Forbidden, Message: "one"}, errors.New("two")), 6, "error: one\nerror: two\n"},
		"one with several below": {fmt.Errorf("%w; and %w", errors.New("one"), errors.New("two")), 1, "error: one; and two\n"},
		"API: forbidden": {fmt.Errorf("deployment.apps/mlflow: %w", apierrors.NewForbidden(deployments, "mlflow", errors.New("no rights"))), 6,
			"error: deployment.apps/mlflow: deployments.apps \"mlflow\" is forbidden: no rights\nhint: ask for the right that is missing; `kubectl auth can-i --list` shows those you have\n"},
		"API: unauthorized": {apierrors.NewUnauthorized("token expired"), 6, "error: token expired\nhint: the cluster did not accept the credentials of this context: log in again\n"},
		"API: conflict":     {apierrors.NewConflict(deployments, "mlflow", errors.New("changed")), 5, ""},
		"API: busy":         {apierrors.NewTooManyRequests("slow down", 1), 1, ""},
		"API: not found":    {apierrors.NewNotFound(deployments, "mlflow"), 1, "error: deployments.apps \"mlflow\" not found\n"},
		"API: no such kind": {fmt.Errorf("service: %w", &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: "serving.knative.dev", Kind: "Service"}}), 1, ""},
		"a class over the API's answer": {&failure.Error{Class: failure.Refused, Message: "somebody else's", Hint: "rename it", Err: apierrors.NewForbidden(deployments, "mlflow", nil)}, 5,
			"error: somebody else's: deployments.apps \"mlflow\" is forbidden: <nil>\nhint: rename it\n"},
		"connection refused": {fmt.Errorf("asking MLflow: %w", refused), 1,
			"error: asking MLflow: cannot reach http://" + address + ": connection refused\nhint: check the address, the network, and HTTPS_PROXY and NO_PROXY\n"},
		"deadline": {fmt.Errorf("waiting: %w", context.DeadlineExceeded), 3,
			"error: waiting: context deadline exceeded\nhint: give it longer with --timeout, or run the same command again\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			code := report(t.Context(), outcome{command: install, err: c.err}, &out)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if c.want != "" && out.String() != c.want {
				t.Errorf("printed:\n%s\nwant:\n%s", out.String(), c.want)
			}
		})
	}
}

func TestAnInterruptSaysWhatStandsAndHowToGoOn(t *testing.T) {
	root := &cobra.Command{Use: "kubectl-mlflow", Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl mlflow"}}
	install := &cobra.Command{Use: "install", Annotations: map[string]string{ui.Interrupted: "what was applied stays"}}
	forward := &cobra.Command{Use: "port-forward"}
	root.AddCommand(install, forward)
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, c := range []struct {
		command *cobra.Command
		args    []string
		want    string
	}{
		{install, []string{"install", "--context", "my lab", "--token", "s3cret"}, "interrupted: what was applied stays; to go on: kubectl mlflow install --context 'my lab' --token ...\n"},
		{install, []string{"install", "--token=s3cret", "-n", "ml"}, "interrupted: what was applied stays; to go on: kubectl mlflow install --token=... -n ml\n"},
		{forward, []string{"port-forward"}, ""},
	} {
		var out strings.Builder
		code := report(ctx, outcome{command: c.command, args: c.args, err: fmt.Errorf("applying: %w", ctx.Err())}, &out)
		if code != 130 || out.String() != c.want {
			t.Errorf("%v: exit code %d, printed %q, want %q", c.args, code, out.String(), c.want)
		}
	}
}

func TestTheTableOfExitCodesInTheDocs(t *testing.T) {
	for class, want := range map[failure.Class]int{
		failure.Invalid: 2, failure.TimedOut: 3, failure.Diagnosed: 4, failure.Refused: 5, failure.Forbidden: 6, "": 1, "Unheard": 1,
	} {
		if got := exitCode(class); got != want {
			t.Errorf("class %q exits %d, want %d", class, got, want)
		}
	}
}
