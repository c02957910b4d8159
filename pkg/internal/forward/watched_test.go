package forward

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestASilentConnectionIsClosed(t *testing.T) {
	for _, c := range []struct {
		name    string
		writes  int           // bytes before the read
		comes   time.Duration // when something comes, or 0
		ends    time.Duration // of the read
		nothing bool          // nothing was read
	}{
		{"nothing comes", 0, 0, silence, true},
		{"nothing comes to a request", 1000, 0, silence, true},
		{"nothing comes to an upload", 2 * upload, 0, patience, true},
		{"something comes", 0, silence - time.Second, silence - time.Second, false},
		{"something comes during an upload", 2 * upload, time.Minute, time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				w := &watched{Conn: here}
				go func() {
					if _, err := io.CopyN(io.Discard, there, int64(c.writes)); err != nil {
						return
					}
					if c.comes > 0 {
						time.Sleep(c.comes)
						_, _ = there.Write([]byte("x"))
					}
				}()
				if c.writes > 0 { // an empty write waits for its reader, too
					if _, err := w.Write(make([]byte, c.writes)); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				n, err := w.Read(make([]byte, 1))
				if took := time.Since(began); took != c.ends || (n == 0) != c.nothing || (err != nil) != c.nothing {
					t.Errorf("after %s: %d bytes, %v", took, n, err)
				}
				_, _ = here.Close(), there.Close()
			})
		})
	}
}

func TestWhatComesGivesNewTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		w := &watched{Conn: here}
		go func() {
			for range 10 {
				time.Sleep(silence - time.Second)
				_, _ = there.Write([]byte("x"))
			}
		}()
		for range 10 {
			if _, err := w.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if _, err := w.Read(make([]byte, 1)); err == nil || time.Since(began) != silence {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		_ = there.Close()
	})
}
