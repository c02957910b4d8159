package deployments

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/servingruntime"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Deploy creates or updates one deployment and waits until its revision has the traffic. The same content again is "unchanged" and
// writes nothing to the cluster. Until all checks have passed nothing is written anywhere.
func (c *Client) Deploy(ctx context.Context, r Request) (*Result, error) {
	p, err := c.plan(ctx, r)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.build(ctx); err != nil {
		return nil, err
	}
	if err := p.rollOut(ctx); err != nil {
		return nil, err
	}
	return p.result, nil
}

// plan is a deployment whose checks have passed. close must be called.
type plan struct {
	*Client
	*deployment
	request Request
	result  *Result // so far
}

func (c *Client) plan(ctx context.Context, r Request) (*plan, error) {
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
	p := &plan{Client: c, deployment: d, request: r}
	p.result = &Result{Namespace: r.Namespace, Name: r.Name, ModelURI: d.uri, Version: d.version.Version, Example: len(d.example) > 0 && !d.loose}
	p.result.Timings.Resolve = time.Since(began)
	return p, nil
}

// build makes the image, and sends it to its repository.
func (p *plan) build(ctx context.Context) error {
	if p.spec.Image == "" {
		made, err := p.images.Make(ctx, p.deployment.environment, p.content)
		if err != nil {
			return err
		}
		p.result.Timings.Environment, p.result.Timings.Model = made.Environment, made.Model
		p.spec.Image = made.Ref
	}
	p.result.Image = p.spec.Image
	return nil
}

// purpose is what a walk prepares for.
type purpose int

const (
	toDeploy purpose = iota
	toBuild          // the cluster is asked for what nobody has said, and need not be there
)

// deployment is one walk of Deploy or Build, ready to be built.
type deployment struct {
	present     *serving.Deployment // as it was before; nil where it was not there, or nobody asked
	uri         string              // with a version where the request's had an alias
	version     tracking.Version    // of a model of the tracking server
	example     []byte              // of a request, that the model was logged with; nil where it was not
	loose       bool                // its files may change without a change of their names and sizes
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
		if d.images, err = c.images(repository, c.progress); err != nil {
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
	d.example = m.InputExample
	if why != toBuild {
		if d.present, err = c.lookUp(ctx, r); err != nil {
			return err
		}
	}
	runtime, err := servingruntime.Choose(m, cmp.Or(d.modelName(), r.Name), r.ModelServer)
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
	d.content = image.Content{Key: key, Model: files, Launcher: runtime.Files, Command: runtime.Command, Labels: labelsOf(annotations, d.example), Tag: r.ImageTag, Anew: r.Rebuild, Builder: r.Builder}
	d.content.Present = func(ctx context.Context) (string, error) {
		present, err := c.knative.Get(ctx, r.Namespace, r.Name)
		return present.Image, err
	}
	d.spec, err = r.spec(runtime, d, annotations)
	return err
}

// lookUp is the deployment as it is, nil where there is none.
func (c *Client) lookUp(ctx context.Context, r Request) (*serving.Deployment, error) {
	found, err := c.knative.Get(ctx, r.Namespace, r.Name)
	if isNotFound(err) {
		return nil, nil
	}
	return &found, err
}

// modelName is what the clients of a deployment that is there know its model by; "" is the deployment's name.
func (d *deployment) modelName() string {
	if d.present == nil {
		return ""
	}
	return d.present.ModelName
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

// largestExample is what a label of an image may hold of an example: registries and nodes read an image's configuration whole.
const largestExample = 64 << 10

// labelsOf are the image's: all that it takes to deploy it elsewhere.
func labelsOf(annotations map[string]string, example []byte) map[string]string {
	labels := maps.Clone(annotations)
	if len(example) > 0 && len(example) <= largestExample {
		labels[serving.ExampleKey] = string(example)
	}
	return labels
}

// pinned is the URI of what an alias or a stage meant when it was resolved.
func pinned(u tracking.URI, v tracking.Version) string {
	if u.Scheme == "models" && v.Version != "" {
		return strings.Join([]string{"models:", v.Name, v.Version}, "/")
	}
	return u.String()
}
