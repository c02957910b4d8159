// Package cluster turns one node into a Kubernetes cluster: it writes keys, configuration and the node's spec, starts the
// supervisor, applies what every cluster of the lab has, waits until all of it answers, and takes it down without a trace.
package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
)

// cacheTag marks the cache folder, in the words of https://bford.info/cachedir/: backups leave it out,
// and clean deletes no folder that does not have it.
const cacheTag = "Signature: 8a477f597d28d172789f06886806bc55\n# Cache of kubectl-mlflow's lab. Remove it with: lab clean\n"

// specFile is the spec's name in the run folder, by which a supervisor is also known in the list of processes.
const specFile = "node.json"

// Layout knows where one cluster keeps its files.
type Layout struct {
	Cache   string
	Profile artifacts.Profile
	// Name tells clusters of profile api apart; empty for the usual one.
	Name string
}

// DefaultCache is the folder for all that the lab keeps, by the environment: $KUBECTL_MLFLOW_LAB_CACHE,
// else kubectl-mlflow/lab in the user's cache folder.
func DefaultCache(getenv func(string) string) (string, error) {
	if folder := getenv("KUBECTL_MLFLOW_LAB_CACHE"); folder != "" {
		return filepath.Abs(folder)
	}
	base := getenv("XDG_CACHE_HOME")
	if base == "" {
		home := getenv("HOME")
		if home == "" {
			return "", errors.New("no place for the lab's cache: set KUBECTL_MLFLOW_LAB_CACHE or HOME")
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Abs(filepath.Join(base, "kubectl-mlflow", "lab"))
}

// EnsureCache makes the cache folder and marks it as one. A folder of somebody else's files stays unmarked.
func EnsureCache(cache string) error {
	entries, err := os.ReadDir(cache)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the lab's cache: %w", err)
	}
	tag := filepath.Join(cache, "CACHEDIR.TAG")
	if _, err := os.Stat(tag); err == nil {
		return nil
	}
	if others := len(entries) > 0; others {
		if _, err := os.Stat(filepath.Join(cache, "artifacts")); err != nil {
			return nil
		}
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return fmt.Errorf("the lab's cache: %w", err)
	}
	return os.WriteFile(tag, []byte(cacheTag), 0o600)
}

// Clean removes the cache folder, but only one that EnsureCache has marked.
func Clean(cache string) error {
	if _, err := os.Stat(cache); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(cache, "CACHEDIR.TAG")) // #nosec G304 -- a file of the lab's own
	if err != nil || !strings.HasPrefix(string(text), cacheTag) {
		return fmt.Errorf("%s is not marked as the lab's cache (no CACHEDIR.TAG of ours): remove it by hand if it is", cache)
	}
	// Go's module cache is read-only, which keeps its own owner from removing it.
	err = filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode().Perm()&0o200 != 0 {
			return err
		}
		return os.Chmod(path, 0o700) // #nosec G302 G122 -- a folder, on its way out
	})
	return errors.Join(err, os.RemoveAll(cache))
}

// Clusters lists the clusters that have a run folder in the cache, up or not.
func Clusters(cache string) ([]Layout, error) {
	entries, err := os.ReadDir(filepath.Join(cache, "run"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Layout
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		profile, name, _ := strings.Cut(e.Name(), "-")
		list = append(list, Layout{Cache: cache, Profile: artifacts.Profile(profile), Name: name})
	}
	return list, nil
}

// Validate says what is wrong with profile and name.
func (l Layout) Validate() error {
	if l.Profile != artifacts.API && l.Profile != artifacts.Full {
		return fmt.Errorf("unknown profile %q: there are %s and %s", l.Profile, artifacts.Full, artifacts.API)
	}
	if l.Name == "" {
		return nil
	}
	if l.Profile != artifacts.API {
		return fmt.Errorf("only profile %s takes a name: a machine has room for one full node", artifacts.API)
	}
	if strings.Trim(l.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("name %q: lower-case letters, digits and dashes only", l.Name)
	}
	return nil
}

// String is the name of the cluster: "full", "api", "api-mine".
func (l Layout) String() string {
	if l.Name == "" {
		return string(l.Profile)
	}
	return string(l.Profile) + "-" + l.Name
}

// Run is the folder for everything that lives as long as one run of the cluster.
func (l Layout) Run() string { return filepath.Join(l.Cache, "run", l.String()) }

func (l Layout) lock() string { return l.Run() + ".lock" }

// ready is a mark that the start came to its end.
func (l Layout) ready() string          { return filepath.Join(l.Run(), "ready") }
func (l Layout) spec() string           { return filepath.Join(l.Run(), specFile) }
func (l Layout) env() string            { return filepath.Join(l.Run(), "env.json") }
func (l Layout) pki(file string) string { return filepath.Join(l.Run(), "pki", file) }

// NodeLog is what the supervisor says.
func (l Layout) NodeLog() string { return filepath.Join(l.Run(), "node.log") }

// Log is the log of one component.
func (l Layout) Log(component string) string {
	return filepath.Join(l.Run(), "log", component+".log")
}

// Kubeconfig is the administrator's.
func (l Layout) Kubeconfig() string { return l.kubeconfig("admin") }

func (l Layout) kubeconfig(identity string) string {
	return filepath.Join(l.Run(), "kubeconfig", identity+".yaml")
}
