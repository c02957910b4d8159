package model

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// dir is Files over a file system of the standard library.
type dir struct{ fs.FS }

func (d dir) List(context.Context) ([]File, error) {
	var files []File
	err := fs.WalkDir(d.FS, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files = append(files, File{Path: p, Size: info.Size()})
		return nil
	})
	return files, err
}

func (d dir) Open(_ context.Context, path string, offset int64) (io.ReadCloser, error) {
	b, err := fs.ReadFile(d.FS, path)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b[offset:])), nil
}

// testdata/iris is a scikit-learn model as MLflow 3.17.2 logs it.
func TestReadRealModel(t *testing.T) {
	m, err := Read(t.Context(), dir{os.DirFS("testdata/iris")})
	if err != nil {
		t.Fatal(err)
	}
	if m.Signature == nil || !strings.HasPrefix(string(m.Signature.Inputs), `[{"type": "double", "name": "sepal length (cm)"`) ||
		string(m.Signature.Outputs) != `[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]` || m.Signature.Params != nil {
		t.Errorf("signature = %+v", m.Signature)
	}
	if !bytes.Contains(m.InputExample, []byte(`"dataframe_split"`)) {
		t.Errorf("input example = %s", m.InputExample)
	}
	m.Signature, m.InputExample = nil, nil
	want := &Model{
		UUID:          "m-fa7fefe84b534268a2099cf7e20841e1",
		ModelID:       "m-fa7fefe84b534268a2099cf7e20841e1",
		RunID:         "c946f3a044fd42dab1852093d346f777",
		MLflowVersion: "3.17.2",
		Flavors:       []string{"python_function", "sklearn"},
		Python:        "3.11.7",
		Requirements:  []string{"mlflow==3.17.2", "numpy==2.4.6", "pandas==3.1.1", "scikit-learn==1.9.1", "scipy==1.17.1", "skops==0.16.0"},
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
}

const mlmodel2 = `flavors:
  python_function:
    loader_module: mlflow.sklearn
    python_version: 3.10
mlflow_version: 2.9.2
model_uuid: 0a1b
run_id: null
`

func model2(changed map[string]string) dir {
	files := fstest.MapFS{
		"MLmodel":          {Data: []byte(mlmodel2)},
		"requirements.txt": {Data: []byte("mlflow==2.9.2\n")},
	}
	for name, text := range changed {
		if text == "" {
			delete(files, name)
			continue
		}
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return dir{files}
}

func TestPythonVersion(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"of the flavor, and not as a number": {nil, "3.10"},
		"python_env.yaml wins":               {map[string]string{"python_env.yaml": "python: 3.12.4\n"}, "3.12.4"},
		"python_env.yaml without it":         {map[string]string{"python_env.yaml": "dependencies: []\n"}, "3.10"},
		"nobody says":                        {map[string]string{"MLmodel": "flavors: {sklearn: {}}\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Read(t.Context(), model2(tc.files))
			if err != nil {
				t.Fatal(err)
			}
			if m.Python != tc.want {
				t.Errorf("Python = %q, want %q", m.Python, tc.want)
			}
		})
	}
}

func TestRequirementLines(t *testing.T) {
	text := "\ufeff# a comment\r\n" +
		"mlflow==3.17.2  # the server's\r\n" +
		"\r\n" +
		"numpy==2.4.6 \\\n    --hash=sha256:aa \\\n  # in between\n" +
		"pkg @ https://example.com/p.zip#sha256=bb\n" +
		"-c constraints.txt\n" +
		"-c more.txt\n" +
		"--extra-index-url https://example.com/simple\n" +
		"scipy==1.17.1 \\"
	m, err := Read(t.Context(), model2(map[string]string{"requirements.txt": text, "constraints.txt": "pandas<3\n"}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"mlflow==3.17.2",
		"numpy==2.4.6     --hash=sha256:aa",
		"pkg @ https://example.com/p.zip#sha256=bb",
		"-c more.txt",
		"--extra-index-url https://example.com/simple",
		"scipy==1.17.1",
	}
	if !reflect.DeepEqual(m.Requirements, want) {
		t.Errorf("got  %q\nwant %q", m.Requirements, want)
	}
	if !reflect.DeepEqual(m.Constraints, []string{"pandas<3"}) {
		t.Errorf("constraints = %q", m.Constraints)
	}
}

func TestWithoutRequirementsPipsPartOfCondaIsTaken(t *testing.T) {
	files := map[string]string{
		"requirements.txt": "",
		"MLmodel":          "flavors: {python_function: {loader_module: mlflow.sklearn, env: env.yaml, python_version: 3.10.1}}\n",
		"env.yaml": `channels: [defaults]
dependencies:
- conda-forge::python=3.11.7
- scikit-learn=0.22.1
- pip<=26.3
- pip:
  - mlflow==2.22.1  # the server's
  - "--extra-index-url https://example.com/simple"
- cudatoolkit
name: mlflow-env
`,
	}
	m, err := Read(t.Context(), model2(files))
	if err != nil {
		t.Fatal(err)
	}
	if m.Python != "3.11.7" || !slices.Equal(m.Requirements, []string{"mlflow==2.22.1", "--extra-index-url https://example.com/simple"}) ||
		!slices.Equal(m.CondaPackages, []string{"scikit-learn=0.22.1", "cudatoolkit"}) {
		t.Errorf("Python %q, requirements %q, conda's %q", m.Python, m.Requirements, m.CondaPackages)
	}
	files["MLmodel"] = "flavors: {python_function: {env: {conda: env.yaml, virtualenv: python_env.yaml}, python_version: 3.10.1}}\n"
	files["env.yaml"] = "dependencies: [python>=3.8, pip]\n"
	if m, err = Read(t.Context(), model2(files)); err != nil || m.Python != "3.10.1" || len(m.Requirements) != 0 || len(m.CondaPackages) != 0 {
		t.Errorf("got %+v, %v", m, err)
	}
	for text, want := range map[string]string{
		"dependencies:\n- python=3.11\n- [pip]\n": "env.yaml:3: is neither a package nor pip's part",
		"dependencies:\n- python=3.11\n- '='\n":   `env.yaml:3: "=" is not a package`,
	} {
		files["env.yaml"] = text
		if _, err := Read(t.Context(), model2(files)); failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want Invalid with %q", err, want)
		}
	}
}

func TestRunsCode(t *testing.T) {
	flavors := func(body string) map[string]string { return map[string]string{"MLmodel": "flavors:\n" + body} }
	for name, tc := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"none":           {nil, false},
		"skops":          {flavors("  sklearn: {serialization_format: skops, code: null}\n"), false},
		"cloudpickle":    {flavors("  sklearn: {serialization_format: cloudpickle}\n"), true},
		"PythonModel":    {flavors("  python_function: {loader_module: mlflow.pyfunc.model}\n"), true},
		"foreign loader": {flavors("  python_function: {loader_module: my.loader}\n"), true},
		"code paths":     {flavors("  python_function: {loader_module: mlflow.sklearn, code: code}\n"), true},
		"a pickle":       {map[string]string{"data/model.PKL": "x"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Read(t.Context(), model2(tc.files))
			if err != nil {
				t.Fatal(err)
			}
			if m.RunsCode != tc.want {
				t.Errorf("RunsCode = %v, want %v", m.RunsCode, tc.want)
			}
		})
	}
}

func TestReadNamesFileAndLine(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no MLmodel":           {map[string]string{"MLmodel": ""}, "there is no MLmodel file in it"},
		"no YAML":              {map[string]string{"MLmodel": "flavors:\n  a: b\n c: [\n"}, "MLmodel:"},
		"flavors is a list":    {map[string]string{"MLmodel": "run_id: a\nflavors:\n- sklearn\n"}, "MLmodel:3: cannot unmarshal"},
		"no flavors":           {map[string]string{"MLmodel": "run_id: a\n"}, "MLmodel: names no flavors"},
		"empty":                {map[string]string{"MLmodel": "\n"}, "MLmodel: is empty"},
		"Python is no version": {map[string]string{"python_env.yaml": "build_dependencies: []\npython: latest\n"}, `python_env.yaml:2: "latest" is not a Python version`},
		"binary requirements":  {map[string]string{"requirements.txt": "numpy\nscipy\x00\n"}, "requirements.txt:2: holds a character that is no text"},
		"no requirements":      {map[string]string{"requirements.txt": ""}, "requirements.txt: is not there, nor is conda.yaml"},
		"huge requirements":    {map[string]string{"requirements.txt": strings.Repeat("#\n", maxText)}, "requirements.txt: is larger than 4 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(t.Context(), model2(tc.files))
			if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want Invalid with %q", err, tc.want)
			}
		})
	}
}

func TestReadSaysWhereTheModelIs(t *testing.T) {
	_, err := Read(t.Context(), dir{fstest.MapFS{"run/model/MLmodel": {Data: []byte(mlmodel2)}}})
	e, ok := errors.AsType[*failure.Error](err)
	if !ok || e.Hint != "the directory run/model below it holds a model" {
		t.Errorf("error = %#v", err)
	}
}

func TestInputExampleAboveTheBoundIsLeftOut(t *testing.T) {
	m, err := Read(t.Context(), model2(map[string]string{"serving_input_example.json": strings.Repeat(" ", maxExample+1)}))
	if err != nil || m.InputExample != nil {
		t.Errorf("example of %d bytes, error %v", len(m.InputExample), err)
	}
}
