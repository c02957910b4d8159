package forward

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// keepSpare waits for the spare tunnel of a Dialer that has had a connection.
func keepSpare(t *testing.T, d *Dialer) {
	t.Helper()
	says(t, dial(t, d), "first")
	d.KeepSpare()
	waitUntil(t, func() bool { return d.spare() != nil })
}

func (d *Dialer) spare() *tunnel {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spares.there
}

// holding has upgrades wait until the test lets them.
func (a *apiServer) holding() (release func()) {
	held := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hold = func(ctx context.Context) {
		select {
		case <-held:
		case <-ctx.Done():
		}
	}
	return func() { close(held) }
}

func TestTheNextConnectionTakesTheSpareTunnel(t *testing.T) {
	a, _, d := setup(t, echo)
	keepSpare(t, d)
	release := a.holding()
	says(t, dial(t, d), "second, while no tunnel can be opened")
	if d.spare() != nil {
		t.Error("the spare tunnel is still there")
	}
	release()
	waitUntil(t, func() bool { return d.spare() != nil })
	if seen := a.seen(); len(seen) != 3 {
		t.Errorf("the tunnels are %q, want two that are used and a spare one", seen)
	}
}

func TestADeadSpareTunnelIsReplaced(t *testing.T) {
	a, _, d := setup(t, echo)
	keepSpare(t, d)
	a.cut()
	says(t, dial(t, d), "second")
}

// Streams that are asked for in a tunnel that has just ended are none that the library forgets by itself: goleak, in TestMain, would find
// those who wait for their end.
func TestStreamsOfADeadTunnelHoldNobody(t *testing.T) {
	a, _, d := setup(t, echo)
	says(t, dial(t, d), "first")
	d.mu.Lock()
	to := d.target
	d.mu.Unlock()
	for range 20 {
		dead, err := d.dig(within(t), to)
		if err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool { // the server may not know of the tunnel yet
			a.cut()
			select {
			case <-dead.CloseChan():
				return true
			default:
				return false
			}
		})
		if _, err := open(within(t), dead, to, d); !errors.Is(err, errGone) {
			t.Errorf("got %v", err)
		}
	}
}

// A machine that has slept: nobody tells it that the other end has gone.
func TestASpareTunnelThatNothingComesThroughHoldsUpNobody(t *testing.T) {
	a, c, d := setup(t, echo)
	network := kit.NewNetwork(t, a.Listener.Addr().String())
	c.config.Host = "http://" + network.Address
	keepSpare(t, d)
	network.Lose()
	began := time.Now()
	says(t, dial(t, d), "again")
	if took := time.Since(began); took > 2*spareWait {
		t.Errorf("the connection took %s", took)
	}
}

func TestTheSpareTunnelGoesWithItsPod(t *testing.T) {
	a, c, d := setup(t, echo)
	keepSpare(t, d)
	old := d.spare()
	a.mu.Lock()
	a.backends["mlflow-2"] = echo
	a.mu.Unlock()
	c.set(pod("mlflow-2", true))
	c.remove("mlflow-1")
	waitUntil(t, func() bool { return d.spare() != old })
	<-old.CloseChan()
	conn := dial(t, d)
	says(t, conn, "second")
	if want := "pod/mlflow-2:5000"; conn.RemoteAddr().String() != want {
		t.Errorf("it leads to %s, want %s", conn.RemoteAddr(), want)
	}
}
