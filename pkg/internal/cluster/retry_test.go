package cluster

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"
)

// What breaks a connection is tried again; what another connection meets as well is not, and a server that has never been there is not
// waited for.
func TestBrokenConnectionsAreTransient(t *testing.T) {
	broken := func(op string, errno syscall.Errno) error {
		return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(op, errno)}
	}
	for _, tc := range []struct {
		name         string
		err          error
		known, fresh bool // whether it is transient once the server has answered, and before
	}{
		{"closed while the request is written", broken("write", syscall.EPIPE), true, true},
		{"reset while the request is written", broken("write", syscall.ECONNRESET), true, true},
		{"reset while the answer is read", broken("read", syscall.ECONNRESET), true, true},
		{"closed before the answer", io.EOF, true, true},
		{"closed in the answer", io.ErrUnexpectedEOF, true, true},
		{"an HTTP/2 connection lost", errors.New("http2: client connection lost"), true, true},
		{"nobody listens", broken("connect", syscall.ECONNREFUSED), true, false},
		{"no way to it", broken("connect", syscall.EHOSTUNREACH), false, false},
		{"its certificate is not trusted", x509.UnknownAuthorityError{}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := fmt.Errorf("creating it: %w", &url.Error{Op: "Post", URL: "https://127.0.0.1:6443/api", Err: tc.err})
			if known, fresh := transient(err, true), transient(err, false); known != tc.known || fresh != tc.fresh {
				t.Errorf("transient %t for a server that has answered, %t for another; want %t and %t", known, fresh, tc.known, tc.fresh)
			}
		})
	}
}
