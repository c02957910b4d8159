package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// linger is how long a local client may still talk after the pod has said all. Closing at once would reset the connection, and
// the client could lose the answer that refused its upload.
const linger = 2 * time.Second

// Serve accepts on the listeners and joins each connection to one of dial's, until ctx ends; then it closes the listeners and the
// connections and returns nil. A local connection waits for its dial; a dial that fails closes that connection alone, unless
// failure.Forbidden or failure.Invalid says that no other dial will do better: that ends Serve.
func Serve(ctx context.Context, ls []net.Listener, dial func(context.Context, string, string) (net.Conn, error), r progress.Reporter) error {
	names := make([]string, 0, len(ls))
	for _, l := range ls {
		names = append(names, l.Addr().String())
	}
	return progress.Do(r, "Forwarding "+strings.Join(names, ", "), func(step progress.Step) error {
		inner, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		s := server{dial: dial, step: step, end: cancel}
		var running sync.WaitGroup
		for _, l := range ls {
			context.AfterFunc(inner, func() { _ = l.Close() })
			running.Go(func() { cancel(s.accept(inner, l, &running)) })
		}
		running.Wait()
		if ctx.Err() != nil {
			return nil
		}
		return context.Cause(inner)
	})
}

type server struct {
	dial func(context.Context, string, string) (net.Conn, error)
	step progress.Step
	end  context.CancelCauseFunc
}

// accept takes connections until l is closed.
func (s server) accept(ctx context.Context, l net.Listener, running *sync.WaitGroup) error {
	for pause := 5 * time.Millisecond; ; {
		local, err := l.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			running.Go(func() { s.forward(ctx, local) })
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("%s: %w", l.Addr(), err)
		}
		// As net/http does it: out of file descriptors, for example, passes.
		s.step.Note(fmt.Sprintf("%s: %v", l.Addr(), err))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		pause = min(2*pause, time.Second)
	}
}

func (s server) forward(ctx context.Context, local net.Conn) {
	defer func() { _ = local.Close() }() // its end has been dealt with
	remote, err := s.dial(ctx, "tcp", "")
	if err != nil {
		reset(local)
		if class := failure.ClassOf(err); class == failure.Forbidden || class == failure.Invalid {
			s.end(err)
		} else if ctx.Err() == nil {
			s.step.Note(err.Error())
		}
		return
	}
	defer func() { _ = remote.Close() }()
	stop := context.AfterFunc(ctx, func() {
		_ = local.Close()
		_ = remote.Close()
	})
	defer stop()
	if err := join(local, remote); err != nil && ctx.Err() == nil {
		s.step.Note(err.Error())
	}
}

// join copies both ways until both are done. The error is the remote's: what a local client does is its own affair.
func join(local, remote net.Conn) error {
	var up sync.WaitGroup
	up.Go(func() {
		_, err := io.Copy(toRemote{remote}, local)
		if err == nil {
			_ = closeWrite(remote) // a remote that is gone ends the copy from it
			return
		}
		if _, refused := errors.AsType[*remoteError](err); refused {
			_, _ = io.Copy(io.Discard, local) // until the client has read the answer and closes, or its deadline is over
		} else {
			_ = remote.Close() // the client is gone
		}
	})
	_, err := io.Copy(local, fromRemote{remote})
	broken, isRemote := errors.AsType[*remoteError](err)
	if err != nil {
		reset(local) // it must not take half an answer for a whole one
		_ = remote.Close()
	} else {
		_ = closeWrite(local)
		_ = local.SetReadDeadline(time.Now().Add(linger))
	}
	up.Wait()
	if isRemote && !errors.Is(broken.err, net.ErrClosed) {
		return broken.err
	}
	return nil
}

// remoteError tells the two ends of a copy apart.
type remoteError struct{ err error }

func (e *remoteError) Error() string { return e.err.Error() }
func (e *remoteError) Unwrap() error { return e.err }

type toRemote struct{ net.Conn }

func (w toRemote) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if err != nil {
		err = &remoteError{err}
	}
	return n, err
}

// ReadFrom hides the one of net.TCPConn, which would not tell the ends apart.
func (w toRemote) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{w}, r) }

type fromRemote struct{ net.Conn }

func (r fromRemote) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &remoteError{err}
	}
	return n, err
}

// WriteTo hides the one of net.TCPConn, which would not tell the ends apart.
func (r fromRemote) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{r}) }

// closeWrite passes an end of file on, where the connection can.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// reset makes the local client see a broken connection and not an orderly end.
func reset(local net.Conn) {
	if tcp, ok := local.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = local.Close()
}
