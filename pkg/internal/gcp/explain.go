package gcp

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// notThere is what gcloud says of an object that is not there.
type notThere struct{ said []string }

func (e *notThere) Error() string { return strings.Join(e.said, " ") }

// notYet is a failure that may be over soon, when Google knows everywhere of what was made a moment ago.
type notYet struct{ err error }

func (e *notYet) Error() string { return e.err.Error() }
func (e *notYet) Unwrap() error { return e.err }

// loggedOut and those below are what gcloud and the APIs behind it say.
func loggedOut() *regexp.Regexp {
	return regexp.MustCompile(`(?i)gcloud auth login|reauthentication|invalid_grant|UNAUTHENTICATED`)
}

func noBilling() *regexp.Regexp {
	return regexp.MustCompile(`(?i)BILLING_DISABLED|billing (?:account )?.*(?:disabled|not (?:enabled|open)|closed)`)
}

func disabled() *regexp.Regexp {
	return regexp.MustCompile(`(?i)SERVICE_DISABLED|has not been used in project|API \[[a-z.]*\] not enabled`)
}

func noKeys() *regexp.Regexp {
	return regexp.MustCompile(`(?i)disableServiceAccountKeyCreation|Key creation is not allowed`)
}

func noPool() *regexp.Regexp {
	return regexp.MustCompile(`(?i)Identity Pool does not exist \(([a-zA-Z0-9.:\-]+)\)`)
}

func denied() *regexp.Regexp {
	return regexp.MustCompile(`(?i)PERMISSION_DENIED|HTTPError 403|does not have (?:permission|[a-z.]+ access)|not ?authorized`)
}

func absent() *regexp.Regexp {
	return regexp.MustCompile(`(?i)not found: 404|HTTPError 404|NOT_?FOUND|DoesNotExist`)
}

func transient() *regexp.Regexp {
	return regexp.MustCompile(`(?i)does not exist|concurrent policy changes|` + absent().String())
}

func anyAPIName() *regexp.Regexp {
	return regexp.MustCompile(`\b[a-z]+\.googleapis\.com\b`)
}

// evidence is how many of gcloud's lines a failure carries.
const evidence = 6

// explain turns what gcloud said into what is wrong and what to do.
func explain(ctx context.Context, step Step, args []string, stderr string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("gcloud: %w", ctx.Err())
	}
	if errors.Is(err, exec.ErrNotFound) {
		return &failure.Error{
			Class: failure.Diagnosed, Reason: "GcloudMissing", Message: "there is no gcloud on the PATH",
			Hint: "install it (https://cloud.google.com/sdk/docs/install); or leave --apply out and run the printed lines where it is, as in Cloud Shell",
		}
	}
	said := complaint(stderr)
	failed := &failure.Error{
		Class: failure.Diagnosed, Reason: "GcloudFailed", Object: step.Object,
		Message: command(args) + " failed", Hint: "see what gcloud said, then run the same command again: what is done is skipped", Evidence: said,
	}
	if len(said) == 0 {
		failed.Err = err
	}
	switch {
	case loggedOut().MatchString(stderr):
		failed.Class, failed.Reason, failed.Object = failure.Forbidden, "GcloudLoggedOut", ""
		failed.Message, failed.Hint = "gcloud is not logged in", "log in with: gcloud auth login"
	case noBilling().MatchString(stderr):
		failed.Reason, failed.Message = "BillingDisabled", "the project has no billing account"
		failed.Hint = "link one: https://cloud.google.com/billing/docs/how-to/modify-project"
	case disabled().MatchString(stderr):
		failed.Reason, failed.Message = "APIDisabled", "an API that this needs is not enabled"
		failed.Hint = "enable it with: gcloud services enable " + api(stderr) + "; then run the same command again"
		if strings.Contains(stderr, "enabled this API recently") {
			return &notYet{failed}
		}
	case noKeys().MatchString(stderr):
		failed.Class, failed.Reason = failure.Forbidden, "KeysForbidden"
		failed.Message, failed.Hint = "your organisation forbids keys of service accounts", "use --identity workload-identity, which needs none"
	case noPool().MatchString(stderr):
		pool := noPool().FindStringSubmatch(stderr)[1]
		failed.Reason, failed.Message = "NoWorkloadPool", "there is no workload identity pool "+pool
		failed.Hint = "a project has it with its first cluster with Workload Identity: gcloud container clusters update CLUSTER --workload-pool=" + pool + "; where the cluster is in another project, say --workload-pool"
	case denied().MatchString(stderr):
		failed.Class, failed.Reason = failure.Forbidden, "RoleMissing"
		failed.Message, failed.Hint = "you may not do this", fmt.Sprintf("ask for %s on %s, or check its name: Google does not say which", step.Role, step.On)
	case isLook(args) && absent().MatchString(stderr):
		return &notThere{said}
	case transient().MatchString(stderr):
		return &notYet{failed}
	}
	return failed
}

// api is the API that gcloud names, in the form that enables it.
func api(stderr string) string {
	for _, m := range anyAPIName().FindAllString(stderr, -1) {
		if m != "console.googleapis.com" && m != "type.googleapis.com" {
			return m
		}
	}
	return "API"
}

func isLook(args []string) bool {
	for _, word := range args {
		if word == "--format=json" {
			return true
		}
	}
	return false
}

// complaint is what gcloud says from its first error on.
func complaint(text string) []string {
	if at := strings.Index("\n"+text, "\nERROR:"); at >= 0 {
		text = text[at:]
	}
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && len(lines) < evidence {
			lines = append(lines, line)
		}
	}
	return lines
}
