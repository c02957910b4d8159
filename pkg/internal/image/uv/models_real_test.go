//go:build real

package uv_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/uv"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// makeModels logs models of MLflow 2 that bring something along, and writes what each predicts for the same rows.
const makeModels = `
import json, os, pathlib, subprocess, sys, tempfile, warnings, zipfile
warnings.filterwarnings("ignore")
where = pathlib.Path(sys.argv[1])
os.chdir(where)
import mlflow, numpy as np, pandas as pd, lightgbm
from sklearn.datasets import load_iris
mlflow.set_tracking_uri("sqlite:///mlflow.db")
frame, target = load_iris(return_X_y=True, as_frame=True)
rows = frame.iloc[[0, 60, 120]]
rows.to_json("rows.json", orient="split")

# Code beside the model, in a folder and as a wheel, which its requirements name as MLflow's documentation does.
pathlib.Path("beside").mkdir()
pathlib.Path("beside/__init__.py").write_text("def double(x): return x * 2\n")
with zipfile.ZipFile("mine-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("mine/__init__.py", "def add_one(x): return x + 1\n")
    wheel.writestr("mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    wheel.writestr("mine-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("mine-1.0.dist-info/RECORD", "mine/__init__.py,,\nmine-1.0.dist-info/METADATA,,\nmine-1.0.dist-info/WHEEL,,\nmine-1.0.dist-info/RECORD,,\n")
sys.path.insert(0, str(where / "mine-1.0-py3-none-any.whl"))
class Custom(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        import beside, mine
        return mine.add_one(beside.double(model_input.iloc[:, 0].to_numpy()))
versions = ["mlflow==" + mlflow.__version__, "numpy==" + np.__version__, "pandas==" + pd.__version__]
mlflow.pyfunc.save_model("code", python_model=Custom(), code_paths=["beside", "mine-1.0-py3-none-any.whl"],
    pip_requirements=versions + ["code/mine-1.0-py3-none-any.whl"])

# A model of which conda.yaml alone says what it needs.
mlflow.lightgbm.save_model(lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(frame, target), "conda")
for gone in "requirements.txt", "python_env.yaml": os.remove("conda/" + gone)

# A model with all that it needs as wheels.
class Plain(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None): return model_input.sum(axis=1).to_numpy()
with mlflow.start_run():
    mlflow.pyfunc.log_model("plain", python_model=Plain(), registered_model_name="plain",
        pip_requirements=["mlflow-skinny==" + mlflow.__version__, *versions[1:]])
from mlflow.models.utils import add_libraries_to_model
with mlflow.start_run(): add_libraries_to_model("models:/plain/1")
mlflow.artifacts.download_artifacts("models:/plain/2", dst_path="wheeled")

for name in "code", "conda", "wheeled":
    pathlib.Path(name + ".json").write_text(json.dumps(mlflow.pyfunc.load_model(name).predict(rows).tolist()))
`

// predict loads a model as the server does, and prints what it predicts.
const predict = `
import json, sys, warnings
warnings.filterwarnings("ignore")
import mlflow.pyfunc, pandas as pd
where, model = sys.argv[1:]
rows = pd.read_json(where + "/rows.json", orient="split")
print(json.dumps(mlflow.pyfunc.load_model(where + "/" + model).predict(rows).tolist()))
`

// files is a model's directory.
type files struct{ fs.FS }

func (d files) List(context.Context) (list []model.File, err error) {
	err = fs.WalkDir(d.FS, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			list = append(list, model.File{Path: p, Size: info.Size()})
		}
		return err
	})
	return list, err
}

func (d files) Open(_ context.Context, path string, offset int64) (io.ReadCloser, error) {
	f, err := d.FS.Open(path)
	if err == nil && offset > 0 {
		_, err = io.CopyN(io.Discard, f, offset)
	}
	return f, err
}

// TestModelsRunInTheirEnvironments makes models with a real MLflow 2, builds what each needs, and holds the predictions that it then
// makes, with nothing of this machine but the interpreter, against those from where it was made. KUBECTL_MLFLOW_TEST_LAUNCHER is a
// directory with launcher.py.
func TestModelsRunInTheirEnvironments(t *testing.T) {
	launcher := os.Getenv("KUBECTL_MLFLOW_TEST_LAUNCHER")
	if launcher == "" {
		t.Skip("KUBECTL_MLFLOW_TEST_LAUNCHER names no directory with launcher.py")
	}
	work := t.TempDir()
	venv := filepath.Join(work, "venv")
	python := filepath.Join(venv, "bin", "python")
	command(t, work, nil, "uv", "venv", "--quiet", "--seed", "--python", "3.11", venv)
	command(t, work, nil, "uv", "pip", "install", "--quiet", "--python", python, "mlflow==2.22.1", "lightgbm==4.6.0", "setuptools<81", "sqlalchemy<2.1")
	command(t, work, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + work}, python, "-c", makeModels, work)
	system := strings.TrimSpace(command(t, work, nil, "uv", "python", "find", "--system", "3.11"))
	for _, name := range []string{"code", "conda", "wheeled"} {
		t.Run(name, func(t *testing.T) {
			from := files{os.DirFS(filepath.Join(work, name))}
			m, err := model.Read(t.Context(), from)
			if err != nil {
				t.Fatal(err)
			}
			wheels, err := model.Wheels(t.Context(), from, m)
			if err != nil {
				t.Fatal(err)
			}
			if has, want := len(wheels) > 0, name == "code" || name == "wheeled"; has != want {
				t.Errorf("wheels of the model: %v", wheels)
			}
			to, base := inRegistry(t)
			e := image.Environment{
				Base: base, Platform: "linux/amd64", Python: m.Python, Requirements: m.Requirements, Constraints: m.Constraints, Wheels: wheels,
			}
			b := &uv.Builder{Launcher: os.DirFS(launcher), Cache: t.TempDir()}
			if err := b.Check(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			digest, err := b.Build(t.Context(), e, to, progress.Discard{}.Start(""))
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			extract(t, to.At(digest), root)
			clean := []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "PYTHONDONTWRITEBYTECODE=1"}
			want, err := os.ReadFile(filepath.Join(work, name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			got := command(t, work, append(clean, "PYTHONPATH="+filepath.Join(root, image.EnvironmentDir)), system, "-s", "-c", predict, work, name)
			if strings.TrimSpace(got) != string(want) {
				t.Errorf("it predicts %s, want %s", got, want)
			}
			if name != "conda" {
				return
			}
			// LightGBM takes libgomp to be on the system: it gets scikit-learn's.
			libraries := filepath.Join(root, image.EnvironmentDir, "_libraries")
			loaded := command(t, work, append(clean, "PYTHONPATH="+filepath.Join(root, image.EnvironmentDir), "LD_LIBRARY_PATH="+libraries), system, "-s", "-c",
				"import lightgbm; print(open('/proc/self/maps').read())")
			if !strings.Contains(loaded, filepath.Join(libraries, "libgomp.so.1")) {
				t.Errorf("LightGBM has not loaded %s", libraries)
			}
		})
	}
}

// command returns what a program writes to its standard output. A nil env is this program's.
func command(t *testing.T, dir string, env []string, program string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	c.Dir, c.Env = dir, env
	var talk strings.Builder
	c.Stderr = &talk
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s%s", filepath.Base(program), err, out, talk.String())
	}
	return string(out)
}

// extract writes the files of an image below root.
func extract(t *testing.T, ref, root string) {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(parsed)
	if err != nil {
		t.Fatal(err)
	}
	content := mutate.Extract(img)
	defer func() { _ = content.Close() }()
	for entries := tar.NewReader(content); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		to := filepath.Join(root, filepath.Clean("/"+header.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
