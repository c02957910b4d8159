// Package forward reaches a Service's pods through the API server.
//
// It does not use client-go's PortForwarder, which closes the tunnel and all its connections when one of them reports an error.
package forward

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// The pauses between two attempts to connect.
const (
	shortestPause = 200 * time.Millisecond
	longestPause  = 10 * time.Second
)

// Cluster is the part of cluster.Client that a tunnel needs. Its user may get Services, list and watch pods, and create
// (API servers from 1.31 to 1.34: get) pods/portforward.
type Cluster interface {
	RESTConfig() (*rest.Config, error)
	Renew()
	Get(ctx context.Context, r cluster.Ref) (*unstructured.Unstructured, error)
	Observe(ctx context.Context, qs []cluster.Query, f func([]*unstructured.Unstructured) (done bool, err error)) error
}

// Dialer finds a ready pod of the Service, opens a tunnel to it for each connection, and moves on when the pod goes. It is safe
// for concurrent use.
//
// Connections do not share a tunnel: in the kubelet's end of it, streams have no flow control, and one connection that the pod has
// stopped to read, such as an upload that MLflow refuses early, blocks for good whatever else comes through the same tunnel.
type Dialer struct {
	// Note, if set before the first dial, is told what a dial waits for.
	Note func(text string)

	cluster Cluster
	to      cluster.ServicePort
	turn    chan struct{} // holds one: a single dial looks for a pod, the others wait for it
	closed  chan struct{}

	mu     sync.Mutex
	target *target // where new connections go, or nil
	spares spares
	conns  map[*conn]struct{} // that are open
	opened bool               // there has been one
	isShut bool
}

// target is a port of a pod that was ready when last seen.
type target struct {
	pod    podRef
	port   int32
	chosen context.Context    // lives until the pod is forgotten
	stop   context.CancelFunc // ends it
}

// NewDialer makes a Dialer that does nothing until the first dial.
func NewDialer(c Cluster, to cluster.ServicePort) *Dialer {
	return &Dialer{
		cluster: c,
		to:      to,
		turn:    make(chan struct{}, 1),
		closed:  make(chan struct{}),
		conns:   make(map[*conn]struct{}),
	}
}

// DialContext has the signature of net.Dialer's: it fits http.Transport. network and address are not used.
// It waits for a ready pod as long as ctx lives; failure.TimedOut says why there was none. failure.Invalid where there is no such
// Service or port, failure.Forbidden where RBAC lacks pods/portforward. Once there has been a connection, an API server that is
// away for a while is waited for too, and so are new credentials.
func (d *Dialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	dialing, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-d.closed:
			cancel(net.ErrClosed)
		case <-dialing.Done():
		}
	}()
	renewed := false
	for pause := shortestPause; ; pause = min(pause*8/5, longestPause) {
		conn, err := d.try(dialing)
		switch {
		case err == nil:
			return conn, nil
		case unauthorized(err) && !renewed: // being refused makes a plugin, too, give new credentials
			renewed = true
			d.cluster.Renew()
			continue
		case d.shut():
			return nil, net.ErrClosed
		case ctx.Err() != nil && failure.ClassOf(err) == "":
			return nil, d.interrupted(ctx, err)
		case d.terminal(err):
			return nil, err
		}
		d.note(err.Error())
		timer := time.NewTimer(pause)
		select {
		case <-dialing.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// try opens one tunnel with one connection in it.
func (d *Dialer) try(ctx context.Context) (net.Conn, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	to, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	c, err := d.connect(ctx, to)
	if err != nil {
		d.forgetIfGone(to, err)
		return nil, err
	}
	d.mu.Lock()
	isShut := d.isShut
	if !isShut {
		d.opened, d.conns[c] = true, struct{}{}
	}
	d.mu.Unlock()
	if isShut {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	go d.prepare(to)
	return c, nil
}

// find returns the pod for a new connection, and looks for one if need be.
func (d *Dialer) find(ctx context.Context) (*target, error) {
	if to := d.known(); to != nil {
		return to, nil
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if to := d.known(); to != nil {
		return to, nil
	}
	pod, port, err := d.readyPod(ctx)
	if err != nil {
		return nil, err
	}
	d.note(fmt.Sprintf("connecting to %s", pod))
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the dial
	to := &target{pod: pod, port: port, chosen: watching, stop: stop}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isShut {
		stop()
		return nil, net.ErrClosed
	}
	d.target = to
	go d.watch(watching, to)
	return to, nil
}

func (d *Dialer) known() *target {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.target
}

// watch forgets the pod as soon as the Service would no longer send traffic to it.
func (d *Dialer) watch(ctx context.Context, to *target) {
	err := d.cluster.Observe(ctx, []cluster.Query{cluster.QueryOf(to.pod.Ref)}, func(objs []*unstructured.Unstructured) (bool, error) {
		pods, err := podsOf(objs)
		if err != nil {
			return false, err
		}
		return len(pods) == 0 || pods[0].UID != to.pod.uid || !ready(&pods[0]), nil
	})
	if failure.ClassOf(err) != failure.Forbidden { // who may not watch keeps the pod until a dial fails
		d.forget(to)
	}
}

// forget makes the next dial look for a pod.
func (d *Dialer) forget(to *target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.target == to {
		d.target = nil
		d.spares.drop()
	}
	to.stop()
}

func (d *Dialer) forgetIfGone(to *target, err error) {
	if errors.Is(err, errGone) {
		d.forget(to)
	}
}

// ended is called by a connection that is closed.
func (d *Dialer) ended(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

// Close ends the connections, and the dials that wait.
func (d *Dialer) Close() error {
	d.mu.Lock()
	if d.isShut {
		d.mu.Unlock()
		return nil
	}
	d.isShut = true
	close(d.closed)
	if d.target != nil {
		d.target.stop()
	}
	d.spares.drop()
	open := slices.Collect(maps.Keys(d.conns))
	d.mu.Unlock()
	var all sync.WaitGroup
	for _, c := range open {
		all.Go(func() { _ = c.Close() })
	}
	all.Wait()
	return nil
}

func (d *Dialer) shut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.isShut
}

// terminal tells which errors end a dial at once. Before the first connection these are all but a pod that just went: who starts a
// command wants to know that the API server is not there. Later, credentials that have run out are waited for too: people log in again.
func (d *Dialer) terminal(err error) bool {
	if errors.Is(err, errGone) {
		return false
	}
	if class := failure.ClassOf(err); class == failure.Forbidden && !unauthorized(err) || class == failure.Invalid || class == failure.TimedOut {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.opened
}

// unauthorized tells credentials that are not accepted from a right that is missing.
func unauthorized(err error) bool {
	f, ok := errors.AsType[*failure.Error](err)
	return ok && f.Reason == "Unauthorized"
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
