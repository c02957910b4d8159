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

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/servingruntime"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// modelFile is the file that makes a directory a model.
const modelFile = "MLmodel"

// environment is what m needs to run under its server, on the nodes' platform.
func (c *Client) environment(ctx context.Context, r Request, to images, m *model.Model, runtime *servingruntime.Runtime, s progress.Step) (image.Environment, error) {
	platform, err := c.platform(ctx, r.Platform, s)
	if err != nil {
		return image.Environment{}, err
	}
	base, err := to.ResolveBase(ctx, r.BaseImage, m.Python)
	if err != nil {
		return image.Environment{}, err
	}
	return image.Environment{
		Base: base, Platform: platform, Python: m.Python,
		Requirements: slices.Concat(m.Requirements, runtime.Requirements), Constraints: m.Constraints,
	}, nil
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
