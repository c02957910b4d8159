package model

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// mlmodel is the part of the MLmodel file that we read (mlflow.models.Model.to_dict).
type mlmodel struct {
	Flavors   map[string]flavor `yaml:"flavors"`
	RunID     string            `yaml:"run_id"`
	ModelUUID string            `yaml:"model_uuid"`
	ModelID   string            `yaml:"model_id"`
	MLflow    string            `yaml:"mlflow_version"`
	Signature *struct {
		Inputs  string `yaml:"inputs"` // JSON, as the other two
		Outputs string `yaml:"outputs"`
		Params  string `yaml:"params"`
	} `yaml:"signature"`
	Example struct {
		ServingInputPath string `yaml:"serving_input_path"`
	} `yaml:"saved_input_example_info"`
}

// flavor keeps its values as nodes: what a flavor writes is its own affair, and a version such as 3.10 must not become a number.
type flavor map[string]yaml.Node

func (f flavor) text(key string) string {
	n, ok := f[key]
	if !ok || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

func parseMLmodel(text []byte) (*mlmodel, error) {
	var doc mlmodel
	if err := decode(mlmodelFile, text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Flavors) == 0 {
		return nil, invalid(mlmodelFile, 0, "names no flavors")
	}
	return &doc, nil
}

// decode reads one YAML document. The error names file and line.
func decode(file string, text []byte, into any) error {
	err := yaml.NewDecoder(bytes.NewReader(text)).Decode(into)
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return invalid(file, 0, "is empty")
	}
	line, message := yamlError(err)
	return invalid(file, line, "%s", message)
}

// yamlError takes the first complaint and its line out of the parser's text: "yaml: line 3: did not find …",
// "yaml: unmarshal errors:\n  line 4: cannot unmarshal …".
func yamlError(err error) (line int, message string) {
	message = err.Error()
	if e, ok := errors.AsType[*yaml.TypeError](err); ok && len(e.Errors) > 0 {
		message = e.Errors[0]
	}
	message = strings.TrimPrefix(message, "yaml: ")
	rest, ok := strings.CutPrefix(message, "line ")
	if !ok {
		return 0, message
	}
	number, text, ok := strings.Cut(rest, ": ")
	n, err := strconv.Atoi(number)
	if !ok || err != nil {
		return 0, message
	}
	return n, text
}

func (d *mlmodel) model() *Model {
	m := &Model{
		UUID:          d.ModelUUID,
		ModelID:       d.ModelID,
		RunID:         d.RunID,
		MLflowVersion: d.MLflow,
		Flavors:       slices.Sorted(maps.Keys(d.Flavors)),
		RunsCode:      d.runsCode(),
	}
	if d.Signature != nil {
		m.Signature = &Signature{
			Inputs:  part(d.Signature.Inputs),
			Outputs: part(d.Signature.Outputs),
			Params:  part(d.Signature.Params),
		}
	}
	return m
}

func part(json string) []byte {
	if json == "" || json == "null" {
		return nil
	}
	return []byte(json)
}

// runsCode tells whether the MLmodel file says that loading the model runs code from the model itself: pickles, Python files
// logged with it, a loader that is not MLflow's.
func (d *mlmodel) runsCode() bool {
	for _, f := range d.Flavors {
		if f.text("code") != "" || f.text("model_code_path") != "" || f.text("cloudpickle_version") != "" {
			return true
		}
		if loader := f.text("loader_module"); loader == "mlflow.pyfunc.model" || loader != "" && !strings.HasPrefix(loader, "mlflow.") {
			return true
		}
		if strings.Contains(f.text("serialization_format"), "pickle") {
			return true
		}
	}
	return false
}

// isPickle tells by the name whether a file is one that Python unpickles; PyTorch's files are.
func isPickle(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".pkl", ".pickle", ".cloudpickle", ".joblib", ".dill", ".pt", ".pth":
		return true
	}
	return false
}

// pythonVersion is X.Y or X.Y.Z of python_env.yaml, else of the python_function flavor, else "".
func pythonVersion(env []byte, doc *mlmodel) (string, error) {
	if env != nil {
		var e struct {
			Python yaml.Node `yaml:"python"`
		}
		if err := decode(pythonEnvFile, env, &e); err != nil {
			return "", err
		}
		if e.Python.Kind != 0 {
			return checkPython(pythonEnvFile, e.Python)
		}
	}
	if n, ok := doc.Flavors["python_function"]["python_version"]; ok {
		return checkPython(mlmodelFile, n)
	}
	return "", nil
}

func checkPython(file string, n yaml.Node) (string, error) {
	if ok, err := regexp.MatchString(`^[0-9]+\.[0-9]+(\.[0-9]+)?$`, n.Value); err != nil || !ok {
		return "", invalid(file, n.Line, "%q is not a Python version such as 3.11.7", n.Value)
	}
	return n.Value, nil
}
