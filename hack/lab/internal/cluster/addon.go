package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

// addonTimeout is for an addon's workloads to be ready.
const addonTimeout = 3 * time.Minute

// Addon brings an addon into the running cluster and returns when it is ready. One that is there stays as it is.
func (u Upper) Addon(ctx context.Context, name string) error {
	env, err := u.Env()
	if err != nil {
		return err
	}
	addon, err := artifacts.EnsureAddon(ctx, u.Cache, name, u.Report)
	if err != nil {
		return err
	}
	err = u.step(fmt.Sprintf("push %d images of addon %s", len(addon.Images), name), 2*time.Second, func() error {
		for _, i := range addon.Images {
			stored, err := addon.Storage.Image(i)
			if err != nil {
				return err
			}
			if _, err := image.Push(ctx, env.Registry, i.Name, stored); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(addon.Manifests) == 0 {
		return err
	}
	objects, err := parse(addon.Manifests)
	if err != nil {
		return fmt.Errorf("manifests of addon %s: %w", name, err)
	}
	for _, o := range objects {
		if o.kind() == "Deployment" {
			// Their pods are made anew when what is in the images has changed, though their names have not.
			o.field("spec", "template", "metadata", "annotations")["lab/addon"] = addon.Key
		}
	}
	c, err := u.client(env.Server, env.Bin)
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	return u.step("addon "+name+" ready", 10*time.Second, func() error {
		if err := u.apply(ctx, c, "addon-"+name, objects); err != nil {
			return err
		}
		return c.awaitDeployments(ctx, namespacesOf(objects))
	})
}

// namespacesOf are the namespaces that are among the objects.
func namespacesOf(objects []object) []string {
	var names []string
	for _, o := range objects {
		if o.kind() == "Namespace" {
			names = append(names, o.name())
		}
	}
	slices.Sort(names)
	return names
}

func (c *client) awaitDeployments(ctx context.Context, namespaces []string) error {
	timeout, cancel := context.WithTimeout(ctx, addonTimeout)
	defer cancel()
	for {
		unready := pending(c.deploymentChecks(ctx, namespaces))
		if len(unready) == 0 {
			return nil
		}
		if !node.Wait(timeout, 250*time.Millisecond) {
			errs := []error{fmt.Errorf("%s not ready: %w", strings.Join(namespaces, ", "), timeout.Err())}
			for _, check := range unready {
				errs = append(errs, fmt.Errorf("%s: %s", check.Name, check.Detail))
			}
			return errors.Join(errs...)
		}
	}
}
