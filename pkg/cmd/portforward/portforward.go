// Package portforward is the verb that brings MLflow to a local port.
package portforward

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// NewCommand makes the command.
func NewCommand(getter genericclioptions.RESTClientGetter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	return &cobra.Command{
		Use:   "port-forward [LOCAL_PORT]",
		Short: "Bring MLflow to a port of this machine",
		Long: `Bring MLflow to a port of this machine: its web page and its API. It runs until it is interrupted, and
outlives MLflow's pods.

The port is 5000 unless another is given; where nobody asked for 5000 and it is taken, the next free
one is used. ':5000' takes any free port. Standard output is the URL, as soon as it answers.`,
		Example: `  kubectl mlflow port-forward
  kubectl mlflow port-forward 8080
  kubectl mlflow port-forward :5000`,
		Args: args.AtMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := ToOptions(args)
			if err != nil {
				return err
			}
			o.Forwarder, o.Streams, o.Talk = trackingserver.New(getter, manifests.FS, talk), streams, talk
			return o.Run(c.Context())
		},
	}
}

// ToOptions reads the port.
func ToOptions(args []string) (*Options, error) {
	o := &Options{Ports: []int{DefaultPort}}
	if len(args) == 0 {
		for port := DefaultPort + 1; port < DefaultPort+tries; port++ {
			o.Ports = append(o.Ports, port)
		}
		return o, nil
	}
	port, err := parse(args[0])
	o.Ports = []int{port}
	return o, err
}

// Forwarder is the part of trackingserver.Client that this verb needs.
type Forwarder interface {
	PortForward(ctx context.Context, listeners []net.Listener, ready func()) error
}

// Options is what the verb needs.
type Options struct {
	Forwarder Forwarder
	Ports     []int // to be tried in order; 0 is any free one
	Streams   genericiooptions.IOStreams
	Talk      *ui.Progress
}

// Run forwards until ctx ends, and that is how it ends: with ctx's error.
func (o *Options) Run(ctx context.Context) error {
	listener, err := listen(ctx, o.Ports)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	port := listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // the address of a TCP listener
	if o.Ports[0] != 0 && port != o.Ports[0] {
		o.Talk.Say("Port %d is taken on this machine; taking %d.", o.Ports[0], port)
	}
	var unwritten error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = o.Forwarder.PortForward(ctx, []net.Listener{listener}, func() {
		o.Talk.Say("MLflow is on this machine's port %d until you press Ctrl-C.", port)
		if _, unwritten = fmt.Fprintf(o.Streams.Out, "http://127.0.0.1:%d\n", port); unwritten != nil {
			cancel()
		}
	})
	switch {
	case unwritten != nil:
		return fmt.Errorf("printing the URL: %w", unwritten)
	case err != nil:
		return err
	default:
		return ctx.Err()
	}
}
