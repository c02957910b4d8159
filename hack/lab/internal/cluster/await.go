package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

const (
	// componentsTimeout is for all processes to be ready, workloadsTimeout for everything that runs in pods.
	componentsTimeout = 2 * time.Minute
	workloadsTimeout  = 5 * time.Minute
	// maxRestarts is how often a component may die before it is ready: kubelet and the like give up when the API server is slow.
	maxRestarts = 6
	// touchEvery is how long custom resources may take to be served, before they are given a nudge.
	touchEvery = 5 * time.Second
	// tellEvery is how often what is still awaited is told.
	tellEvery = 10 * time.Second
)

// awaitResources returns when the API server serves every custom resource.
func (u Upper) awaitResources(ctx context.Context, c *client) error {
	timeout, cancel := context.WithTimeout(ctx, componentsTimeout)
	defer cancel()
	touchAt := time.Now().Add(touchEvery)
	for {
		missing, err := c.unestablished(ctx)
		if err == nil && len(missing) == 0 {
			return nil
		}
		if time.Now().After(touchAt) {
			touchAt = time.Now().Add(touchEvery)
			err = errors.Join(err, c.touch(ctx, missing))
		}
		if !node.Wait(timeout, 100*time.Millisecond) {
			return errors.Join(fmt.Errorf("custom resources not established: %s: %w", strings.Join(missing, ", "), timeout.Err()), err)
		}
	}
}

// unestablished are the custom resources that the API server does not serve yet.
func (c *client) unestablished(ctx context.Context) ([]string, error) {
	var list struct {
		Items []struct {
			Metadata metadata
			Status   struct{ Conditions []condition }
		}
	}
	if err := c.get(ctx, definitions, &list); err != nil {
		return nil, err
	}
	var missing []string
	for _, d := range list.Items {
		established := slices.ContainsFunc(d.Status.Conditions, func(k condition) bool { return k.Type == "Established" && k.Status == "True" })
		if !established {
			missing = append(missing, d.Metadata.Name)
		}
	}
	return missing, nil
}

// touch changes definitions of custom resources in nothing that matters. An API server that died between accepting the
// names of one and establishing it takes it up again only when it changes.
func (c *client) touch(ctx context.Context, names []string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"lab/touched":%q}}}`, time.Now().UTC().Format(time.RFC3339Nano))
	var errs []error
	for _, name := range names {
		errs = append(errs, c.do(ctx, http.MethodPatch, definitions+"/"+name, "application/merge-patch+json", patch, nil))
	}
	return errors.Join(errs...)
}

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// awaitComponents returns when the named components (all, when none is named) are ready.
func (u Upper) awaitComponents(ctx context.Context, ended <-chan error, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, componentsTimeout)
	defer cancel()
	for {
		state, err := node.ReadState(u.Run())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		unready := state.Unready()
		if err == nil && len(awaited(unready, names)) == 0 {
			return nil
		}
		if slices.ContainsFunc(unready, func(c node.ComponentState) bool { return c.Restarts >= maxRestarts }) {
			return unreadyError(u.Layout, unready, errKeepsDying)
		}
		select {
		case err := <-ended:
			return err
		default:
		}
		if !node.Wait(ctx, 50*time.Millisecond) {
			return unreadyError(u.Layout, unready, ctx.Err())
		}
	}
}

func awaited(unready []node.ComponentState, names []string) []node.ComponentState {
	if len(names) == 0 {
		return unready
	}
	return slices.DeleteFunc(slices.Clone(unready), func(c node.ComponentState) bool { return !slices.Contains(names, c.Name) })
}

var errKeepsDying = errors.New("one keeps dying")

// unreadyError shows all that is not ready: what is awaited may itself wait for the one that is at fault.
func unreadyError(l Layout, unready []node.ComponentState, why error) error {
	errs := []error{fmt.Errorf("components are not ready: %w", why)}
	for _, c := range unready {
		err := fmt.Errorf("%s: %s", c.Name, describe(c))
		if _, missing := os.Stat(l.Log(c.Name)); missing == nil {
			err = &LogError{Log: l.Log(c.Name), Err: err}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// describe says how a component is that is not ready.
func describe(c node.ComponentState) string {
	var parts []string
	if c.PID == 0 {
		parts = append(parts, "does not run")
	}
	if c.Waiting != "" {
		parts = append(parts, "waits for "+c.Waiting)
	}
	if c.Restarts > 0 {
		parts = append(parts, fmt.Sprintf("restarted %d times", c.Restarts))
	}
	if c.LastExit != "" {
		parts = append(parts, "last ended with "+c.LastExit)
	}
	return strings.Join(parts, ", ")
}

// awaitWorkloads returns when every check holds. Now and then it tells which do not.
func (u Upper) awaitWorkloads(ctx context.Context, c *client) error {
	timeout, cancel := context.WithTimeout(ctx, workloadsTimeout)
	defer cancel()
	told := map[string]string{}
	next := time.Now().Add(tellEvery)
	for {
		unready := pending(c.checks(ctx, u.Profile))
		if len(unready) == 0 {
			return nil
		}
		if ctx.Err() == nil && time.Now().After(next) {
			next = time.Now().Add(tellEvery)
			for _, check := range unready {
				// Once, and again when something else is to be said.
				if told[check.Name] != check.Detail {
					told[check.Name] = check.Detail
					u.say("           waiting for %s: %s", check.Name, check.Detail)
				}
			}
		}
		if !node.Wait(timeout, 250*time.Millisecond) {
			errs := []error{fmt.Errorf("not ready: %w", timeout.Err())}
			for _, check := range unready {
				errs = append(errs, fmt.Errorf("%s: %s", check.Name, check.Detail))
			}
			return errors.Join(errs...)
		}
	}
}
