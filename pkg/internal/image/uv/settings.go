package uv

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
)

// publicIndex is what pip and uv use where nobody says otherwise.
const publicIndex = "https://pypi.org/simple"

// settings are what the user told pip and uv about package indexes. uv knows its own; pip's are handed on to it.
type settings struct {
	uvIndex  string // UV_DEFAULT_INDEX, UV_INDEX_URL, uv.toml
	pipIndex string // PIP_INDEX_URL, pip.conf
	pipExtra string // PIP_EXTRA_INDEX_URL, pip.conf
	cert     string // a file with CAs: SSL_CERT_FILE, PIP_CERT, pip.conf
}

func readSettings() (settings, error) {
	pip, err := firstOf(pipFiles(), "index-url", "extra-index-url", "cert")
	if err != nil {
		return settings{}, err
	}
	uv, err := firstOf(uvFiles(), "index-url", "url")
	if err != nil {
		return settings{}, err
	}
	return settings{
		uvIndex:  cmp.Or(os.Getenv("UV_DEFAULT_INDEX"), os.Getenv("UV_INDEX_URL"), uv["url"], uv["index-url"]),
		pipIndex: cmp.Or(os.Getenv("PIP_INDEX_URL"), pip["index-url"]),
		pipExtra: cmp.Or(os.Getenv("PIP_EXTRA_INDEX_URL"), pip["extra-index-url"]),
		cert:     cmp.Or(os.Getenv("SSL_CERT_FILE"), os.Getenv("PIP_CERT"), pip["cert"]),
	}, nil
}

func (s settings) defaultIndex() string { return cmp.Or(s.uvIndex, s.pipIndex, publicIndex) }

// environment is env with pip's settings in uv's words, where uv has none of its own. Credentials travel in the environment,
// never in arguments.
func (s settings) environment(env []string) []string {
	// The image's backend of PyTorch is part of its key.
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "UV_TORCH_BACKEND=") })
	set := func(name, value string) {
		has := slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		if !has && value != "" {
			env = append(env, name+"="+value)
		}
	}
	if s.uvIndex == "" {
		set("UV_DEFAULT_INDEX", s.pipIndex)
		set("UV_INDEX", strings.Join(strings.Fields(s.pipExtra), " "))
	}
	set("SSL_CERT_FILE", s.cert)
	return append(env, "UV_COMPILE_BYTECODE=0")
}

// Elsewhere is what a uv on another machine is told about package indexes to install e as this one would: variables, some of them with
// credentials, and the content of a file with CAs, nil for none. Variables that the requirements name go along.
func Elsewhere(e image.Environment) (variables map[string]string, cas []byte, err error) {
	s, err := readSettings()
	if err != nil {
		return nil, nil, err
	}
	named := map[string]bool{}
	for _, line := range slices.Concat(e.Requirements, e.Constraints) {
		for _, found := range variableNames.FindAllStringSubmatch(line, -1) {
			named[found[1]] = true
		}
	}
	variables = map[string]string{}
	general := travels()
	for _, v := range s.environment(os.Environ()) {
		if name, value, _ := strings.Cut(v, "="); general.MatchString(name) || named[name] && ofIndexes.MatchString(name) {
			variables[name] = value
		}
	}
	if s.cert != "" {
		if cas, err = os.ReadFile(s.cert); err != nil {
			return nil, nil, fmt.Errorf("read the CAs for the Python package index: %w", err)
		}
	}
	return variables, cas, nil
}

// travels are the variables about package indexes, and about the way to them.
func travels() *regexp.Regexp {
	return regexp.MustCompile(`^(?:UV_(?:DEFAULT_INDEX|INDEX|INDEX_.*|EXTRA_INDEX_URL|INSECURE_HOST|EXCLUDE_NEWER|HTTP_TIMEOUT|PRERELEASE)|` +
		`(?i:https?_proxy|no_proxy|all_proxy))$`)
}

// client honours HTTPS_PROXY and NO_PROXY, and trusts the user's CAs.
func (s settings) client() (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if s.cert != "" {
		pem, err := os.ReadFile(s.cert)
		if err != nil {
			return nil, fmt.Errorf("read the CAs for the Python package index: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pool.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}, nil
}

// pipFiles are pip's configuration files, the strongest first.
func pipFiles() []string {
	files := []string{os.Getenv("PIP_CONFIG_FILE")}
	if venv := os.Getenv("VIRTUAL_ENV"); venv != "" {
		files = append(files, filepath.Join(venv, "pip.conf"), filepath.Join(venv, "pip.ini"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		config := cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config"))
		files = append(files, filepath.Join(config, "pip", "pip.conf"))
		switch runtime.GOOS {
		case "darwin":
			files = append(files, filepath.Join(home, "Library", "Application Support", "pip", "pip.conf"))
		case "windows":
			files = append(files, filepath.Join(os.Getenv("APPDATA"), "pip", "pip.ini"))
		}
		files = append(files, filepath.Join(home, ".pip", "pip.conf"))
	}
	return append(files, "/etc/pip.conf")
}

// uvFiles are uv's configuration files, the strongest first.
func uvFiles() []string {
	files := []string{os.Getenv("UV_CONFIG_FILE")}
	if home, err := os.UserHomeDir(); err == nil {
		config := cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config"))
		files = append(files, filepath.Join(config, "uv", "uv.toml"))
	}
	if runtime.GOOS == "windows" {
		files = append(files, filepath.Join(os.Getenv("APPDATA"), "uv", "uv.toml"))
	}
	return append(files, "/etc/uv/uv.toml")
}

// firstOf reads the keys from the files, the strongest first.
func firstOf(files []string, keys ...string) (map[string]string, error) {
	out := map[string]string{}
	for _, name := range files {
		if name == "" {
			continue
		}
		content, err := os.ReadFile(name) // #nosec G304 G703 -- the user's own configuration
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		for key, value := range parse(content) {
			if slices.Contains(keys, key) && out[key] == "" {
				out[key] = value
			}
		}
	}
	return out, nil
}

// parse reads the few keys that matter out of pip's INI and uv's TOML: both write them as name = value in sections. Of pip's
// sections [global] and [install] count. Of uv's [[index]] tables the one with default = true counts, as "url".
func parse(content []byte) map[string]string {
	out := map[string]string{}
	section, key := "", ""
	table := map[string]string{}
	end := func() {
		if table["default"] == "true" && table["url"] != "" {
			out["url"] = table["url"]
		}
		table = map[string]string{}
	}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		raw := lines.Text()
		line := strings.TrimSpace(raw)
		name, value, isPair := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.Trim(strings.TrimSpace(value), `"'`)
		switch {
		case line == "", strings.HasPrefix(line, "#"), strings.HasPrefix(line, ";"):
		case strings.HasPrefix(line, "["):
			end()
			section, key = strings.Trim(line, "[] "), ""
		case section == "index" && isPair:
			table[name] = value
		case key != "" && raw != strings.TrimLeft(raw, " \t"):
			// pip's lists go on in indented lines.
			out[key] = strings.TrimSpace(out[key] + " " + line)
		case isPair && slices.Contains([]string{"", "global", "install", "pip"}, section):
			key = strings.ReplaceAll(name, "_", "-")
			out[key] = value
		}
	}
	end()
	return out
}
