package cmd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// The exit codes. docs/exit-codes.md is for those who read them in scripts.
const (
	exitDone        = 0
	exitFailed      = 1
	exitInvalid     = 2
	exitTimedOut    = 3
	exitDiagnosed   = 4
	exitRefused     = 5
	exitForbidden   = 6
	exitInterrupted = 130
)

// outcome is how a command ended.
type outcome struct {
	command *cobra.Command
	args    []string // as they were typed
	err     error
}

// report prints what went wrong, if anything did, and returns the exit code.
func report(ctx context.Context, o outcome, w io.Writer) int {
	if o.err == nil {
		return exitDone
	}
	// After an interrupt everything fails. Nobody wants to read how.
	if ctx.Err() != nil {
		if stands, ok := o.command.Annotations[ui.Interrupted]; ok {
			ui.PrintInterrupted(w, stands, resume(o.command, o.args))
		}
		return exitInterrupted
	}
	if errors.Is(o.err, ui.ErrDiffers) {
		return exitFailed
	}
	if code, ok := errors.AsType[ui.ExitCode](o.err); ok {
		return int(code)
	}
	code := exitDone
	for _, err := range split(o.err) {
		f, c := explain(err)
		ui.PrintFailure(w, f)
		if code == exitDone {
			code = c
		}
	}
	return code
}

// split takes errors.Join apart.
func split(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // it is the outermost error that may be a list
	if !ok {
		return []error{err}
	}
	texts := make([]string, 0, len(joined.Unwrap()))
	for _, e := range joined.Unwrap() {
		texts = append(texts, e.Error())
	}
	if err.Error() != strings.Join(texts, "\n") {
		return []error{err} // fmt.Errorf with more than one %w: one sentence about several causes
	}
	return joined.Unwrap()
}

// explain turns an error into what a person reads, and into the exit code.
func explain(err error) (ui.Failure, int) {
	if usage, ok := errors.AsType[*usageError](err); ok {
		return ui.Failure{Message: usage.Error(), See: usage.command.CommandPath()}, exitInvalid
	}
	f, code := cause(err)
	if known, ok := errors.AsType[*failure.Error](err); ok {
		f.Evidence = known.Evidence
		if known.Hint != "" {
			f.Hint = known.Hint
		}
		if c := exitCode(known.Class); c != exitFailed {
			code = c
		}
	}
	return f, code
}

// exitCode is the one table from class to exit code.
func exitCode(c failure.Class) int {
	switch c {
	case failure.Invalid:
		return exitInvalid
	case failure.TimedOut:
		return exitTimedOut
	case failure.Diagnosed:
		return exitDiagnosed
	case failure.Refused:
		return exitRefused
	case failure.Forbidden:
		return exitForbidden
	default:
		return exitFailed
	}
}

// cause makes readable what no room has classed: the API server's answers, and the network's failures.
func cause(err error) (ui.Failure, int) {
	f := ui.Failure{Message: err.Error()}
	if answer := apierrors.APIStatus(nil); errors.As(err, &answer) {
		hint, code := apiAnswer(answer.Status().Code)
		f.Hint = hint
		return f, code
	}
	if meta.IsNoMatchError(err) {
		f.Hint = "the cluster does not serve this API; `kubectl api-resources` lists those it has"
		return f, exitFailed
	}
	if errors.Is(err, context.DeadlineExceeded) {
		f.Hint = "give it longer with --timeout, or run the same command again"
		return f, exitTimedOut
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		f.Message = strings.Replace(f.Message, failed.Error(), "cannot reach "+endpoint(failed.URL)+": "+networkReason(failed.Err), 1)
		f.Hint = "check the address, the network, and HTTPS_PROXY and NO_PROXY"
		return f, exitFailed
	}
	return f, exitFailed
}

func apiAnswer(status int32) (hint string, code int) {
	switch status {
	case http.StatusUnauthorized:
		return "the cluster did not accept the credentials of this context: log in again", exitForbidden
	case http.StatusForbidden:
		return "ask for the right that is missing; `kubectl auth can-i --list` shows those you have", exitForbidden
	case http.StatusConflict:
		return "someone else changed it at the same time; look at it, then run the same command again", exitRefused
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return "the API server is busy or not well; run the same command again", exitFailed
	default:
		return "", exitFailed
	}
}

// networkReason is the last words of a failed call: "connection refused", without the addresses that say nothing new.
func networkReason(err error) string {
	if unknown, ok := errors.AsType[*net.DNSError](err); ok && unknown.IsNotFound {
		return "no such host"
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number.Error()
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "no answer in time"
	}
	return err.Error()
}

// endpoint is scheme and host of a URL.
func endpoint(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	return u.Scheme + "://" + u.Host
}
