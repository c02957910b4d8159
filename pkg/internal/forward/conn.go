package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

const (
	// chunk is the size of a frame that we send.
	chunk = 32 << 10
	// streamWait is how long the kubelet may take to acknowledge a connection's streams.
	streamWait = 15 * time.Second
	// lastWords is how long a connection that ended waits for the kubelet's error message.
	lastWords = time.Second
	// maxMessage bounds that message.
	maxMessage = 4 << 10
)

var (
	errGone = errors.New("the pod is gone")
	errLost = errors.New("the tunnel to the pod is lost")
)

// tunnel carries streams to a pod.
type tunnel struct {
	httpstream.Connection

	wire net.Conn
}

// newTunnel speaks SPDY over wire, which it owns from now on.
func newTunnel(wire net.Conn, to *target) (*tunnel, error) {
	wire = &watched{Conn: wire}
	spoken, err := spdy.NewClientConnectionWithPings(wire, pings)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", to.pod, err), wire.Close())
	}
	return &tunnel{spoken, wire}, nil
}

// hangUp ends the tunnel, and the streams that were opened in it. The wire goes first: the streams say goodbye on it, which on one that is
// stuck could take for ever. The library's Close would add a wait for all streams to end, and one that is asked for in a tunnel that has
// just died never does.
func (t *tunnel) hangUp(streams ...httpstream.Stream) {
	_ = t.wire.Close()
	for _, stream := range streams {
		if stream != nil {
			_ = stream.Reset() // what has come for it holds up the library until somebody reads it, or nobody will
		}
	}
}

// conn is one connection to a port of a pod, in a tunnel of its own.
type conn struct {
	to     *target
	owner  *Dialer
	tunnel *tunnel
	data   httpstream.Stream
	errs   httpstream.Stream

	received chan []byte   // closed at the end of what the pod sends
	finished chan struct{} // closed when the kubelet has ended the forwarding; message is set
	closed   chan struct{} // closed by Close
	message  string        // of the kubelet, why it ended; "" if all is well

	readMu sync.Mutex
	rest   []byte // of the frame read last

	writeMu sync.Mutex
	halfway bool // CloseWrite was called

	readBy, writeBy deadline

	close sync.Once
	end   error // what a read meets after the last byte; set before received is closed
}

// open makes a connection of the two streams that the kubelet expects in a tunnel, which it owns from now on. errGone where the kubelet does
// not answer.
func open(ctx context.Context, in *tunnel, to *target, owner *Dialer) (*conn, error) {
	c := &conn{
		to: to, owner: owner, tunnel: in,
		received: make(chan []byte, 1),
		finished: make(chan struct{}),
		closed:   make(chan struct{}),
		readBy:   deadline{reached: make(chan struct{})},
		writeBy:  deadline{reached: make(chan struct{})},
	}
	if err := c.createStreams(ctx); err != nil {
		c.tunnel.hangUp(c.data, c.errs)
		return nil, err
	}
	go c.listen()
	go c.pump()
	return c, nil
}

// createStreams asks for both streams at once. The library's CreateStream gives up after 30 s and knows no ctx: where we give up
// earlier, it ends later, with nobody listening.
func (c *conn) createStreams(ctx context.Context) error {
	type made struct {
		kind   string
		stream httpstream.Stream
		err    error
	}
	answers, left := make(chan made), make(chan struct{})
	defer close(left)
	for _, kind := range []string{corev1.StreamTypeError, corev1.StreamTypeData} {
		go func() {
			stream, err := c.tunnel.CreateStream(http.Header{
				corev1.StreamType:                 {kind},
				corev1.PortHeader:                 {strconv.Itoa(int(c.to.port))},
				corev1.PortForwardRequestIDHeader: {"0"}, // the only connection of its tunnel
			})
			select {
			case answers <- made{kind, stream, err}:
			case <-left:
				if err == nil {
					_ = stream.Reset()
				}
			}
		}()
	}
	timer := time.NewTimer(streamWait)
	defer timer.Stop()
	for c.data == nil || c.errs == nil {
		select {
		case a := <-answers:
			switch {
			case a.err != nil:
				return fmt.Errorf("%s: %w: %w", c.to.pod, errGone, a.err)
			case a.kind == corev1.StreamTypeData:
				c.data = a.stream
			default:
				c.errs = a.stream
			}
		case <-c.tunnel.CloseChan():
			return fmt.Errorf("%s: %w: %w", c.to.pod, errGone, errLost)
		case <-timer.C:
			return fmt.Errorf("%s: %w: no acknowledgement for %s", c.to.pod, errGone, streamWait)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// listen reads the kubelet's error stream: a message if forwarding failed, and its end when forwarding is over.
func (c *conn) listen() {
	_ = c.errs.Close() // we never write to it; a broken wire is seen by the reads
	text, err := io.ReadAll(io.LimitReader(c.errs, maxMessage))
	c.message = strings.TrimSpace(string(text))
	if err != nil && c.message == "" {
		c.message = err.Error()
	}
	close(c.finished)
	if podIsGone(c.message) {
		c.owner.forget(c.to)
	}
}

// podIsGone knows containerd's and CRI-O's ways to say that the pod behind the tunnel does not run any more.
func podIsGone(message string) bool {
	return slices.ContainsFunc([]string{
		"network namespace for sandbox", // … "is closed"
		"is not running",
		"container not found",
		"failed to find sandbox",
		"could not find sandbox",
	}, func(s string) bool { return strings.Contains(message, s) })
}

// pump moves what the pod sends out of the tunnel's way.
func (c *conn) pump() {
	defer close(c.received)
	buf := make([]byte, chunk)
	for {
		n, err := c.data.Read(buf)
		if n > 0 {
			select {
			case c.received <- slices.Clone(buf[:n]):
			case <-c.closed:
				return
			}
		}
		if err != nil {
			c.end = c.whyEnded(err)
			return
		}
	}
}

// whyEnded finds out what the end of the data stream means: the pod has said all, the kubelet gave up, or the tunnel broke.
func (c *conn) whyEnded(err error) error {
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-c.tunnel.CloseChan():
	case <-c.finished:
	case <-c.closed:
	case <-timer.C:
	}
	select {
	case <-c.tunnel.CloseChan(): // a dead tunnel ends its streams as if all was said
		err = errLost
	default:
	}
	select {
	case <-c.finished:
		if c.message != "" {
			err = errors.New(c.message)
		}
	default:
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return c.failed(err)
}

func (c *conn) failed(err error) error {
	return fmt.Errorf("%s, port %d: %w", c.to.pod, c.to.port, err)
}

// Read implements net.Conn. Its error is io.EOF only where the pod closed the connection in order.
func (c *conn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(c.rest) == 0 && len(p) > 0 {
		select { // a deadline that has passed wins over bytes that are there
		case <-c.readBy.wait():
			return 0, os.ErrDeadlineExceeded
		default:
		}
		select {
		case b, ok := <-c.received:
			if !ok {
				return 0, c.ending()
			}
			c.rest = b
		case <-c.closed:
			return 0, net.ErrClosed
		case <-c.readBy.wait():
			return 0, os.ErrDeadlineExceeded
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// ending is why nothing more is read.
func (c *conn) ending() error {
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
		return c.end
	}
}

// Write implements net.Conn. A write deadline is looked at between frames, not within one.
func (c *conn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.halfway {
		return 0, net.ErrClosed
	}
	written := 0
	for written < len(p) {
		select {
		case <-c.closed:
			return written, net.ErrClosed
		case <-c.finished: // nobody would read it
			return written, c.refused()
		case <-c.writeBy.wait():
			return written, os.ErrDeadlineExceeded
		default:
		}
		n, err := c.data.Write(p[written:min(len(p), written+chunk)])
		written += n
		if err != nil {
			return written, c.failed(err)
		}
	}
	return written, nil
}

// refused is the error of a write after the kubelet ended the forwarding.
func (c *conn) refused() error {
	select {
	case <-c.tunnel.CloseChan():
		return c.failed(errLost)
	default:
	}
	if c.message == "" {
		return c.failed(errors.New("the pod has closed the connection"))
	}
	return c.failed(errors.New(c.message))
}

// CloseWrite says that nothing more will be written, as net.TCPConn's does.
func (c *conn) CloseWrite() error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.halfway {
		return nil
	}
	c.halfway = true
	return c.data.Close()
}

// Close implements net.Conn. It does not wait until the pod has what was written; CloseWrite and a read to the end do.
func (c *conn) Close() error {
	c.close.Do(func() {
		close(c.closed)
		c.tunnel.hangUp(c.data, c.errs)
		c.owner.ended(c)
	})
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return addr("client") }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return addr(fmt.Sprintf("%s:%d", c.to.pod, c.to.port)) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(at time.Time) error {
	c.readBy.set(at)
	c.writeBy.set(at)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(at time.Time) error {
	c.readBy.set(at)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(at time.Time) error {
	c.writeBy.set(at)
	return nil
}

// deadline is a channel that is closed when a time is reached, as in net.Pipe.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	reached chan struct{}
}

func (d *deadline) set(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.reached // the timer is just closing it
	}
	d.timer = nil
	select {
	case <-d.reached:
		d.reached = make(chan struct{})
	default:
	}
	if at.IsZero() {
		return
	}
	if left := time.Until(at); left > 0 {
		reached := d.reached
		d.timer = time.AfterFunc(left, func() { close(reached) })
		return
	}
	close(d.reached)
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reached
}

var _ interface { // what Serve and http.Transport use
	net.Conn
	CloseWrite() error
} = (*conn)(nil)
