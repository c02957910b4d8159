//go:build e2e && (long || bench)

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// store is a registry of the test's own, whose files can be counted.
type store struct {
	*lab
	host, data string
}

// newStore starts the lab's registry program on a port of the loopback.
func newStore(t *testing.T) *store {
	t.Helper()
	l := openLab(t)
	s := &store{lab: l, host: free(t), data: filepath.Join(t.TempDir(), "data")}
	config := write(t, "registry.yaml", fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", s.data, s.host))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := l.command(ctx, nil, filepath.Join(l.Bin, "docker-registry"), "serve", config)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed by us
		if t.Failed() {
			t.Log(said.String())
		}
	})
	for began := time.Now(); ; {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.host)
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			return s
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("the registry does not listen: %v", err)
		}
	}
}

// free is an address of the loopback that nobody listens on.
func free(t *testing.T) (address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

// size is how many bytes the registry keeps.
func (s *store) size(t *testing.T) (n int64) {
	t.Helper()
	err := filepath.WalkDir(s.data, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// built is what a build left.
type built struct {
	Image   string
	Timings struct{ Resolve, Environment, Model time.Duration }
	wall    time.Duration
	memory  int64 // the most that the process had in memory, bytes
}

// build makes the image of a model's directory, with no cluster.
func (s *store) build(t *testing.T, model string, flags ...string) built {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := s.command(ctx, []string{"KUBECONFIG=" + os.DevNull}, filepath.Join(s.root, "bin/kubectl-mlflow"), append([]string{
		"build", "iris", model, "-o", "json", "--image-repository", s.host + "/models", "--base-image", s.BaseImage, "--platform", "linux/amd64",
	}, flags...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	began := time.Now()
	err := cmd.Run()
	b := built{wall: time.Since(began)}
	if err != nil {
		t.Fatalf("build: %v\n%s", err, said.String())
	}
	if err := json.Unmarshal(out.Bytes(), &b); err != nil {
		t.Fatalf("build printed %q: %v", out.String(), err)
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		b.memory = usage.Maxrss << 10
	}
	return b
}

// fill writes n random bytes to a file, which nothing compresses, and returns their digest.
func fill(t *testing.T, path string, n int64) string {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	_, err = io.CopyN(io.MultiWriter(file, sum), rand.Reader, n)
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// put sends a file as one blob, as simply as it can be done, to a repository that has none of it.
func (s *store) put(t *testing.T, path string, size int64, digest string) time.Duration {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := file.Close(); err != nil && !errors.Is(err, os.ErrClosed) { // a request closes its body
			t.Error(err)
		}
	}()
	began := time.Now()
	send := func(method, url string, body io.Reader, want int) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		if body != nil {
			request.ContentLength = size
			request.Header.Set("Content-Type", "application/octet-stream")
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != want {
			t.Fatalf("%s: %s, %v", method, response.Status, err)
		}
		return response
	}
	location, err := send(http.MethodPost, "http://"+s.host+"/v2/plain/blobs/uploads/", nil, http.StatusAccepted).Location()
	if err != nil {
		t.Fatal(err)
	}
	query := location.Query()
	query.Set("digest", "sha256:"+digest)
	location.RawQuery = query.Encode()
	send(http.MethodPut, location.String(), file, http.StatusCreated)
	return time.Since(began)
}
