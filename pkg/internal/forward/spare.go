package forward

import (
	"context"
	"time"
)

// spareWait is how long the spare tunnel may take to carry a connection. A machine that has slept finds one that nobody answers in.
const spareWait = 2 * time.Second

// spares is at most one tunnel that was opened ahead, with nothing in it. Most of what a new connection takes is the API server's and the
// kubelet's time for its tunnel.
type spares struct {
	kept    bool    // there is to be one
	opening bool    // one is being opened
	there   *tunnel // to the Dialer's target, or nil
}

// KeepSpare has a tunnel opened ahead for the next connection, from now on. It is for those who stay.
func (d *Dialer) KeepSpare() {
	d.mu.Lock()
	d.spares.kept = true
	to := d.target
	d.mu.Unlock()
	if to != nil {
		go d.prepare(to)
	}
}

// connect takes the spare tunnel, and opens one where there is none, or where it turns out to be dead.
func (d *Dialer) connect(ctx context.Context, to *target) (*conn, error) {
	if spare := d.take(to); spare != nil {
		soon, cancel := context.WithTimeout(ctx, spareWait)
		c, err := open(soon, spare, to, d)
		cancel()
		if err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	fresh, err := d.dig(ctx, to)
	if err != nil {
		return nil, err
	}
	return open(ctx, fresh, to, d)
}

// dig opens a tunnel.
func (d *Dialer) dig(ctx context.Context, to *target) (*tunnel, error) {
	config, err := d.cluster.RESTConfig() // each time anew: credentials may have been renewed
	if err != nil {
		return nil, err
	}
	wire, err := upgrade(ctx, config, to.pod.Ref)
	if err != nil {
		return nil, err
	}
	return newTunnel(wire, to)
}

// prepare opens the spare tunnel, if there is to be one. What keeps it from that is for the next dial to meet.
func (d *Dialer) prepare(to *target) {
	d.mu.Lock()
	needed := d.target == to && d.spares.kept && !d.spares.opening && d.spares.there == nil && !d.isShut
	d.spares.opening = d.spares.opening || needed
	d.mu.Unlock()
	if !needed {
		return
	}
	spare, err := d.dig(to.chosen, to)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spares.opening = false
	if err != nil {
		return
	}
	if d.spares.there = spare; d.target != to || d.isShut {
		d.spares.drop()
	}
}

// take is the spare tunnel to a pod, if there is one that has not ended.
func (d *Dialer) take(to *target) *tunnel {
	d.mu.Lock()
	defer d.mu.Unlock()
	spare := d.spares.there
	if spare == nil || d.target != to {
		return nil
	}
	select {
	case <-spare.CloseChan():
		d.spares.drop()
		return nil
	default:
		d.spares.there = nil
		return spare
	}
}

// drop closes the spare tunnel, which may take time. The Dialer is locked.
func (s *spares) drop() {
	if s.there != nil {
		go s.there.hangUp()
		s.there = nil
	}
}
