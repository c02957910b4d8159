package deployments

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/servingruntime"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// modelFile is the file that makes a directory a model.
const modelFile = "MLmodel"

// Built is an image that was made, or that was there.
type Built struct {
	// Image by digest.
	Image string `json:"image"`
	// ModelURI has a version where the request's had an alias.
	ModelURI string `json:"modelURI"`
	Version  string `json:"version,omitempty"`
	// Platform is "linux/amd64".
	Platform string `json:"platform"`
	// EnvironmentKey is the same for all images that share an environment.
	EnvironmentKey string  `json:"environmentKey"`
	Timings        Timings `json:"timings"`
}

// Build makes the image that Deploy would deploy, and pushes it. It changes nothing on the cluster, and asks it only for what the
// request leaves open: the nodes' platform, the deployment's image repository, the MLflow.
func (c *Client) Build(ctx context.Context, r Request) (*Built, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	namespace, err := c.in(r.Namespace)
	if err != nil {
		return nil, err
	}
	r.Namespace = namespace
	began := time.Now()
	d, err := c.prepare(ctx, r, toBuild)
	if err != nil {
		return nil, err
	}
	defer d.close()
	built := &Built{ModelURI: d.uri, Version: d.version.Version, Platform: d.environment.Platform, EnvironmentKey: d.environment.Key()}
	built.Timings.Resolve = time.Since(began)
	made, err := d.images.Make(ctx, d.environment, d.content)
	if err != nil {
		return nil, err
	}
	built.Image, built.Timings.Environment, built.Timings.Model = made.Ref, made.Environment, made.Model
	return built, nil
}

// environment is what m needs to run under its server, on the nodes' platform.
func (c *Client) environment(ctx context.Context, r Request, why purpose, to images, files model.Files, m *model.Model, runtime *servingruntime.Runtime, s progress.Step) (image.Environment, error) {
	platform, err := c.platform(ctx, r.Platform, why, s)
	if err != nil {
		return image.Environment{}, err
	}
	wheels, err := model.Wheels(ctx, files, m)
	if err != nil {
		return image.Environment{}, err
	}
	e := image.Environment{
		Platform: platform, Python: m.Python,
		Requirements: slices.Concat(m.Requirements, runtime.Requirements), Constraints: m.Constraints, Wheels: wheels, Apt: r.Apt,
	}
	if r.EnvironmentImage != "" {
		given, doubts, err := to.Given(ctx, r.EnvironmentImage, e)
		for _, doubt := range doubts {
			progress.Say(c.progress, "warning: %s", doubt)
		}
		return given, err
	}
	if len(m.CondaPackages) > 0 {
		progress.Say(c.progress, "warning: the model has no requirements.txt: of its conda.yaml pip's part is installed, and this is not: %s",
			strings.Join(m.CondaPackages, ", "))
	}
	e.TorchBackend = image.TorchBackend(r.TorchBackend, e.Requirements)
	e.Base, err = to.ResolveBase(ctx, r.BaseImage, m.Python)
	return e, err
}

// contentKey identifies a model's files without reading them all: MLmodel holds the model's own ID, and the store their names and
// sizes. uri says which version it is.
func contentKey(ctx context.Context, uri string, files model.Files) (string, error) {
	list, err := files.List(ctx)
	if err != nil {
		return "", fmt.Errorf("list the files of %s: %w", uri, err)
	}
	slices.SortFunc(list, func(a, b model.File) int { return cmp.Compare(a.Path, b.Path) })
	sum := sha256.New()
	if err := json.NewEncoder(sum).Encode(struct {
		URI   string
		Files []model.File
	}{uri, list}); err != nil {
		return "", fmt.Errorf("files of %s: %w", uri, err)
	}
	in, err := files.Open(ctx, modelFile, 0)
	if err != nil {
		return "", fmt.Errorf("read %s of %s: %w", modelFile, uri, err)
	}
	_, err = io.Copy(sum, in)
	if err = errors.Join(err, in.Close()); err != nil {
		return "", fmt.Errorf("read %s of %s: %w", modelFile, uri, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
