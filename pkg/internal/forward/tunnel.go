package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// streamWait is how long the kubelet may take to acknowledge a connection's streams. A tunnel that takes longer gets no new ones.
const streamWait = 5 * time.Second

var (
	errGone = errors.New("the pod is gone")
	errLost = errors.New("the tunnel to the pod is lost")
)

// tunnel is one upgraded connection to one pod; many connections share it.
type tunnel struct {
	pod     podRef
	port    int32
	wire    net.Conn
	streams httpstream.Connection
	ended   func(*tunnel)
	cancel  context.CancelFunc

	mu       sync.Mutex
	conns    map[*conn]struct{}
	pending  int   // dials under way
	lastID   int   // of a connection, unique in the tunnel
	retiring error // why it takes no new connections, or nil
	isShut   bool
}

// openTunnel speaks SPDY over wire, and retires the tunnel when it sees the pod go. It calls ended once, when all is over.
func openTunnel(ctx context.Context, c Cluster, wire net.Conn, pod podRef, port int32, ended func(*tunnel)) (*tunnel, error) {
	streams, err := spdy.NewClientConnectionWithPings(wire, portforward.PingPeriod)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", pod, err), wire.Close())
	}
	// The tunnel outlives the dial that opened it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t := &tunnel{pod: pod, port: port, wire: wire, streams: streams, ended: ended, cancel: cancel, conns: make(map[*conn]struct{})}
	go func() {
		select {
		case <-streams.CloseChan():
			t.shut(errLost)
		case <-ctx.Done():
		}
	}()
	go t.watch(ctx, c)
	return t, nil
}

// watch retires the tunnel as soon as the Service would no longer send traffic to the pod.
func (t *tunnel) watch(ctx context.Context, c Cluster) {
	err := c.Observe(ctx, []cluster.Query{cluster.QueryOf(t.pod.Ref)}, func(objs []*unstructured.Unstructured) (bool, error) {
		pods, err := podsOf(objs)
		if err != nil {
			return false, err
		}
		return len(pods) == 0 || pods[0].UID != t.pod.uid || !ready(&pods[0]), nil
	})
	switch {
	case ctx.Err() != nil:
	case err == nil:
		t.retire(errGone)
	case failure.ClassOf(err) != failure.Forbidden: // who may not watch keeps the tunnel until it breaks
		t.retire(err)
	}
}

// takes tells whether new connections may use the tunnel.
func (t *tunnel) takes() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.retiring == nil
}

// retire lets no new connection in; those that are there go on. The tunnel ends with the last of them.
func (t *tunnel) retire(why error) {
	t.mu.Lock()
	if t.retiring == nil {
		t.retiring = why
	}
	idle := len(t.conns) == 0 && t.pending == 0
	t.mu.Unlock()
	if idle {
		t.shut(why)
	}
}

// shut ends the tunnel and breaks its connections with why.
func (t *tunnel) shut(why error) {
	t.mu.Lock()
	if t.isShut {
		t.mu.Unlock()
		return
	}
	t.isShut = true
	if t.retiring == nil {
		t.retiring = why
	}
	conns := make([]*conn, 0, len(t.conns))
	for c := range t.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	t.cancel()
	// The wire first: the streams say goodbye on it, which on one that is stuck could take for ever.
	_ = t.wire.Close()
	for _, c := range conns {
		c.lost(why)
	}
	_ = t.streams.Close()
	t.ended(t)
}

// dial opens the two streams of a connection.
func (t *tunnel) dial(ctx context.Context) (net.Conn, error) {
	t.mu.Lock()
	if t.retiring != nil {
		err := t.retiring
		t.mu.Unlock()
		return nil, fmt.Errorf("%s: %w (%w)", t.pod, errGone, err)
	}
	t.pending++
	t.lastID++
	id := t.lastID
	t.mu.Unlock()

	pair := t.create(id)
	timer := time.NewTimer(streamWait)
	defer timer.Stop()
	select {
	case p := <-pair:
		return t.adopt(p)
	case <-ctx.Done():
		go t.discard(pair)
		return nil, context.Cause(ctx)
	case <-timer.C:
		err := fmt.Errorf("%s: %w: no acknowledgement for %s", t.pod, errGone, streamWait)
		t.retire(err)
		go t.discard(pair)
		return nil, err
	}
}

// streamPair is one connection's streams, or the error that kept one from being made.
type streamPair struct {
	data, errs httpstream.Stream
	err        error
}

// create asks for both streams at once. CreateStream itself gives up after 30 s and knows no ctx.
func (t *tunnel) create(id int) <-chan streamPair {
	made := make(chan streamPair, 1)
	stream := func(kind string) (httpstream.Stream, error) {
		return t.streams.CreateStream(http.Header{
			corev1.StreamType:                 {kind},
			corev1.PortHeader:                 {strconv.Itoa(int(t.port))},
			corev1.PortForwardRequestIDHeader: {strconv.Itoa(id)},
		})
	}
	go func() {
		var p streamPair
		var dataErr, errsErr error
		var both sync.WaitGroup
		both.Go(func() { p.errs, errsErr = stream(corev1.StreamTypeError) })
		both.Go(func() { p.data, dataErr = stream(corev1.StreamTypeData) })
		both.Wait()
		p.err = errors.Join(dataErr, errsErr)
		made <- p
	}()
	return made
}

// adopt makes a connection of a pair.
func (t *tunnel) adopt(p streamPair) (net.Conn, error) {
	if p.err != nil {
		err := fmt.Errorf("%s: %w: %w", t.pod, errGone, p.err)
		t.reset(p)
		t.retire(err)
		t.release(nil)
		return nil, err
	}
	c := newConn(t, p)
	t.mu.Lock()
	shut := t.isShut
	if !shut {
		t.conns[c] = struct{}{}
	}
	t.mu.Unlock()
	if shut {
		t.reset(p)
		t.release(nil)
		return nil, fmt.Errorf("%s: %w: %w", t.pod, errGone, errLost)
	}
	t.release(nil)
	c.start()
	return c, nil
}

// discard waits for a pair that nobody wants any more.
func (t *tunnel) discard(pair <-chan streamPair) {
	t.reset(<-pair)
	t.release(nil)
}

// reset ends both streams of a pair and forgets them.
func (t *tunnel) reset(p streamPair) {
	for _, s := range []httpstream.Stream{p.data, p.errs} {
		if s != nil {
			_ = s.Reset() // on a broken wire there is nobody to tell
			t.streams.RemoveStreams(s)
		}
	}
}

// release ends a pending dial, or a connection, and with the last one a retiring tunnel.
func (t *tunnel) release(c *conn) {
	t.mu.Lock()
	if c == nil {
		t.pending--
	} else {
		delete(t.conns, c)
	}
	why := t.retiring
	over := why != nil && len(t.conns) == 0 && t.pending == 0
	t.mu.Unlock()
	if over {
		t.shut(why)
	}
}
