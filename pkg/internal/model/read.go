package model

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// The files of a model, by MLflow's names.
const (
	mlmodelFile      = "MLmodel"
	requirementsFile = "requirements.txt"
	constraintsFile  = "constraints.txt"
	pythonEnvFile    = "python_env.yaml"
	servingInputFile = "serving_input_example.json"
)

const (
	// maxText is far above any MLmodel or requirements.txt; more is not one.
	maxText = 4 << 20
	// maxExample bounds what is kept in memory of an input example.
	maxExample = 16 << 20
)

func read(ctx context.Context, f Files) (*Model, error) {
	listed, err := f.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the model's files: %w", err)
	}
	sizes := make(map[string]int64, len(listed))
	for _, file := range listed {
		sizes[file.Path] = file.Size
	}
	if _, ok := sizes[mlmodelFile]; !ok {
		return nil, noMLmodel(listed)
	}
	r := reader{ctx: ctx, files: f, sizes: sizes}

	text, err := r.text(mlmodelFile)
	if err != nil {
		return nil, err
	}
	doc, err := parseMLmodel(text)
	if err != nil {
		return nil, err
	}
	m := doc.model()

	env, err := r.text(pythonEnvFile)
	if err != nil {
		return nil, err
	}
	if m.Python, err = pythonVersion(env, doc); err != nil {
		return nil, err
	}
	if err := r.requirements(m, doc); err != nil {
		return nil, err
	}
	if m.Constraints, err = r.lines(constraintsFile); err != nil {
		return nil, err
	}
	if _, ok := sizes[constraintsFile]; ok { // MLflow puts them beside the requirements, which then refer to them
		m.Requirements = slices.DeleteFunc(m.Requirements, ownConstraints().MatchString)
	}
	example := servingInputFile
	if doc.Example.ServingInputPath != "" {
		example = doc.Example.ServingInputPath
	}
	if m.InputExample, err = r.example(example); err != nil {
		return nil, err
	}
	m.RunsCode = m.RunsCode || slices.ContainsFunc(listed, func(f File) bool { return isPickle(f.Path) })
	return m, nil
}

// requirements reads which packages m needs: from requirements.txt, else from conda.yaml, which then also says for which Python.
func (r reader) requirements(m *Model, doc *mlmodel) (err error) {
	if _, ok := r.sizes[requirementsFile]; ok {
		m.Requirements, err = r.lines(requirementsFile)
		return err
	}
	name := doc.condaPath()
	text, err := r.text(name)
	if err != nil {
		return err
	}
	if text == nil {
		return invalid(requirementsFile, 0, "is not there, nor is %s: nothing says which packages the model needs", name)
	}
	c, err := parseConda(name, text)
	if err != nil {
		return err
	}
	m.Requirements, m.CondaPackages, m.Python = c.pip, c.others, cmp.Or(c.python, m.Python)
	return nil
}

func ownConstraints() *regexp.Regexp {
	return regexp.MustCompile(`^(?:-c|--constraint)[\s=]+(?:\./)?` + regexp.QuoteMeta(constraintsFile) + `$`)
}

// noMLmodel says that the directory holds no model, and where one is, if it is further down.
func noMLmodel(listed []File) error {
	e := &failure.Error{Class: failure.Invalid, Reason: "NotAModel", Message: "there is no MLmodel file in it"}
	if len(listed) == 0 {
		e.Message = "there are no files in it"
	}
	for _, f := range listed {
		if path.Base(f.Path) == mlmodelFile {
			e.Hint = fmt.Sprintf("the directory %s below it holds a model", path.Dir(f.Path))
			break
		}
	}
	return e
}

// reader reads whole small files of one listing.
type reader struct {
	ctx   context.Context
	files Files
	sizes map[string]int64
}

// text returns a text file, nil where it is not listed.
func (r reader) text(name string) ([]byte, error) {
	if _, ok := r.sizes[name]; !ok {
		return nil, nil
	}
	b, err := r.all(name, maxText)
	if err != nil {
		return nil, err
	}
	if len(b) > maxText {
		return nil, invalid(name, 0, "is larger than %d MiB", maxText>>20)
	}
	return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), nil
}

func (r reader) lines(name string) ([]string, error) {
	b, err := r.text(name)
	if err != nil {
		return nil, err
	}
	return requirementLines(name, b)
}

// example returns the input example; one above the bound is as if there were none.
func (r reader) example(name string) ([]byte, error) {
	if size, ok := r.sizes[name]; !ok || size > maxExample {
		return nil, nil
	}
	b, err := r.all(name, maxExample)
	if err != nil || len(b) > maxExample {
		return nil, err
	}
	return b, nil
}

// all reads at most limit+1 bytes.
func (r reader) all(name string, limit int64) ([]byte, error) {
	body, err := r.files.Open(r.ctx, name, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if closeErr := body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// invalid is an error in a file, at a line if line is not 0.
func invalid(file string, line int, format string, args ...any) error {
	where := file
	if line > 0 {
		where = fmt.Sprintf("%s:%d", file, line)
	}
	return &failure.Error{
		Class:   failure.Invalid,
		Reason:  "InvalidModel",
		Message: strings.TrimSpace(where + ": " + fmt.Sprintf(format, args...)),
		Hint:    "log the model again with mlflow, or correct the file",
	}
}
