package deployments

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/servingruntime"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Deploy creates or updates one deployment and waits until its revision has the traffic. The same content again is "unchanged" and
// writes nothing to the cluster. Until all checks have passed nothing is written anywhere.
func (c *Client) Deploy(ctx context.Context, r Request) (*Result, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	namespace, err := c.in(r.Namespace)
	if err != nil {
		return nil, err
	}
	r.Namespace = namespace
	began := time.Now()
	d, err := c.prepare(ctx, r, toDeploy)
	if err != nil {
		return nil, err
	}
	defer d.close()
	result := &Result{Namespace: r.Namespace, Name: r.Name, ModelURI: d.uri, Version: d.version.Version, Example: d.example && !d.loose}
	result.Timings.Resolve = time.Since(began)

	if d.spec.Image == "" {
		made, err := d.images.Make(ctx, d.environment, d.content)
		if err != nil {
			return nil, err
		}
		result.Timings.Environment, result.Timings.Model = made.Environment, made.Model
		d.spec.Image = made.Ref
	}
	result.Image = d.spec.Image
	if err := c.rollOut(ctx, r, d.spec, result); err != nil {
		return nil, err
	}
	return result, nil
}

// purpose is what a walk prepares for.
type purpose int

const (
	toDeploy purpose = iota
	toBuild          // the cluster is asked for what nobody has said, and need not be there
)

// deployment is one walk of Deploy or Build, ready to be built.
type deployment struct {
	uri         string           // with a version where the request's had an alias
	version     tracking.Version // of a model of the tracking server
	example     bool             // it has an example of a request
	loose       bool             // its files may change without a change of their names and sizes
	images      images
	environment image.Environment
	content     image.Content
	spec        serving.Spec
	close       func() // ends the way to the tracking server, from where the model is still to come
}

// patience is how long all that comes before the first change may take.
const patience = 3 * time.Minute

// prepare finds out all that is needed and checks all that can be checked. It writes nothing that stays.
func (c *Client) prepare(ctx context.Context, r Request, why purpose) (*deployment, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := &deployment{close: func() {}}
	what := "Checking " + r.ModelURI + ", image repository and cluster"
	if why == toBuild {
		what = "Checking " + r.ModelURI + " and image repository"
	}
	if r.Image != "" {
		what = "Checking " + r.Image + " and cluster"
	}
	err := progress.Do(c.progress, what, func(s progress.Step) error {
		if r.Image != "" {
			return c.checkImage(ctx, r, d, s)
		}
		repository, err := c.repository(ctx, r, why, s)
		if err != nil {
			return err
		}
		if d.images, err = c.images(repository); err != nil {
			return err
		}
		return together(ctx,
			func(ctx context.Context) error {
				if err := c.checkModel(ctx, r, why, d, s); err != nil || why == toBuild {
					return err
				}
				return c.knative.Check(ctx, d.spec)
			},
			func(ctx context.Context) error {
				if err := d.images.CheckPush(ctx); err != nil || why == toBuild {
					return err
				}
				return c.tellPull(ctx, r, repository, d.images)
			},
		)
	})
	if err != nil {
		d.close()
		return nil, inTime(ctx, err)
	}
	return d, nil
}

// inTime tells the end of patience from other failures, which explain themselves.
func inTime(ctx context.Context, err error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) || failure.ClassOf(err) != "" {
		return err
	}
	return &failure.Error{
		Class: failure.TimedOut, Reason: "ChecksTimedOut", Message: fmt.Sprintf("the checks before the deployment took longer than %s", patience),
		Hint: "is what the message names slow or out of reach? try again", Err: err,
	}
}

// checkModel reads the model and decides how it is built and served.
func (c *Client) checkModel(ctx context.Context, r Request, why purpose, d *deployment, s progress.Step) error {
	files, err := c.locate(ctx, r, d, s)
	if err != nil {
		return err
	}
	m, err := model.Read(ctx, files)
	if err != nil {
		return fmt.Errorf("%s: %w", d.uri, err)
	}
	d.example = m.InputExample != nil
	runtime, err := servingruntime.Choose(m, r.Name, r.ModelServer)
	if err != nil {
		return err
	}
	if d.environment, err = c.environment(ctx, r, why, d.images, files, m, runtime, s); err != nil {
		return err
	}
	annotations := map[string]string{serving.ModelURIKey: d.uri, serving.EnvironmentKey: d.environment.Key()}
	for key, value := range map[string]string{serving.VersionKey: d.version.Version, serving.RunIDKey: m.RunID} {
		if value != "" {
			annotations[key] = value
		}
	}
	key := ""
	if !d.loose {
		if key, err = contentKey(ctx, d.uri, files); err != nil {
			return err
		}
	}
	d.content = image.Content{Key: key, Model: files, Launcher: runtime.Files, Command: runtime.Command, Labels: maps.Clone(annotations), Tag: r.ImageTag, Anew: r.Rebuild, Builder: r.Builder}
	d.content.Present = func(ctx context.Context) (string, error) {
		present, err := c.knative.Get(ctx, r.Namespace, r.Name)
		return present.Image, err
	}
	d.spec = serving.Spec{
		Namespace: r.Namespace, Name: r.Name, Annotations: annotations,
		ReadyPath: runtime.ReadyPath, Port: runtime.Port, Env: environmentOf(runtime, d.version), Timeout: r.timeout(), Only: r.Only,
	}
	return nil
}

// locate finds the model's files, on the tracking server or in a directory here, and what to call them for good. The way to them outlives
// this check, but not Deploy.
func (c *Client) locate(ctx context.Context, r Request, d *deployment, s progress.Step) (model.Files, error) {
	if name, ok := directoryOf(r.ModelURI); ok {
		directory, err := model.OpenDirectory(name)
		if err != nil {
			return nil, err
		}
		d.close = func() { _ = directory.Close() } // nothing was written
		d.loose = true
		d.uri, err = directoryURI(name)
		return directory, err
	}
	uri, err := tracking.ParseURI(r.ModelURI)
	if err != nil {
		return nil, err
	}
	src, closer, err := c.connect(ctx, r, s)
	if err != nil {
		return nil, err
	}
	d.close = closer
	if d.version, err = src.Resolve(ctx, uri); err != nil {
		return nil, err
	}
	d.uri = pinned(uri, d.version)
	return src.Files(d.version), nil
}

// environmentOf is what the server is told by the Service: two Services may share one image.
func environmentOf(runtime *servingruntime.Runtime, v tracking.Version) map[string]string {
	env := maps.Clone(runtime.Env)
	if env == nil {
		env = map[string]string{}
	}
	if v.Version != "" {
		env[servingruntime.VersionVariable] = v.Version
	}
	return env
}

// rollOut writes the Service, and waits for the revision and then for its traffic.
func (c *Client) rollOut(ctx context.Context, r Request, spec serving.Spec, result *Result) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	began := time.Now()
	var applied serving.Applied
	err := progress.Do(c.progress, fmt.Sprintf("Applying Knative Service %s in namespace %s", r.Name, r.Namespace), func(s progress.Step) error {
		var err error
		if applied, err = c.knative.Apply(ctx, spec); err == nil {
			s.Note(applied.Action)
		}
		return err
	})
	if err != nil {
		return err
	}
	result.Action, result.Revision = applied.Action, applied.Revision.Name
	result.Timings.Apply = time.Since(began)

	began = time.Now()
	err = progress.Do(c.progress, "Waiting for revision "+applied.Revision.Name, func(s progress.Step) error {
		revision := readiness.Target{Object: applied.Revision, Pods: serving.Pods(applied.Revision.Name), Status: serving.RevisionStatus}
		if err := c.wait(ctx, []readiness.Target{revision}, s); err != nil {
			return err
		}
		route := readiness.Target{Object: applied.Service, Status: serving.RouteStatus(applied)}
		return c.wait(ctx, []readiness.Target{route}, s)
	})
	if err != nil {
		return err
	}
	result.Timings.Ready = time.Since(began)
	deployed, err := c.knative.Get(ctx, r.Namespace, r.Name)
	result.URL = deployed.URL
	return err
}

// pinned is the URI of what an alias or a stage meant when it was resolved.
func pinned(u tracking.URI, v tracking.Version) string {
	if u.Scheme == "models" && v.Version != "" {
		return strings.Join([]string{"models:", v.Name, v.Version}, "/")
	}
	return u.String()
}
