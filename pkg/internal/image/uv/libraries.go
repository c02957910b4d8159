package uv

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
)

// librariesDir, below the packages, has shared libraries under the names that packages look for.
const librariesDir = "_libraries"

// libraries are those that wheels take to be on a system, and the base image's slim Debian does not have: by name, Debian's package.
func libraries() map[string]string {
	return map[string]string{
		"libgomp.so.1":        "libgomp1",           // LightGBM
		"libGL.so.1":          "libgl1",             // OpenCV
		"libglib-2.0.so.0":    "libglib2.0-0",       // OpenCV
		"libgthread-2.0.so.0": "libglib2.0-0",       // OpenCV
		"libsndfile.so.1":     "libsndfile1",        // audio
		"libodbc.so.2":        "unixodbc",           // pyodbc
		"libpq.so.5":          "libpq5",             // psycopg2
		"libmariadb.so.3":     "libmariadb3",        // mysqlclient
		"libtbb.so.12":        "libtbb12",           // Prophet
		"libgfortran.so.5":    "libgfortran5",       // source builds
		"libopenblas.so.0":    "libopenblas0",       // source builds
		"libaio.so.1":         "libaio1",            // Oracle
		"libOpenCL.so.1":      "ocl-icd-libopencl1", // LightGBM, GPU
	}
}

// provide gives the packages in dir the libraries that they miss on a slim system, where another package has brought one along under a name
// of its own, as scikit-learn has libgomp. lacks are sentences on what nobody brings.
func provide(dir string, e image.Environment) (lacks []string, err error) {
	needed, bundled, err := shared(dir)
	if err != nil {
		return nil, fmt.Errorf("look for the packages' libraries: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		by := needed[name]
		debian := libraries()[name]
		if slices.Contains(e.Apt, debian) {
			continue
		}
		from := bundled[name]
		if from == "" {
			lacks = append(lacks, fmt.Sprintf("%s needs %s, which slim base images do not have: where yours does not, add --apt %s", by, name, debian))
			continue
		}
		if err := copyFile(filepath.Join(dir, filepath.FromSlash(from)), filepath.Join(dir, librariesDir, name)); err != nil {
			return nil, fmt.Errorf("give %s the library %s: %w", by, name, err)
		}
	}
	return lacks, nil
}

// shared finds, of the libraries above, those that packages need by their plain names, with the package that needs it, and where others
// have brought one along: in NAME.libs, with a hash in its name, as auditwheel leaves them.
func shared(dir string) (needed, bundled map[string]string, err error) {
	needed, bundled = map[string]string{}, map[string]string{}
	known := libraries()
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.Contains(path.Base(name), ".so") {
			return err
		}
		top, _, _ := strings.Cut(name, "/")
		if strings.HasSuffix(top, ".libs") {
			if plain, ok := plainName(path.Base(name)); ok && known[plain] != "" && bundled[plain] == "" {
				bundled[plain] = name
			}
		}
		file, err := elf.Open(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return nil //nolint:nilerr // a name alone does not make a library
		}
		libs, err := file.ImportedLibraries()
		if err = errors.Join(err, file.Close()); err != nil {
			return nil //nolint:nilerr // a loader would not read it, either
		}
		for _, lib := range libs {
			if known[lib] != "" && needed[lib] == "" {
				needed[lib] = strings.TrimSuffix(top, ".libs")
			}
		}
		return nil
	})
	// What lies beside who needs it under its plain name is found by itself.
	for name := range needed {
		if found, _ := filepath.Glob(filepath.Join(dir, "*", name)); len(found) > 0 {
			delete(needed, name)
		}
	}
	return needed, bundled, err
}

// plainName is libgomp.so.1 of libgomp-a34b3233.so.1.0.0: the file's name without auditwheel's hash, as far as the first number.
func plainName(file string) (string, bool) {
	stem, version, ok := strings.Cut(file, ".so.")
	if !ok {
		return "", false
	}
	dash := strings.LastIndex(stem, "-")
	if dash < 0 {
		return "", false
	}
	major, _, _ := strings.Cut(version, ".")
	return stem[:dash] + ".so." + major, true
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	content, err := os.ReadFile(from) //nolint:gosec // below the build's own directory
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o600)
}
