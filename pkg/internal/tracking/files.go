package tracking

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

const (
	artifacts = "api/2.0/mlflow-artifacts/artifacts"
	// maxFiles and maxDepth bound a listing: a model has a few dozen files.
	maxFiles = 100_000
	maxDepth = 64
)

// Files gives the artifacts of v through the server's artifact proxy. Reads resume and are checked. It is safe for concurrent use.
func (c *Client) Files(v Version) model.Files {
	return &files{client: c, source: v.Source}
}

type files struct {
	client *Client
	source string

	mu    sync.Mutex
	sizes map[string]int64 // from List: what Open checks
}

// root is the path of the model below the server's artifacts.
func (f *files) root() (string, error) {
	u, err := ParseURI(f.source)
	if err != nil || u.Scheme != schemeArtifacts {
		scheme, _, _ := strings.Cut(f.source, ":")
		return "", &failure.Error{
			Class:   failure.Diagnosed,
			Reason:  "ArtifactsNotServed",
			Object:  f.client.name(),
			Message: fmt.Sprintf("the model's artifacts are in %s, and the tracking server does not serve them", scheme),
			Hint:    "start the server with --serve-artifacts and --artifacts-destination, and log the model again in a new experiment; or get it with mlflow artifacts download, and deploy the directory",
		}
	}
	if u.Host != "" && !strings.EqualFold(u.Host, f.client.server.Host) && !strings.EqualFold(u.Host, f.client.server.Hostname()) {
		return "", &failure.Error{
			Class:   failure.Invalid,
			Reason:  "TrackingServerElsewhere",
			Object:  f.client.name(),
			Message: fmt.Sprintf("the model's artifacts are served by another host, %s", u.Host),
			Hint:    "set MLFLOW_TRACKING_URI to that server",
		}
	}
	return u.Path, nil
}

// List implements model.Files.
func (f *files) List(ctx context.Context) ([]model.File, error) {
	root, err := f.root()
	if err != nil {
		return nil, err
	}
	var found []model.File
	for dirs := []string{""}; len(dirs) > 0; {
		dir := dirs[0]
		dirs = dirs[1:]
		entries, err := f.entries(ctx, path.Join(root, dir))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if checkPath(e.Path) != nil || strings.Contains(e.Path, "/") || e.Path == "." {
				return nil, f.hostile(fmt.Sprintf("a file named %q", e.Path))
			}
			name := path.Join(dir, e.Path)
			switch {
			case !e.IsDir:
				found = append(found, model.File{Path: name, Size: e.size()})
			case strings.Count(name, "/") < maxDepth:
				dirs = append(dirs, name)
			default:
				return nil, f.hostile(fmt.Sprintf("directories more than %d deep", maxDepth))
			}
		}
		if len(found)+len(dirs) > maxFiles {
			return nil, f.hostile(fmt.Sprintf("more than %d files", maxFiles))
		}
	}
	slices.SortFunc(found, func(a, b model.File) int { return strings.Compare(a.Path, b.Path) })
	sizes := make(map[string]int64, len(found))
	for _, file := range found {
		if _, twice := sizes[file.Path]; twice {
			return nil, f.hostile(fmt.Sprintf("two files named %q", file.Path))
		}
		sizes[file.Path] = file.Size
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sizes = sizes
	return found, nil
}

// entry is a file or a directory in a listing; its path is its last element.
type entry struct {
	Path     string `json:"path"`
	IsDir    bool   `json:"is_dir"`
	FileSize *int64 `json:"file_size"`
}

// size is -1 where the store does not say.
func (e entry) size() int64 {
	if e.FileSize == nil || *e.FileSize < 0 {
		return -1
	}
	return *e.FileSize
}

func (f *files) entries(ctx context.Context, dir string) ([]entry, error) {
	query := url.Values{"path": {dir}}
	var entries []entry
	for {
		var page struct {
			Files []entry `json:"files"`
			Next  string  `json:"next_page_token"`
		}
		if err := f.client.call(ctx, http.MethodGet, artifacts, query, &page); err != nil {
			return nil, err
		}
		entries = append(entries, page.Files...)
		if page.Next == "" || page.Next == query.Get("page_token") || len(entries) > maxFiles {
			return entries, nil
		}
		query.Set("page_token", page.Next)
	}
}

// hostile refuses a listing that no model has.
func (f *files) hostile(what string) error {
	return &failure.Error{
		Class:   failure.Refused,
		Reason:  "UnsafeModel",
		Object:  f.source,
		Message: "the server lists " + what + ": this is not read",
		Hint:    "look at the model's artifacts in MLflow, and log it again",
	}
}

// size is what List said, or -1.
func (f *files) size(name string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size, ok := f.sizes[name]; ok {
		return size
	}
	return -1
}

// url of one file, each element escaped.
func (f *files) url(root, name string) *url.URL {
	var elements []string
	for element := range strings.SplitSeq(path.Join(root, name), "/") {
		elements = append(elements, url.PathEscape(element))
	}
	return f.client.server.JoinPath(artifacts, strings.Join(elements, "/"))
}
