// Package model reads an MLflow model: MLmodel, requirements, signature, input example. Pure: no network, no Kubernetes.
package model

import (
	"context"
	"io"
)

// File is one file of a model. Path is slash-separated, clean and local (io/fs.ValidPath).
type File struct {
	Path   string
	Size   int64  // bytes, -1 if the store does not say
	SHA256 string // lower-case hex, or "" if not known before reading
}

// Files is a model's directory, near or far.
type Files interface {
	// List names every file of the model, sorted by path.
	List(ctx context.Context) ([]File, error)
	// Open reads path from offset bytes on. A path that is not there is an error that wraps fs.ErrNotExist.
	Open(ctx context.Context, path string, offset int64) (io.ReadCloser, error)
}

// Model is what the MLmodel file and its neighbours say.
type Model struct {
	UUID          string // model_uuid
	ModelID       string // model_id, "m-…": MLflow 3
	RunID         string // "" for a model that was logged without a run
	MLflowVersion string // the MLflow that logged it, "3.17.2"
	Flavors       []string
	Python        string   // "3.11.7"
	Requirements  []string // one requirement or option line each, comments removed
	Constraints   []string
	CondaPackages []string // what conda would install beside pip's part, of a model with no requirements.txt: "cudatoolkit=11.8"
	Signature     *Signature
	InputExample  []byte // serving_input_example.json, or nil
	RunsCode      bool   // pickle, code paths or loader module
}

// Signature is the model's schema as JSON; nil parts are absent.
type Signature struct{ Inputs, Outputs, Params []byte }

// Read reads the small files only. failure.Invalid names the file and the line.
func Read(ctx context.Context, f Files) (*Model, error) {
	return read(ctx, f)
}
