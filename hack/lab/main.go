//go:build linux

// Command lab makes real Kubernetes clusters for tests and demos out of package registries alone. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/report"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/snapshot"
)

const usage = `lab makes real Kubernetes clusters for tests and demos, on this machine, from package registries alone.

Usage: lab VERB [--profile full|api] [--name NAME] [arguments]

  up                     build what is missing, start the cluster, wait until all of it is ready
  down                   end it without a trace; what was built stays
  status                 one line for everything that the cluster needs
  env [-o json]          where everything is, as export lines for a shell or as JSON
  kubeconfig             the path of the administrator's kubeconfig
  addon NAME             build what the addon is made of, bring it into the cluster, wait until it is ready:
                         google: doubles of Cloud SQL and Cloud Storage; mlflow-earlier: an image of an earlier MLflow
  load-image SOURCE...   push image archives (docker save, OCI layout), or images by name, into the cluster's registry
  shell [COMMAND...]     a shell, or a command, inside the node
  clean [--all]          take every cluster down and remove what is built no more; with --all the whole cache
  snapshot               this machine as a sorted list, to be compared before and after

Profile full is a node that runs pods, with Knative (needs root); profile api is etcd and kube-apiserver alone, for
any user, and --name tells several apart. The cache is $KUBECTL_MLFLOW_LAB_CACHE, else kubectl-mlflow/lab in the
user's cache folder.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil
	stop()
	var inside *commandError
	switch {
	case err == nil:
	case errors.As(err, &inside):
		// A command in the node failed, of which it has spoken itself.
		os.Exit(inside.code)
	case interrupted:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(130)
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// commandError is the exit code of a command that was run in the node.
type commandError struct{ code int }

func (e *commandError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

var errUsage = errors.New("see lab help")

// lab is one call of the program.
type lab struct {
	cluster.Layout
	args        []string
	output      string
	all         bool
	out, errOut io.Writer
}

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		_, err := io.WriteString(out, usage)
		return err
	}
	verb := args[0]
	if verb == "node" && len(args) == 2 {
		return node.Main(ctx, args[1], out)
	}
	verbs := map[string]func(context.Context, lab) error{
		"up": up, "down": down, "status": status, "env": env, "kubeconfig": kubeconfig,
		"addon": addon, "load-image": loadImage, "shell": shell, "clean": clean, "snapshot": takeSnapshot,
	}
	do, ok := verbs[verb]
	if !ok {
		return fmt.Errorf("unknown verb %q: %w", verb, errUsage)
	}
	l := lab{out: out, errOut: errOut}
	flags := flag.NewFlagSet("lab "+verb, flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.Usage = func() { _, _ = io.WriteString(errOut, usage) }
	profile := flags.String("profile", string(artifacts.Full), "")
	flags.StringVar(&l.Name, "name", "", "")
	flags.StringVar(&l.output, "o", "", "")
	flags.BoolVar(&l.all, "all", false, "")
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	l.args = flags.Args()
	l.Profile = artifacts.Profile(*profile)
	if err := l.Validate(); err != nil {
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	var err error
	if l.Cache, err = cluster.DefaultCache(os.Getenv); err != nil {
		return err
	}
	return do(ctx, l)
}

func addon(ctx context.Context, l lab) error {
	if len(l.args) != 1 {
		return fmt.Errorf("addon needs one name of %s: %w", strings.Join(artifacts.Addons(), ", "), errUsage)
	}
	if l.Profile != artifacts.Full {
		return fmt.Errorf("profile %s runs no addons: %w", l.Profile, errUsage)
	}
	talk := report.New(l.errOut)
	return cluster.Upper{Layout: l.Layout, Report: talk, Talk: talk}.Addon(ctx, l.args[0])
}

func up(ctx context.Context, l lab) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	talk := report.New(l.errOut)
	e, err := cluster.Upper{Layout: l.Layout, Program: program, Arguments: []string{"node"}, Report: talk, Talk: talk}.Up(ctx)
	if err != nil {
		return fmt.Errorf("%s did not come up: %w", l, err)
	}
	_, err = fmt.Fprintf(talk, "%s is up: export KUBECONFIG=%s\n", l, e.Kubeconfig)
	return err
}

func down(ctx context.Context, l lab) error {
	unlock, err := l.Lock(ctx, func() { _, _ = fmt.Fprintln(l.errOut, "waiting for another lab command") })
	if err != nil {
		return err
	}
	return errors.Join(l.Down(ctx), unlock())
}

var errNotReady = errors.New("not everything is ready")

func status(ctx context.Context, l lab) error {
	s, err := l.Status(ctx)
	if err != nil {
		return err
	}
	for _, c := range s.Checks {
		word := "Ready"
		if !c.Ready {
			word = "NOT READY"
		}
		if _, err := fmt.Fprintf(l.out, "%-56s %-10s %s\n", c.Name, word, c.Detail); err != nil {
			return err
		}
	}
	if !s.Ready() {
		return errNotReady
	}
	return nil
}

func env(_ context.Context, l lab) error {
	e, err := l.Env()
	if err != nil {
		return err
	}
	switch l.output {
	case "":
		_, err = io.WriteString(l.out, e.Shell())
		return err
	case "json":
		encoder := json.NewEncoder(l.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(e)
	}
	return fmt.Errorf("unknown output %q, there is json: %w", l.output, errUsage)
}

func kubeconfig(_ context.Context, l lab) error {
	e, err := l.Env()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(l.out, e.Kubeconfig)
	return err
}

func loadImage(ctx context.Context, l lab) error {
	if len(l.args) == 0 {
		return fmt.Errorf("load-image needs an archive or an image's name: %w", errUsage)
	}
	e, err := l.Env()
	if err != nil {
		return err
	}
	if e.Registry == "" {
		return fmt.Errorf("profile %s has no registry: %w", l.Profile, errUsage)
	}
	for _, source := range l.args {
		scratch, err := os.MkdirTemp(l.Run(), "load-image-")
		if err != nil {
			return err
		}
		names, err := image.Load(ctx, e.Registry, source, scratch)
		for _, name := range names {
			_, _ = fmt.Fprintln(l.out, name)
		}
		if err := errors.Join(err, os.RemoveAll(scratch)); err != nil {
			return err
		}
	}
	return nil
}

// shell enters the node by nsenter(1): a Go program has threads already, and those cannot change their mount namespace.
func shell(ctx context.Context, l lab) error {
	e, err := l.Env()
	if err != nil {
		return err
	}
	command := l.args
	if len(command) == 0 {
		command = []string{"bash", "--norc", "-i"}
	}
	if l.Profile == artifacts.Full {
		nsenter := []string{"nsenter", "--target", strconv.Itoa(e.NodePID), "--mount", "--uts", "--ipc", "--net", "--pid", "--"}
		command = append(nsenter, command...)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) // #nosec G204 -- running the user's command is what this verb is for
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, l.out, l.errOut
	cmd.Env = append(os.Environ(),
		"KUBECONFIG="+e.Kubeconfig,
		"PATH="+e.Bin+":"+os.Getenv("PATH"),
		"CONTAINERD_ADDRESS=/run/containerd/containerd.sock", "CONTAINERD_NAMESPACE=k8s.io",
		`PS1=\u@lab-`+l.String()+`:\w\$ `,
	)
	// Ctrl-C is for what runs in the shell.
	cmd.Cancel = func() error { return nil }
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return &commandError{exit.ExitCode()}
	}
	return err
}

func clean(ctx context.Context, l lab) error {
	list, err := cluster.Clusters(l.Cache)
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := down(ctx, lab{Layout: c, errOut: l.errOut}); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	if l.all {
		return cluster.Clean(l.Cache)
	}
	removed, err := artifacts.Clean(ctx, l.Cache, report.New(l.errOut))
	for _, folder := range removed {
		_, _ = fmt.Fprintln(l.out, folder)
	}
	return err
}

func takeSnapshot(_ context.Context, l lab) error {
	folder := filepath.Clean(l.Cache)
	lines, err := snapshot.Take(folder)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(l.out, strings.Join(lines, "\n"))
	return err
}
