package kit

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Network is a way to a TCP server that can lose what is sent, both ways, without telling anybody: as a cable does that is pulled
// out, or a laptop that sleeps.
type Network struct {
	Address string // that leads to the server

	mu    sync.Mutex
	lost  map[net.Conn]bool // on both sides: all that is read from them goes nowhere
	over  bool
	conns []net.Conn
}

// NewNetwork leads to the server at address until the end of the test.
func NewNetwork(t testing.TB, address string) *Network {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &Network{Address: listener.Addr().String(), lost: map[net.Conn]bool{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address)
			if err != nil {
				_ = near.Close()
				continue
			}
			n.mu.Lock()
			n.conns = append(n.conns, near, far)
			if n.over { // the test has ended meanwhile
				_, _ = near.Close(), far.Close()
			}
			n.mu.Unlock()
			running.Go(func() { n.carry(near, far) })
			running.Go(func() { n.carry(far, near) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		n.mu.Lock()
		n.over = true
		for _, conn := range n.conns {
			_ = conn.Close()
		}
		n.mu.Unlock()
		running.Wait()
	})
	return n
}

// Lose loses all connections that there are. New ones are carried.
func (n *Network) Lose() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns {
		n.lost[conn] = true
	}
}

// carry brings what comes from one end to the other, and its end too, unless they are lost.
func (n *Network) carry(from, to net.Conn) {
	_, _ = io.Copy(writer(func(p []byte) (int, error) {
		if n.isLost(from) {
			return len(p), nil
		}
		return to.Write(p)
	}), from)
	if !n.isLost(from) {
		_ = to.Close()
	}
}

func (n *Network) isLost(conn net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost[conn]
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
