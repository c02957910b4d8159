package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/streaming/pkg/httpstream"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// recorder is a Reporter that keeps what it is told.
type recorder struct {
	mu    sync.Mutex
	notes []string
}

func (r *recorder) Start(string) progress.Step { return r }
func (r *recorder) Note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, text)
}
func (*recorder) Bytes(int64, int64) {}
func (*recorder) End(error)          {}

// serving runs Serve on a listener of its own. stop ends it and returns what Serve returned.
func serving(t *testing.T, dial func(context.Context, string, string) (net.Conn, error)) (address string, r *recorder, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r = &recorder{}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, []net.Listener{l}, dial, r) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return l.Addr().String(), r, stop
}

// count is the number of open connections.
func (d *Dialer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns)
}

func TestServe(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(backend.Close)
	_, _, d := setup(t, tcp(backend.Listener.Addr().String()))
	address, _, stop := serving(t, d.DialContext)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for range 4 {
				resp, err := client.Post("http://"+address+"/", "text/plain", strings.NewReader("hello"))
				if err != nil {
					t.Error(err)
					return
				}
				answer, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || string(answer) != "hello" {
					t.Errorf("%q, %v", answer, err)
				}
			}
		})
	}
	all.Wait()
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if open := d.count(); open != 0 {
		t.Errorf("%d connections are still open", open)
	}
	if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		_ = conn.Close()
		t.Error("the listener is still there")
	}
}

// MLflow refuses a large upload without reading it and closes. kubectl's port-forward ends there; ours hands the answer on, and
// the other connections live.
func TestServeAnUploadThatIsRefusedEarly(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "alive")
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
		_ = conn.Close() // with unread data: a reset
	}))
	t.Cleanup(backend.Close)
	_, _, d := setup(t, tcp(backend.Listener.Addr().String()))
	address, _, _ := serving(t, d.DialContext)

	bystander := &http.Transport{}
	get := func() {
		t.Helper()
		resp, err := (&http.Client{Transport: bystander}).Get("http://" + address + "/")
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(answer) != "alive" {
			t.Errorf("%q, %v", answer, err)
		}
	}
	get()
	uploader := &http.Transport{}
	resp, err := (&http.Client{Transport: uploader}).Post("http://"+address+"/", "application/octet-stream", bytes.NewReader(make([]byte, 64<<20)))
	if err == nil { // the client may see the broken upload before the answer, as without a tunnel
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %s", resp.Status)
		}
		_ = resp.Body.Close()
	}
	get()
	bystander.CloseIdleConnections()
	uploader.CloseIdleConnections()
}

func TestServeWaitsForThePod(t *testing.T) {
	_, c, d := setup(t, echo)
	c.set(pod("mlflow-1", false))
	address, _, _ := serving(t, d.DialContext)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "early"); err != nil {
		t.Fatal(err)
	}
	c.set(pod("mlflow-1", true))
	b := make([]byte, 5)
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "early" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestServeBreaksTheLocalConnectionWithTheTunnel(t *testing.T) {
	a, _, d := setup(t, echo)
	address, r, _ := serving(t, d.DialContext)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	says(t, conn, "hello")
	a.cut()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the client reads %v: half an answer looks like a whole one", err)
	}
	waitUntil(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.notes) == 1 && strings.Contains(r.notes[0], errLost.Error())
	})
}

func TestServeEndsWhereNoDialWillDoBetter(t *testing.T) {
	denied := &failure.Error{Class: failure.Forbidden, Reason: "PortForwardForbidden", Message: "you may not"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- Serve(within(t), []net.Listener{l}, func(context.Context, string, string) (net.Conn, error) { return nil, denied }, progress.Discard{})
	}()
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil { // it may be reset before Dial returns
		defer func() { _ = conn.Close() }()
	}
	if err := <-done; !errors.Is(err, denied) {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeEndsWithConnectionsOpen(t *testing.T) {
	_, _, d := setup(t, func(s httpstream.Stream) error {
		_, err := io.Copy(io.Discard, s)
		return err
	})
	address, _, stop := serving(t, d.DialContext)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	waitUntil(t, func() bool { return d.count() == 1 })
	began := time.Now()
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
