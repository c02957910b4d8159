package uv

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/net/html"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
)

const (
	pinned = "0.13.9"
	// A page of an index, a wheel of uv and the program in it are smaller than this.
	maxPage    = 32 << 20
	maxWheel   = 64 << 20
	maxProgram = 256 << 20
	fetching   = 5 * time.Minute
)

// wheel is the file of uv for one platform, with its sha256.
type wheel struct{ file, sha256 string }

func pinnedWheel(os, arch string) (wheel, bool) {
	w, ok := map[string]wheel{
		"linux/amd64":   {"manylinux_2_17_x86_64.manylinux2014_x86_64", "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19"},
		"linux/arm64":   {"manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64", "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe"},
		"darwin/amd64":  {"macosx_10_12_x86_64", "c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5"},
		"darwin/arm64":  {"macosx_11_0_arm64", "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63"},
		"windows/amd64": {"win_amd64", "6a44b2ed8111d2f60d2b92627c5dccda3f7ed7570b18ce115e569cd68c28246b"},
		"windows/arm64": {"win_arm64", "eeb92051c2123b9730c46b04cc843cfa4bc7d7b0aec56df431a2215ef4cb0273"},
	}[os+"/"+arch]
	w.file = "uv-" + pinned + "-py3-none-" + w.file + ".whl"
	return w, ok
}

// Pinned is the pinned uv as a requirement of pip's, with the hashes of its wheels for Linux.
func Pinned() string {
	line := "uv==" + pinned
	for _, arch := range []string{"amd64", "arm64"} {
		w, _ := pinnedWheel("linux", arch)
		line += " --hash=sha256:" + w.sha256
	}
	return line
}

// fetch returns the pinned uv, from the cache or from the user's Python package index.
func (b *Builder) fetch(ctx context.Context) (string, error) {
	w, ok := pinnedWheel(runtime.GOOS, runtime.GOARCH)
	if !ok {
		return "", cannot("uv", "it is not on PATH, and there is none for "+runtime.GOOS+"/"+runtime.GOARCH, "install uv 0.7 or later")
	}
	cache, err := image.CacheDir(b.Cache)
	if err != nil {
		return "", err
	}
	program := "uv"
	if runtime.GOOS == "windows" {
		program = "uv.exe"
	}
	dir := filepath.Join(cache, "uv-"+pinned)
	if info, err := os.Stat(filepath.Join(dir, program)); err == nil && info.Mode().IsRegular() {
		return filepath.Join(dir, program), nil
	}
	settings, err := readSettings()
	if err != nil {
		return "", err
	}
	client, err := settings.client()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, fetching)
	defer cancel()
	content, err := download(ctx, client, settings.defaultIndex(), w)
	if err != nil {
		return "", &failure.Error{
			Class:   failure.Diagnosed,
			Reason:  "UvMissing",
			Message: "uv is not on PATH, and could not be had from " + redact(settings.defaultIndex()),
			Hint:    "install uv 0.7 or later, or name your Python package index in UV_DEFAULT_INDEX",
			Err:     errors.New(redact(err.Error())),
		}
	}
	if err := unpack(content, dir, program); err != nil {
		return "", fmt.Errorf("unpack uv: %w", err)
	}
	return filepath.Join(dir, program), nil
}

// download finds w on the index's page of uv (PEP 691, PEP 503), and returns its content once the hash is right.
func download(ctx context.Context, client *http.Client, index string, w wheel) ([]byte, error) {
	page, err := url.Parse(strings.TrimRight(index, "/") + "/uv/")
	if err != nil {
		return nil, err
	}
	const asJSON = "application/vnd.pypi.simple.v1+json"
	body, header, base, err := get(ctx, client, page, asJSON+", text/html;q=0.1", maxPage)
	if err != nil {
		return nil, err
	}
	link, err := findLink(body, strings.HasPrefix(header.Get("Content-Type"), asJSON), w.file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", page.Redacted(), err)
	}
	file, err := base.Parse(link)
	if err != nil {
		return nil, err
	}
	// Credentials of the index go to the index alone.
	if file.User = nil; file.Host == page.Host {
		file.User = page.User
	}
	content, _, _, err := get(ctx, client, file, "*/*", maxWheel)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != w.sha256 {
		return nil, fmt.Errorf("%s has sha256 %x, want %s", w.file, sum, w.sha256)
	}
	return content, nil
}

func get(ctx context.Context, client *http.Client, u *url.URL, accept string, most int64) (body []byte, header http.Header, base *url.URL, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, nil, nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, nil, fmt.Errorf("%s: %s", u.Redacted(), resp.Status)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, nil, nil, err
	}
	if int64(len(body)) > most {
		return nil, nil, nil, fmt.Errorf("%s: more than %d bytes", u.Redacted(), most)
	}
	return body, resp.Header, resp.Request.URL, nil
}

func findLink(page []byte, isJSON bool, file string) (string, error) {
	if isJSON {
		var project struct {
			Files []struct{ Filename, URL string }
		}
		if err := json.Unmarshal(page, &project); err != nil {
			return "", err
		}
		for _, f := range project.Files {
			if f.Filename == file {
				return f.URL, nil
			}
		}
		return "", fmt.Errorf("there is no %s", file)
	}
	tokens := html.NewTokenizer(bytes.NewReader(page))
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			return "", fmt.Errorf("there is no %s", file)
		case html.StartTagToken:
			for _, a := range tokens.Token().Attr {
				link, err := url.Parse(a.Val)
				if a.Key == "href" && err == nil && path.Base(link.Path) == file {
					return a.Val, nil
				}
			}
		}
	}
}

// unpack writes the program of a wheel into dir, whole or not at all, and cannot write elsewhere.
func unpack(content []byte, dir, program string) (err error) {
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	in, err := archive.Open("uv-" + pinned + ".data/scripts/" + program)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	// Two of us may be here at once: each writes a file of its own, the last one's name stays.
	temporary := fmt.Sprintf("%s.%d", program, os.Getpid())
	out, err := root.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, maxProgram+1))
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if n > maxProgram {
		return fmt.Errorf("%s is larger than %d bytes", program, maxProgram)
	}
	return root.Rename(temporary, program)
}
