package kit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	gorilla "github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Kubelet carries port-forwards and logs, as an API server with kubelets behind it does: SPDY, bare or in a WebSocket.
type Kubelet struct {
	// Forward is what the container runtime does with one connection to a port of a pod. The error goes to the client.
	Forward func(pod, port string, data httpstream.Stream) error
	// Log is what a container has printed; nil leaves the question to the API server.
	Log func(pod, container string) string

	mu      sync.Mutex
	wires   []io.Closer // the tunnels that are open
	streams []httpstream.Stream
}

// Serve upgrades the request and returns when the tunnel is closed. An error is a client that does not speak the protocol.
func (k *Kubelet) Serve(w http.ResponseWriter, r *http.Request, pod string) error {
	if gorilla.IsWebSocketUpgrade(r) {
		return k.webSocket(w, r, pod)
	}
	return k.bare(w, r, pod)
}

// Cut breaks all tunnels.
func (k *Kubelet) Cut() {
	k.mu.Lock()
	wires := k.wires
	k.wires = nil
	k.mu.Unlock()
	for _, w := range wires {
		_ = w.Close()
	}
}

// Close breaks all tunnels, and frees what a real kubelet keeps: SPDY's reader, stuck on a stream that nobody reads.
func (k *Kubelet) Close() {
	k.Cut()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.streams {
		_ = s.Reset()
	}
	k.streams = nil
}

func (k *Kubelet) webSocket(w http.ResponseWriter, r *http.Request, pod string) error {
	upgrader := gorilla.Upgrader{Subprotocols: []string{constants.WebsocketsSPDYTunnelingPortForwardV1}}
	ws, err := upgrader.Upgrade(w, r, nil)
	if refused := (gorilla.HandshakeError{}); errors.As(err, &refused) {
		return err
	}
	if err != nil {
		return nil //nolint:nilerr // the client has hung up, as one does whose test ends; one that has not is told by its own upgrade
	}
	wire := portforward.NewTunnelingConnection("server", ws)
	conn, err := spdy.NewServerConnection(wire, k.pairing(pod))
	if err != nil {
		return errors.Join(err, wire.Close())
	}
	k.hold(wire, conn)
	return nil
}

func (k *Kubelet) bare(w http.ResponseWriter, r *http.Request, pod string) error {
	if protocol := r.Header.Get(httpstream.HeaderProtocolVersion); r.Method != http.MethodPost || protocol != constants.PortForwardV1Name {
		w.WriteHeader(http.StatusBadRequest)
		return fmt.Errorf("%s with protocol %q", r.Method, protocol)
	}
	w.Header().Set(httpstream.HeaderProtocolVersion, constants.PortForwardV1Name)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, k.pairing(pod))
	if conn != nil { // the client has not hung up, as one does whose test ends
		k.hold(conn, conn)
	}
	return nil
}

// hold keeps the tunnel until it is closed by either side.
func (k *Kubelet) hold(wire io.Closer, conn httpstream.Connection) {
	k.mu.Lock()
	k.wires = append(k.wires, wire)
	k.mu.Unlock()
	<-conn.CloseChan()
	k.mu.Lock()
	k.wires = slices.DeleteFunc(k.wires, func(w io.Closer) bool { return w == wire })
	k.mu.Unlock()
	_ = wire.Close()
}

// pairing joins the data stream and the error stream of each connection in one tunnel, as k8s.io/cri-streaming does.
func (k *Kubelet) pairing(pod string) httpstream.NewStreamHandler {
	var mu sync.Mutex
	waiting := map[string]httpstream.Stream{}
	return func(s httpstream.Stream, _ <-chan struct{}) error {
		kind, id := s.Headers().Get(corev1.StreamType), s.Headers().Get(corev1.PortForwardRequestIDHeader)
		if id == "" || kind != corev1.StreamTypeData && kind != corev1.StreamTypeError {
			return fmt.Errorf("a stream of type %q with id %q", kind, id)
		}
		mu.Lock()
		defer mu.Unlock()
		other, ok := waiting[id]
		if !ok {
			waiting[id] = s
			return nil
		}
		delete(waiting, id)
		if kind == corev1.StreamTypeError {
			s, other = other, s
		}
		k.mu.Lock()
		k.streams = append(k.streams, s)
		k.mu.Unlock()
		go k.forward(pod, s, other)
		return nil
	}
}

func (k *Kubelet) forward(pod string, data, errs httpstream.Stream) {
	err := k.Forward(pod, data.Headers().Get(corev1.PortHeader), data)
	if err != nil {
		_, _ = io.WriteString(errs, "error forwarding port: "+err.Error())
	}
	_ = errs.Close()
	_ = data.Close()
	if err != nil {
		_ = data.Reset()
		_ = errs.Reset()
	}
}

// TCP joins a stream to a TCP server, as containerd does: when one side is done, so is the forwarding, but for what the other
// still has to say.
func TCP(address string, s httpstream.Stream) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return errors.New("connection refused")
	}
	defer func() { _ = conn.Close() }()
	go func() {
		_, _ = io.Copy(conn, s)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(s, conn)
	return err
}
