// Package forward reaches a Service's pods through the API server.
//
// It does not use client-go's PortForwarder, which closes the tunnel and all its connections when one of them reports an error.
package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// The pauses between two attempts to open a tunnel.
const (
	shortestPause = 200 * time.Millisecond
	longestPause  = 10 * time.Second
)

// Cluster is the part of cluster.Client that a tunnel needs. Its user may get Services, list and watch pods, and create
// (API servers from 1.31 to 1.34: get) pods/portforward.
type Cluster interface {
	RESTConfig() (*rest.Config, error)
	Get(ctx context.Context, r cluster.Ref) (*unstructured.Unstructured, error)
	Observe(ctx context.Context, qs []cluster.Query, f func([]*unstructured.Unstructured) (done bool, err error)) error
}

// Dialer keeps a tunnel to a ready pod of the Service and moves it when the pod goes. It is safe for concurrent use.
type Dialer struct {
	// Note, if set before the first dial, is told what a dial waits for.
	Note func(text string)

	cluster Cluster
	to      cluster.ServicePort
	turn    chan struct{} // holds one: a single dial opens a tunnel, the others wait for it
	closed  chan struct{}

	mu      sync.Mutex
	current *tunnel              // where new connections go, or nil
	open    map[*tunnel]struct{} // current, and those that end with their last connection
	opened  bool                 // there has been a tunnel
	isShut  bool
}

// NewDialer makes a Dialer that does nothing until the first dial.
func NewDialer(c Cluster, to cluster.ServicePort) *Dialer {
	return &Dialer{
		cluster: c,
		to:      to,
		turn:    make(chan struct{}, 1),
		closed:  make(chan struct{}),
		open:    make(map[*tunnel]struct{}),
	}
}

// DialContext has the signature of net.Dialer's: it fits http.Transport. network and address are not used.
// It waits for a ready pod as long as ctx lives; failure.TimedOut says why there was none. failure.Invalid where there is no such
// Service or port, failure.Forbidden where RBAC lacks pods/portforward. Once a tunnel has been open, an API server that is away for
// a while is waited for too.
func (d *Dialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	for pause := shortestPause; ; pause = min(pause*8/5, longestPause) {
		conn, err := d.try(ctx)
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil && failure.ClassOf(err) == "":
			return nil, d.interrupted(ctx, err)
		case d.terminal(err):
			return nil, err
		}
		d.note(err.Error())
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, d.interrupted(ctx, err)
		case <-d.closed:
			timer.Stop()
			return nil, net.ErrClosed
		case <-timer.C:
		}
	}
}

func (d *Dialer) try(ctx context.Context) (net.Conn, error) {
	t, err := d.tunnel(ctx)
	if err != nil {
		return nil, err
	}
	return t.dial(ctx)
}

// tunnel returns the tunnel for a new connection, and opens one if need be.
func (d *Dialer) tunnel(ctx context.Context) (*tunnel, error) {
	if t, err := d.usable(); t != nil || err != nil {
		return t, err
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-d.closed:
		return nil, net.ErrClosed
	}
	if t, err := d.usable(); t != nil || err != nil {
		return t, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-d.closed:
			cancel(net.ErrClosed)
		case <-ctx.Done():
		}
	}()
	t, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isShut {
		t.shut(net.ErrClosed)
		return nil, net.ErrClosed
	}
	d.current, d.opened, d.open[t] = t, true, struct{}{}
	return t, nil
}

// usable is the current tunnel, or nil where one must be opened.
func (d *Dialer) usable() (*tunnel, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.isShut:
		return nil, net.ErrClosed
	case d.current != nil && d.current.takes():
		return d.current, nil
	}
	return nil, nil
}

// connect finds a pod and opens a tunnel to it.
func (d *Dialer) connect(ctx context.Context) (*tunnel, error) {
	pod, port, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	config, err := d.cluster.RESTConfig()
	if err != nil {
		return nil, err
	}
	d.note(fmt.Sprintf("opening a tunnel to %s", pod))
	wire, err := upgrade(ctx, config, pod.Ref)
	if err != nil {
		return nil, err
	}
	return openTunnel(ctx, d.cluster, wire, pod, port, d.forget)
}

// forget is called when a tunnel has ended.
func (d *Dialer) forget(t *tunnel) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, t)
	if d.current == t {
		d.current = nil
	}
}

// Close ends the tunnels and their connections, and the dials that wait.
func (d *Dialer) Close() error {
	d.mu.Lock()
	if d.isShut {
		d.mu.Unlock()
		return nil
	}
	d.isShut = true
	close(d.closed)
	open := make([]*tunnel, 0, len(d.open))
	for t := range d.open {
		open = append(open, t)
	}
	d.mu.Unlock()
	for _, t := range open {
		t.shut(net.ErrClosed)
	}
	return nil
}

// terminal tells which errors end a dial at once. Before the first tunnel these are all but a pod or tunnel that just went: who
// starts a command wants to know that the API server is not there.
func (d *Dialer) terminal(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	if errors.Is(err, errGone) {
		return false
	}
	if class := failure.ClassOf(err); class == failure.Forbidden || class == failure.Invalid || class == failure.TimedOut {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.opened
}

// interrupted is the failure of a dial whose ctx ended; last says what it waited for.
func (d *Dialer) interrupted(ctx context.Context, last error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("service/%s: %w", d.to.Service, context.Cause(ctx))
	}
	e := &failure.Error{
		Class:   failure.TimedOut,
		Reason:  "NoTunnel",
		Object:  "service/" + d.to.Service,
		Message: "no tunnel in time",
	}
	if !errors.Is(last, context.DeadlineExceeded) {
		e.Err = last
	}
	return e
}

func (d *Dialer) note(text string) {
	if d.Note != nil {
		d.Note(text)
	}
}
