// Package portforward is the verb that brings MLflow to a local port.
package portforward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/browser"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Flags is what the user typed.
type Flags struct {
	Addresses []string
	Open      bool
}

// NewCommand makes the command.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	flags := Flags{Addresses: []string{localhost}}
	command := &cobra.Command{
		Use:   "port-forward [LOCAL_PORT] [-- COMMAND [ARGUMENT...]]",
		Short: "Bring MLflow to a port of this machine",
		Long: `Bring MLflow to a port of this machine: its web page and its API. It runs until it is interrupted, and
outlives MLflow's pods.

The port is 5000 unless another is given; where nobody asked for 5000 and it is taken, the next free
one is used. ':5000' takes any free port. Standard output is the URL, as soon as it answers.

With a COMMAND it lasts as long as that does and ends with its exit code. The command finds MLflow by
MLFLOW_TRACKING_URI, on any free port unless one is given, and no proxy between by NO_PROXY.`,
		Example: `  kubectl mlflow port-forward
  kubectl mlflow port-forward 8080 --open
  kubectl mlflow port-forward :5000

  # With MLflow as long as it runs
  kubectl mlflow port-forward -- python train.py`,
		RunE: func(c *cobra.Command, words []string) error {
			o, err := ToOptions(flags, words, c.ArgsLenAtDash())
			if err != nil {
				return err
			}
			o.Forwarder, o.Streams, o.Talk = trackingserver.New(getter, manifests.FS, talk), streams, talk
			o.Next = ui.Next(c, "deploy", "NAME", "models:/NAME/VERSION", "--image-repository", "REGISTRY/PATH")
			return o.Run(c.Context())
		},
	}
	command.Args = func(c *cobra.Command, words []string) error {
		if dash := c.ArgsLenAtDash(); dash >= 0 {
			words = words[:dash]
		}
		return args.AtMost(1)(c, words)
	}
	command.Flags().StringSliceVar(&flags.Addresses, "address", flags.Addresses, "Addresses of this machine to listen on: IP addresses, or localhost")
	command.Flags().BoolVar(&flags.Open, "open", flags.Open, "Open MLflow's page in the browser as soon as it answers")
	return command
}

// ToOptions reads the port and, from the dash-th word on, the command; dash is -1 where there is none.
func ToOptions(flags Flags, words []string, dash int) (*Options, error) {
	o := &Options{Flags: flags, Ports: []int{DefaultPort}}
	if dash >= 0 {
		o.Command, words = words[dash:], words[:dash]
		if len(o.Command) == 0 {
			return nil, &failure.Error{Class: failure.Invalid, Reason: "NoCommand", Object: "--", Message: "no command follows", Hint: "give one, or leave out --"}
		}
	}
	if err := checkAddresses(flags.Addresses); err != nil {
		return nil, err
	}
	switch {
	case len(words) > 0:
		port, err := parse(words[0])
		o.Ports = []int{port}
		return o, err
	case o.Command != nil:
		o.Ports = []int{0}
	default:
		for port := DefaultPort + 1; port < DefaultPort+tries; port++ {
			o.Ports = append(o.Ports, port)
		}
	}
	return o, nil
}

// Forwarder is the part of trackingserver.Client that this verb needs.
type Forwarder interface {
	PortForward(ctx context.Context, listeners []net.Listener, ready func()) error
}

// Options is what the verb needs.
type Options struct {
	Flags
	Forwarder Forwarder
	Ports     []int    // to be tried in order; 0 is any free one
	Command   []string // to be run meanwhile, or nil
	Streams   genericiooptions.IOStreams
	Talk      *ui.Progress
	Next      string // command line to type when a model is registered
}

// Run forwards until ctx ends, and that is how it ends: with ctx's error. With a command it ends when that does.
func (o *Options) Run(ctx context.Context) error {
	listeners, err := listen(ctx, o.Addresses, o.Ports)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	port := portOf(listeners[0])
	if o.Ports[0] != 0 && port != o.Ports[0] {
		o.Talk.Say("Port %d is taken on this machine%s; taking %d.", o.Ports[0], by(o.Ports[0]), port)
	}
	for _, l := range listeners {
		if !l.Addr().(*net.TCPAddr).IP.IsLoopback() { //nolint:forcetypeassert // the address of a TCP listener
			o.Talk.Say("Whoever reaches %s can use MLflow while this runs.", l.Addr())
		}
	}
	url := "http://" + net.JoinHostPort(reachable(listeners[0]), strconv.Itoa(port))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	started := false
	err = o.Forwarder.PortForward(ctx, listeners, func() {
		if o.Open {
			if err := browser.Open(ctx, url); err != nil {
				o.Talk.Say("No browser opens by itself (%v): go to %s", err, url)
			}
		}
		if o.Command != nil {
			started = true
			go func() {
				err := o.run(ctx, os.Environ(), url)
				ended <- err
				cancel(errDone)
			}()
			return
		}
		o.Talk.Say("MLflow is on this machine's port %d until you press Ctrl-C.", port)
		o.Talk.Say("To log and register a model there, in another terminal: export MLFLOW_TRACKING_URI=%s", url)
		o.Talk.Say("Next: %s", o.Next)
		if _, err := fmt.Fprintln(o.Streams.Out, url); err != nil {
			cancel(fmt.Errorf("printing the URL: %w", err))
		}
	})
	cause := context.Cause(ctx)
	if started {
		cancel(err) // the tunnel is closed: nothing is left for the command to do
		if commands := <-ended; errors.Is(cause, errDone) {
			return commands
		}
	}
	switch {
	case err != nil:
		return err
	case cause != nil:
		return cause
	default:
		return ctx.Err()
	}
}

// errDone ends the tunnel when the command has ended.
var errDone = errors.New("the command has ended")
