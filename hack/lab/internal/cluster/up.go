package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

// recoveryTimeout is for a running cluster to get well again by itself.
const recoveryTimeout = 15 * time.Second

// Upper brings a cluster up.
type Upper struct {
	Layout
	// Program and Arguments run a supervisor: they are followed by the spec's path.
	Program   string
	Arguments []string
	Report    artifacts.Reporter
	// Talk takes what is said besides the steps.
	Talk io.Writer
}

// Up makes the cluster all ready, and returns where everything is. A cluster that is up and well is left as it is; of
// one that is not, the remains are removed and a new one is made. When ctx ends before it is ready, nothing stays.
func (u Upper) Up(ctx context.Context) (Env, error) {
	if err := EnsureCache(u.Cache); err != nil {
		return Env{}, err
	}
	set, err := artifacts.Ensure(ctx, u.Cache, u.Profile, u.Report)
	if err != nil {
		return Env{}, err
	}
	unlock, err := u.Lock(ctx, func() { u.say("waiting for another lab command that works on %s", u) })
	if err != nil {
		return Env{}, err
	}
	env, err := u.locked(ctx, set)
	return env, errors.Join(err, unlock())
}

func (u Upper) locked(ctx context.Context, set artifacts.Set) (Env, error) {
	if u.Profile == artifacts.Full {
		if err := errors.Join(checkHost(set.Bin), checkOwner(u.Run())); err != nil {
			return Env{}, err
		}
	}
	why, err := u.whyNew(ctx, set)
	if err != nil {
		return Env{}, err
	}
	if why == "" {
		u.say("%s is already up", u)
		return u.Env()
	}
	u.say("starting %s: %s", u, why)
	if err := u.Down(ctx); err != nil {
		return Env{}, fmt.Errorf("remove what is left of the last run: %w", err)
	}
	env, err := u.start(ctx, set)
	if err == nil {
		err = os.WriteFile(u.ready(), nil, 0o600)
	}
	if ctx.Err() != nil {
		// Interrupted: what was started is nobody's. What failed by itself stays, to be looked at.
		u.say("interrupted, taking down what was started")
		return Env{}, errors.Join(fmt.Errorf("interrupted: %w", context.Cause(ctx)), u.Down(context.WithoutCancel(ctx)))
	}
	return env, err
}

// whyNew says why the cluster has to be made anew; "" when it is up and well. What is about to heal itself is given time.
func (u Upper) whyNew(ctx context.Context, set artifacts.Set) (string, error) {
	if _, err := os.Stat(u.ready()); errors.Is(err, fs.ErrNotExist) {
		return "it is not up, or its start did not come to an end", nil
	}
	timeout, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	for {
		s, err := u.Status(ctx)
		switch {
		case errors.Is(err, ErrDown):
			return "it has ended by itself", nil
		case err != nil:
			return "", err
		case s.Key != set.Key:
			return "its artifacts have changed", nil
		}
		unready := pending(s.Checks)
		if len(unready) == 0 {
			return "", nil
		}
		if !node.Wait(timeout, time.Second) {
			return unready[0].Name + " is not well: " + unready[0].Detail, ctx.Err()
		}
	}
}

func (u Upper) say(format string, args ...any) {
	_, _ = fmt.Fprintf(u.Talk, format+"\n", args...)
}

// step runs one reported step.
func (u Upper) step(name string, usual time.Duration, do func() error) error {
	done := u.Report.Step(name, usual)
	err := do()
	done(err)
	return err
}

func (u Upper) start(ctx context.Context, set artifacts.Set) (Env, error) {
	endpoints := fullEndpoints()
	hosts := []string{NodeAddress, apiService, "127.0.0.1"}
	if u.Profile == artifacts.API {
		var err error
		if endpoints, err = freeEndpoints(); err != nil {
			return Env{}, err
		}
		hosts = []string{endpoints.host}
	}
	if err := u.writeIdentities(endpoints.server(), hosts...); err != nil {
		return Env{}, fmt.Errorf("keys of the cluster: %w", err)
	}
	spec := u.apiSpec(set, endpoints)
	if u.Profile == artifacts.Full {
		if err := u.writeConfig(set); err != nil {
			return Env{}, fmt.Errorf("configuration of the node: %w", err)
		}
		spec = u.fullSpec(set)
	}
	if err := spec.Write(u.spec()); err != nil {
		return Env{}, err
	}
	ended, err := u.launch(ctx, spec)
	if err != nil {
		return Env{}, err
	}
	env := u.newEnv(set, endpoints.server())
	if err := u.writeEnv(env); err != nil {
		return Env{}, err
	}
	c, err := u.client(endpoints.server(), set.Bin)
	if err != nil {
		return Env{}, err
	}
	err = u.step("API server", 5*time.Second, func() error { return u.awaitComponents(ctx, ended, "kube-apiserver") })
	if err != nil || u.Profile == artifacts.API {
		return u.withPID(env), err
	}
	if err := u.furnish(ctx, c, set); err != nil {
		return Env{}, err
	}
	err = u.step("node's components", 10*time.Second, func() error { return u.awaitComponents(ctx, ended) })
	if err != nil {
		return Env{}, err
	}
	err = u.step("everything ready", 30*time.Second, func() error { return u.awaitWorkloads(ctx, c) })
	return u.withPID(env), err
}

func (u Upper) withPID(e Env) Env {
	// Only for show: whether it lives was just seen.
	e.NodePID, _ = node.Alive(u.Run())
	return e
}

// launch starts the supervisor in a session of its own, and links it to the host where it has a network of its own.
// The channel tells when and how it ends.
func (u Upper) launch(ctx context.Context, spec node.Spec) (<-chan error, error) {
	log, err := os.OpenFile(u.NodeLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	// Not of ctx: it outlives this command.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), u.Program, append(u.Arguments, u.spec())...) // #nosec G204 -- this program itself
	cmd.Dir = u.Run()
	cmd.Env = spec.Env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if spec.Isolation != nil {
		cmd.SysProcAttr.Cloneflags = node.Namespaces
	}
	err = errors.Join(cmd.Start(), log.Close())
	if err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		ended <- &LogError{Log: u.NodeLog(), Err: fmt.Errorf("the supervisor ended: %w", errors.Join(err, ErrDown))}
	}()
	if spec.Isolation == nil {
		return ended, nil
	}
	if err := linkNode(cmd.Process.Pid); err != nil {
		// It would wait for its interface in vain.
		return nil, errors.Join(err, cmd.Process.Kill(), <-ended)
	}
	return ended, nil
}

// furnish applies what every cluster of the lab has.
func (u Upper) furnish(ctx context.Context, c *client, set artifacts.Set) error {
	dns, err := fill("coredns.yaml", u.values(set))
	if err != nil {
		return err
	}
	first, err := parse(dns)
	if err != nil {
		return fmt.Errorf("manifest of CoreDNS: %w", err)
	}
	more, err := load(set, "local-path.yaml", "knative-crds.yaml")
	if err != nil {
		return err
	}
	knative, err := load(set, "knative-serving.yaml", "kourier.yaml")
	if err != nil {
		return err
	}
	err = u.step("DNS, storage, Knative's resources", 4*time.Second, func() error {
		return u.apply(ctx, c, "apply-1", append(first, more...))
	})
	if err != nil {
		return err
	}
	return u.step("Knative Serving, Kourier", 6*time.Second, func() error {
		if err := u.awaitResources(ctx, c); err != nil {
			return err
		}
		if err := u.apply(ctx, c, "apply-2", webhooksLast(knative)); err != nil {
			return err
		}
		return c.lendAddress(ctx)
	})
}

func (u Upper) apply(ctx context.Context, c *client, log string, list []object) error {
	text, err := render(list)
	if err != nil {
		return err
	}
	return c.apply(ctx, text, u.Log(log))
}

// lendAddress plays the cloud's part for Kourier's gateway: its Service of type LoadBalancer gets the node's address.
func (c *client) lendAddress(ctx context.Context) error {
	patch := fmt.Appendf(nil, `{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, NodeAddress)
	const path = "/api/v1/namespaces/kourier-system/services/kourier/status"
	return c.do(ctx, http.MethodPatch, path, "application/merge-patch+json", patch, nil)
}
