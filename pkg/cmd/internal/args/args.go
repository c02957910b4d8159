// Package args checks what was typed after a command.
package args

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Exactly wants one argument for each name, in order.
func Exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s missing", list(names[len(args):]))
		}
		return tooMany(args, len(names))
	}
}

// AtMost wants no more than n arguments.
func AtMost(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error { return tooMany(args, n) }
}

func tooMany(args []string, n int) error {
	if len(args) > n {
		return fmt.Errorf("unexpected argument %q", args[n])
	}
	return nil
}

func list(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, " and ") + " are"
}

// Positive wants a duration of more than nothing: failure.Invalid, naming the flag.
func Positive(flag string, d time.Duration) error {
	if d > 0 {
		return nil
	}
	return &failure.Error{Class: failure.Invalid, Reason: "NotPositive", Object: flag,
		Message: fmt.Sprintf("%s is no time to wait", d), Hint: "give a duration such as 30s or 10m"}
}

// Read reads a file, or in where its name is "-", and returns what failures call it.
func Read(name string, in io.Reader) (source string, content []byte, err error) {
	if name == "-" {
		content, err = io.ReadAll(in)
		return "standard input", content, err
	}
	content, err = os.ReadFile(name) //nolint:gosec // the user names it
	return name, content, err
}

// ImageRepository is the environment variable that stands in for --image-repository.
const ImageRepository = "KUBECTL_MLFLOW_IMAGE_REPOSITORY"
