package forward

import (
	"net"
	"sync/atomic"
	"time"
)

// A network can lose a connection without telling either end. The pings are what comes in any case.
const (
	// pings is the time between two of them.
	pings = 5 * time.Second
	// silence is how long nothing may come.
	silence = 15 * time.Second
	// A pod that reads an upload slowly holds up the kubelet's answers to pings, too: after so many bytes without an answer,
	// the connection gets more time.
	upload, patience = 128 << 10, 2 * time.Minute
)

// watched closes a connection on which nothing comes any more. Time in which nobody reads does not count.
type watched struct {
	net.Conn
	sent atomic.Int64 // since something came
}

func (w *watched) Read(p []byte) (int, error) {
	soon := time.AfterFunc(silence, func() {
		if w.sent.Load() < upload {
			_ = w.Close() // which ends the read
		}
	})
	late := time.AfterFunc(patience, func() { _ = w.Close() })
	n, err := w.Conn.Read(p)
	soon.Stop()
	late.Stop()
	w.sent.Store(0)
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.sent.Add(int64(n))
	return n, err
}
