package deployments

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// directoryOf is the directory of this machine that a model URI names, if it names one: a path with a separator in it, or a file URI.
func directoryOf(uri string) (name string, ok bool) {
	scheme, rest, hasScheme := strings.Cut(uri, ":")
	switch {
	case filepath.VolumeName(uri) != "":
		return uri, true
	case hasScheme && strings.EqualFold(scheme, "file"):
		parsed, err := url.Parse(uri)
		if err != nil || parsed.Host != "" && parsed.Host != "localhost" {
			return rest, true // which is not there
		}
		return filepath.FromSlash(parsed.Path + parsed.Opaque), true
	case hasScheme && !strings.ContainsAny(scheme, `/\`):
		return "", false
	}
	return uri, uri == "." || uri == ".." || strings.ContainsRune(uri, '/') || strings.ContainsRune(uri, filepath.Separator)
}

// directoryURI is what a model from a directory is called on the cluster: without what leads to the directory, which differs from
// machine to machine.
func directoryURI(name string) (string, error) {
	whole, err := filepath.Abs(name)
	if err != nil {
		return "", fmt.Errorf("the model's directory %q: %w", name, err)
	}
	return "file:" + filepath.Base(whole), nil
}
