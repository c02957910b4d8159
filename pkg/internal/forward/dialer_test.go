package forward

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/streaming/pkg/httpstream"

	"go.uber.org/goleak"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// TestMain looks for goroutines that are left behind. spdystream ends its own up to a second after a connection whose peer was gone
// already, which is longer than goleak waits by itself; and a stream that is asked for in a dead tunnel half a minute after all.
func TestMain(m *testing.M) {
	code := m.Run()
	asked := goleak.IgnoreAnyFunction("github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/forward.(*conn).createStreams.func1")
	for deadline := time.Now().Add(3 * time.Second); code == 0; {
		err := goleak.Find(asked)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// within bounds what a test waits for.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// setup is an API server whose cluster has one ready pod, mlflow-1, with that backend.
func setup(t *testing.T, backend func(httpstream.Stream) error) (*apiServer, *fakeCluster, *Dialer) {
	t.Helper()
	a := newAPIServer(t)
	a.backends["mlflow-1"] = backend
	c := newCluster(a)
	c.set(pod("mlflow-1", true))
	d := NewDialer(c, cluster.ServicePort{Namespace: "ml", Service: "mlflow", Port: "80"})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return a, c, d
}

func dial(t *testing.T, d *Dialer) net.Conn {
	t.Helper()
	conn, err := d.DialContext(within(t), "tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// says sends text over an echo and checks that it comes back.
func says(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != text {
		t.Fatalf("heard %q, %v; want %q", b, err, text)
	}
}

func TestHTTPThroughBothProtocols(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sum := sha256.Sum256(body)
		_, _ = w.Write(sum[:])
		_, _ = w.Write(body)
	}))
	t.Cleanup(backend.Close)
	body := make([]byte, 8<<20)
	if _, err := rand.Read(body); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	for protocol, noWebSocket := range map[string]bool{"websocket": false, "spdy": true} {
		t.Run(protocol, func(t *testing.T) {
			a, _, d := setup(t, tcp(backend.Listener.Addr().String()))
			a.noWebSocket = noWebSocket
			transport := &http.Transport{DialContext: d.DialContext}
			client := &http.Client{Transport: transport}
			t.Cleanup(transport.CloseIdleConnections)
			var all sync.WaitGroup
			for range 5 {
				all.Go(func() {
					resp, err := client.Post("http://mlflow.ml.svc:80/", "application/octet-stream", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = resp.Body.Close() }()
					answer, err := io.ReadAll(resp.Body)
					if err != nil || !bytes.HasPrefix(answer, sum[:]) || !bytes.Equal(answer[len(sum):], body) {
						t.Errorf("%d bytes, %v", len(answer), err)
					}
				})
			}
			all.Wait()
			for _, tunnel := range a.seen() {
				if tunnel != protocol+" mlflow-1" {
					t.Errorf("a tunnel by %s", tunnel)
				}
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if len(a.ports) == 0 || a.ports[0] != "5000" {
				t.Errorf("ports: %q, want the pod's port named http", a.ports)
			}
		})
	}
}

func TestOneErrorLeavesTheOthersAlone(t *testing.T) {
	var broken atomic.Bool
	_, _, d := setup(t, func(s httpstream.Stream) error {
		if broken.Load() {
			return errors.New("failed to connect to localhost:5000: connection refused")
		}
		return echo(s)
	})
	first := dial(t, d)
	says(t, first, "before")

	broken.Store(true)
	second := dial(t, d)
	_, err := second.Read(make([]byte, 1))
	if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "pod/mlflow-1, port 5000: error forwarding port: failed to connect") {
		t.Errorf("the broken connection reads %v", err)
	}
	if _, err := second.Write([]byte("x")); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("the broken connection writes %v", err)
	}
	says(t, first, "after")
}

func TestHalfClose(t *testing.T) {
	_, _, d := setup(t, func(s httpstream.Stream) error {
		question, err := io.ReadAll(s)
		if err != nil {
			return err
		}
		_, err = s.Write(append([]byte("all of "), question...))
		return err
	})
	c := dial(t, d)
	if _, err := io.WriteString(c, "it"); err != nil {
		t.Fatal(err)
	}
	if err := closeWrite(c); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || string(answer) != "all of it" {
		t.Errorf("%q, %v", answer, err)
	}
	if _, err := c.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after CloseWrite: %v", err)
	}
}

func TestNextDialFindsTheNextPod(t *testing.T) {
	a, c, d := setup(t, echo)
	a.backends["mlflow-2"] = echo
	notes := make(chan string, 100)
	d.Note = func(text string) { notes <- text }
	old := dial(t, d)
	says(t, old, "hello")

	dying := pod("mlflow-1", true)
	dying.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	starting := pod("mlflow-2", false)
	starting.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}}
	c.set(dying, starting)
	waitUntil(t, func() bool { return d.known() == nil })
	says(t, old, "still there") // a terminating pod ends what it has begun

	dialed := make(chan net.Conn, 1)
	go func() {
		conn, err := d.DialContext(within(t), "tcp", "")
		if err != nil {
			t.Error(err)
		}
		dialed <- conn
	}()
	for note := range notes {
		if strings.Contains(note, "pod/mlflow-1 is terminating") && strings.Contains(note, "pod/mlflow-2 is ContainerCreating") {
			break
		}
	}
	c.set(pod("mlflow-2", true))
	conn := <-dialed
	says(t, conn, "hello")
	_ = conn.Close()
	if got, want := a.seen(), []string{"websocket mlflow-1", "websocket mlflow-2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("tunnels: %q, want %q", got, want)
	}
}

func waitUntil(t *testing.T, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx := within(t)
	for !f() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not come true")
		case <-tick.C:
		}
	}
}

func TestALostTunnelIsNoEndOfFile(t *testing.T) {
	a, _, d := setup(t, echo)
	c := dial(t, d)
	says(t, c, "hello")
	a.cut()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errLost) {
		t.Errorf("read: %v", err)
	}
	says(t, dial(t, d), "again")
	if got := a.seen(); len(got) != 2 {
		t.Errorf("tunnels: %q", got)
	}
}

// A cable is pulled out: what waits for an answer hears of it in time, and the next connection goes another way.
func TestATunnelThatNothingComesThroughIsGivenUp(t *testing.T) {
	t.Parallel() // it takes its time
	for _, noWebSocket := range []bool{false, true} {
		t.Run(fmt.Sprintf("websocket=%t", !noWebSocket), func(t *testing.T) {
			t.Parallel()
			a, c, d := setup(t, echo)
			a.noWebSocket = noWebSocket
			network := kit.NewNetwork(t, a.Listener.Addr().String())
			c.config.Host = "http://" + network.Address
			conn := dial(t, d)
			says(t, conn, "hello")
			network.Lose()
			if _, err := io.WriteString(conn, "anybody there?"); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, errLost) || time.Since(began) > 20*time.Second {
				t.Errorf("after %s the read says %v", time.Since(began), err)
			}
			says(t, dial(t, d), "again")
		})
	}
}

func TestAPodThatIsGoneRetiresItsTunnel(t *testing.T) {
	a, c, d := setup(t, func(httpstream.Stream) error {
		return errors.New(`network namespace for sandbox "0815" is closed`)
	})
	a.backends["mlflow-2"] = echo
	if _, err := dial(t, d).Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "is closed") {
		t.Errorf("read: %v", err)
	}
	waitUntil(t, func() bool { return d.known() == nil })
	newer := pod("mlflow-2", true)
	newer.CreationTimestamp = metav1.Now()
	c.set(newer) // the API still calls the first one ready
	says(t, dial(t, d), "hello")
	if got, want := a.seen(), []string{"websocket mlflow-1", "websocket mlflow-2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("tunnels: %q, want %q", got, want)
	}
}

func TestDialFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(a *apiServer, c *fakeCluster)
		to     cluster.ServicePort
		class  failure.Class
		reason string
		want   string
	}{
		"no such Service": {
			func(*apiServer, *fakeCluster) {}, cluster.ServicePort{Namespace: "ml", Service: "mlfow", Port: "80"},
			failure.Invalid, "ServiceNotFound", "service/mlfow: there is no such Service in namespace ml",
		},
		"no such port": {
			func(*apiServer, *fakeCluster) {}, cluster.ServicePort{Namespace: "ml", Service: "mlflow", Port: "5000"},
			failure.Invalid, "PortNotFound", `service/mlflow: it has no port "5000"`,
		},
		"no such target port": {
			func(_ *apiServer, c *fakeCluster) {
				c.services["mlflow"] = service("mlflow", intstr.FromString("grpc"))
			},
			cluster.ServicePort{Namespace: "ml", Service: "mlflow", Port: "web"},
			failure.Invalid, "PortNotFound", `leads to a port named "grpc"`,
		},
		"no selector": {
			func(_ *apiServer, c *fakeCluster) { c.services["mlflow"].Spec.Selector = nil },
			cluster.ServicePort{Namespace: "ml", Service: "mlflow"},
			failure.Invalid, "ServiceWithoutPods", "it selects no pods",
		},
		"forbidden": {
			func(a *apiServer, _ *fakeCluster) { a.refuse = http.StatusForbidden },
			cluster.ServicePort{Namespace: "ml", Service: "mlflow"},
			failure.Forbidden, "PortForwardForbidden", "you may not create pods/portforward in namespace ml",
		},
		"node out of reach": {
			func(a *apiServer, _ *fakeCluster) { a.refuse = http.StatusBadGateway },
			cluster.ServicePort{Namespace: "ml", Service: "mlflow"},
			failure.Diagnosed, "TunnelFailed", "pod/mlflow-1: the API server opens no tunnel",
		},
		"Service not readable": {
			func(_ *apiServer, c *fakeCluster) {
				c.getErr = &failure.Error{Class: failure.Forbidden, Reason: "Forbidden", Message: "you may not get services"}
			},
			cluster.ServicePort{Namespace: "ml", Service: "mlflow"},
			failure.Forbidden, "Forbidden", "you may not get services",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, c, _ := setup(t, echo)
			tc.change(a, c)
			d := NewDialer(c, tc.to)
			_, err := d.DialContext(within(t), "tcp", "")
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Class != tc.class || e.Reason != tc.reason || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %#v: %v", err, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNoReadyPodInTime(t *testing.T) {
	for name, tc := range map[string]struct {
		pods []*corev1.Pod
		want string
	}{
		"none":      {nil, "no pod is ready: there is no pod with the labels app=mlflow"},
		"not ready": {[]*corev1.Pod{pod("mlflow-3", false)}, "no pod is ready: pod/mlflow-3 is running, but not ready"},
	} {
		t.Run(name, func(t *testing.T) {
			_, c, d := setup(t, echo)
			c.remove("mlflow-1")
			c.set(tc.pods...)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := d.DialContext(ctx, "tcp", "")
			if failure.ClassOf(err) != failure.TimedOut || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func TestAPodThatGoesWhileTheTunnelOpens(t *testing.T) {
	a, c, d := setup(t, echo)
	a.backends["mlflow-2"] = echo
	a.refuse = http.StatusNotFound
	d.Note = func(text string) {
		if strings.Contains(text, "the pod is gone") {
			a.mu.Lock()
			a.refuse = 0
			a.mu.Unlock()
			c.remove("mlflow-1")
			c.set(pod("mlflow-2", true))
		}
	}
	says(t, dial(t, d), "hello")
	if got, want := a.seen(), []string{"websocket mlflow-2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("tunnels: %q, want %q", got, want)
	}
}

// A cluster behind a proxy, with a certificate of its own authority: by the kubeconfig's proxy-url, or by HTTPS_PROXY.
func TestThroughAProxyWithAnAuthorityOfItsOwn(t *testing.T) {
	for _, noWebSocket := range []bool{false, true} {
		t.Run(fmt.Sprintf("websocket=%t", !noWebSocket), func(t *testing.T) {
			a, c, d := setup(t, echo)
			a.noWebSocket = noWebSocket
			secure := httptest.NewTLSServer(http.HandlerFunc(a.serve))
			t.Cleanup(secure.Close)
			var connects atomic.Int32
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodConnect {
					t.Errorf("the proxy is asked to %s %s", r.Method, r.URL)
					return
				}
				connects.Add(1)
				connectTo(t, w, r.Host)
			}))
			t.Cleanup(proxy.Close)
			at, err := url.Parse(proxy.URL)
			if err != nil {
				t.Fatal(err)
			}
			c.config.Host, c.config.Proxy = secure.URL, http.ProxyURL(at)
			if _, err := d.DialContext(within(t), "tcp", ""); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("an authority that nobody named was taken: %v", err)
			}
			c.config.CAData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
			before := connects.Load()
			says(t, dial(t, d), "hello")
			if connects.Load() == before {
				t.Error("nothing went through the proxy")
			}
		})
	}
}

// connectTo answers a CONNECT.
func connectTo(t *testing.T, w http.ResponseWriter, host string) {
	there, err := net.Dial("tcp", host)
	if err != nil {
		t.Error(err)
		return
	}
	here, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(there, here)
		_ = there.Close()
	}()
	_, _ = io.Copy(here, there)
	_ = here.Close()
}

// A tunnel outlives its credentials: a plugin is asked for new ones, and who has logged in again need not start again.
func TestRenewedCredentialsAreTaken(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	credential := func(token string) string {
		return fmt.Sprintf(`{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": %q}}`, token)
	}
	t.Run("by a plugin", func(t *testing.T) {
		a, c, d := setup(t, echo)
		d.Note = func(text string) {
			if strings.Contains(text, "credentials") {
				t.Errorf("said %q", text)
			}
		}
		a.token = "first"
		write(credential("first"))
		c.config.ExecProvider = &api.ExecConfig{Command: "cat", Args: []string{token}, APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: api.NeverExecInteractiveMode}
		says(t, dial(t, d), "hello")
		write(credential("second"))
		a.mu.Lock()
		a.token = "second"
		a.mu.Unlock()
		says(t, dial(t, d), "hello again")
	})
	t.Run("by a file, late", func(t *testing.T) {
		a, c, d := setup(t, echo)
		a.token = "first"
		write("first")
		c.config.BearerTokenFile = token
		says(t, dial(t, d), "hello")
		a.mu.Lock()
		a.token = "second"
		a.mu.Unlock()
		var once sync.Once
		d.Note = func(text string) {
			if strings.Contains(text, "the cluster does not accept your credentials") {
				once.Do(func() { write("second") })
			}
		}
		says(t, dial(t, d), "hello again")
	})
	t.Run("by a kubeconfig that was written anew", func(t *testing.T) {
		a, c, d := setup(t, echo)
		a.token = "first"
		c.config.BearerToken = "first"
		says(t, dial(t, d), "hello")
		a.mu.Lock()
		a.token = "second"
		a.mu.Unlock()
		c.renew = func() { c.config = &rest.Config{Host: a.URL, BearerToken: "second"} }
		d.Note = func(text string) {
			if strings.Contains(text, "credentials") {
				t.Errorf("said %q", text)
			}
		}
		says(t, dial(t, d), "hello again")
	})
	t.Run("never", func(t *testing.T) {
		a, _, d := setup(t, echo)
		a.token = "another"
		_, err := d.DialContext(within(t), "tcp", "")
		if failure.ClassOf(err) != failure.Forbidden || !strings.Contains(err.Error(), "credentials") {
			t.Errorf("got %v", err)
		}
	})
}

func TestCancelDuringTheHandshake(t *testing.T) {
	a, _, d := setup(t, echo)
	ctx, cancel := context.WithCancel(t.Context())
	a.hold = func(request context.Context) {
		cancel()
		<-request.Done()
	}
	began := time.Now()
	if _, err := d.DialContext(ctx, "tcp", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestReadDeadline(t *testing.T) {
	_, _, d := setup(t, echo)
	c := dial(t, d)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	says(t, c, "and it goes on")
	if err := c.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

func TestCloseEndsAll(t *testing.T) {
	_, c, d := setup(t, echo)
	conn := dial(t, d)
	says(t, conn, "hello")
	c.remove("mlflow-1")
	waitUntil(t, func() bool { return d.known() == nil })
	waiting := make(chan error, 1)
	started := make(chan struct{}, 10)
	d.Note = func(string) { started <- struct{}{} }
	go func() {
		_, err := d.DialContext(within(t), "tcp", "")
		waiting <- err
	}()
	<-started
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := d.DialContext(t.Context(), "tcp", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the dial that waited: %v", err)
	}
}

// The pod does not read one connection, and nobody reads the pod's answers on another: both are stuck, and nobody else is.
func TestStuckConnectionsHoldUpNobody(t *testing.T) {
	var first atomic.Bool
	release := make(chan struct{})
	_, _, d := setup(t, func(s httpstream.Stream) error {
		if first.CompareAndSwap(false, true) {
			<-release
			return nil
		}
		return echo(s)
	})
	defer close(release)
	var stuck sync.WaitGroup
	unread, unreading := dial(t, d), dial(t, d)
	for _, c := range []net.Conn{unread, unreading} {
		stuck.Go(func() {
			if n, err := c.Write(make([]byte, 256<<20)); err == nil {
				t.Errorf("%d bytes went somewhere", n)
			}
		})
	}
	for range 10 {
		says(t, dial(t, d), "hello")
	}
	_ = unread.Close()
	_ = unreading.Close()
	stuck.Wait()
}

func TestParallelConnections(t *testing.T) {
	_, _, d := setup(t, echo)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			conn, err := d.DialContext(within(t), "tcp", "")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			text := make([]byte, 100<<10)
			if _, err := rand.Read(text); err != nil {
				t.Error(err)
			}
			var heard []byte
			var reading sync.WaitGroup
			reading.Go(func() { heard, err = io.ReadAll(conn) })
			if _, err := conn.Write(text); err != nil {
				t.Error(err)
			}
			if err := closeWrite(conn); err != nil {
				t.Error(err)
			}
			reading.Wait()
			if err != nil || !slices.Equal(heard, text) {
				t.Errorf("heard %d of %d bytes, %v", len(heard), len(text), err)
			}
		})
	}
	all.Wait()
}
