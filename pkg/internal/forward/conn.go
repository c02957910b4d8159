package forward

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// chunk is the size of a frame that we send, small enough that connections share the tunnel fairly.
	chunk = 32 << 10
	// ahead is how many received frames a connection holds for a reader that is slow. SPDY streams have no flow control here:
	// a full connection holds up others of its tunnel.
	ahead = 32
	// lastWords is how long a connection that ended waits for the kubelet's error message.
	lastWords = time.Second
	// maxMessage bounds that message.
	maxMessage = 4 << 10
)

// conn is one connection in a tunnel. It breaks for itself alone.
type conn struct {
	t       *tunnel
	streams streamPair

	received chan []byte   // closed at the end of what the pod sends
	finished chan struct{} // closed when the kubelet has ended the forwarding; message is set
	closed   chan struct{} // closed by Close and by lost
	message  string        // of the kubelet, why it ended; "" if all is well

	readMu sync.Mutex
	rest   []byte // of the frame read last

	writeMu sync.Mutex
	halfway bool // CloseWrite was called

	readBy, writeBy deadline

	mu     sync.Mutex
	cause  error // why reads and writes fail: net.ErrClosed, the kubelet's message, a lost tunnel
	isOver bool
	endErr error // what a read meets after the last byte
}

func newConn(t *tunnel, p streamPair) *conn {
	return &conn{
		t: t, streams: p,
		received: make(chan []byte, ahead),
		finished: make(chan struct{}),
		closed:   make(chan struct{}),
		readBy:   deadline{reached: make(chan struct{})},
		writeBy:  deadline{reached: make(chan struct{})},
	}
}

func (c *conn) start() {
	go c.listen()
	go c.pump()
}

// listen reads the kubelet's error stream: a message if forwarding failed, and its end when forwarding is over.
func (c *conn) listen() {
	_ = c.streams.errs.Close() // we never write to it; a broken wire is seen by the reads
	text, err := io.ReadAll(io.LimitReader(c.streams.errs, maxMessage))
	c.message = strings.TrimSpace(string(text))
	if err != nil && c.message == "" {
		c.message = err.Error()
	}
	close(c.finished)
	if podIsGone(c.message) {
		c.t.retire(fmt.Errorf("%w: %s", errGone, c.message))
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
		n, err := c.streams.data.Read(buf)
		if n > 0 {
			select {
			case c.received <- slices.Clone(buf[:n]):
			case <-c.closed:
				return
			}
		}
		if err != nil {
			c.end(err)
			return
		}
	}
}

// end finds out what the end of the data stream means: the pod has said all, the kubelet gave up, or the tunnel broke.
func (c *conn) end(err error) {
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-c.t.streams.CloseChan(): // a dead tunnel ends all streams as if all was said
		err = errLost
	case <-c.finished:
		select {
		case <-c.t.streams.CloseChan():
			err = errLost
		default:
			if c.message != "" {
				err = errors.New(c.message)
			}
		}
	case <-timer.C:
	case <-c.closed:
	}
	if !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s, port %d: %w", c.t.pod, c.t.port, err)
	}
	c.mu.Lock()
	c.endErr = err
	c.mu.Unlock()
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
				return 0, c.over()
			}
			c.rest = b
		case <-c.closed:
			return 0, c.over()
		case <-c.readBy.wait():
			return 0, os.ErrDeadlineExceeded
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// over is why nothing more is read.
func (c *conn) over() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return c.cause
	}
	return c.endErr
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
			return written, c.over()
		case <-c.finished: // the kubelet would drop it without a word
			return written, c.refused()
		case <-c.writeBy.wait():
			return written, os.ErrDeadlineExceeded
		default:
		}
		n, err := c.streams.data.Write(p[written:min(len(p), written+chunk)])
		written += n
		if err != nil {
			return written, fmt.Errorf("%s, port %d: %w", c.t.pod, c.t.port, err)
		}
	}
	return written, nil
}

// refused is the error of a write after the kubelet ended the forwarding.
func (c *conn) refused() error {
	if c.message == "" {
		return fmt.Errorf("%s, port %d: the pod has closed the connection", c.t.pod, c.t.port)
	}
	return fmt.Errorf("%s, port %d: %s", c.t.pod, c.t.port, c.message)
}

// CloseWrite says that nothing more will be written, as net.TCPConn's does.
func (c *conn) CloseWrite() error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.halfway {
		return nil
	}
	c.halfway = true
	return c.streams.data.Close()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.stop(net.ErrClosed)
	return nil
}

// lost ends the connection because its tunnel has ended.
func (c *conn) lost(why error) {
	c.stop(fmt.Errorf("%s, port %d: %w", c.t.pod, c.t.port, why))
}

func (c *conn) stop(cause error) {
	c.mu.Lock()
	if c.isOver {
		c.mu.Unlock()
		return
	}
	c.isOver, c.cause = true, cause
	c.mu.Unlock()
	close(c.closed)
	c.t.reset(c.streams)
	c.t.release(c)
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return addr("client") }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return addr(fmt.Sprintf("%s:%d", c.t.pod, c.t.port)) }

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
