// Command kubectl-mlflow is a kubectl plugin: it puts MLflow on a Kubernetes cluster, and MLflow's models on Knative.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd"
)

// version is set by the linker.
var version string

func main() {
	os.Exit(run())
}

// run is main with a return value: deferred calls are made before the process exits.
func run() int {
	if os.Getenv("GOGC") == "" {
		// Packages and commands take 3 MB when they are made, all of them in use: with the default, a start ends with a collection that
		// finds nothing and takes a tenth of its time.
		debug.SetGCPercent(200)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends the work in order, a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	return cmd.Main(ctx, version, arguments(os.Args), streams)
}

// arguments are the command line's, without the program. kubectl completes a plugin by calling kubectl_complete-<plugin>
// with the words typed so far: a link of that name to this program is enough.
func arguments(argv []string) []string {
	name := strings.TrimSuffix(filepath.Base(argv[0]), ".exe")
	if name == "kubectl_complete-mlflow" {
		return append([]string{"__complete"}, argv[1:]...)
	}
	return argv[1:]
}
