package portforward

import (
	"net"
	"os"
	"syscall"
	"testing"
)

func TestPortsThatAreTakenAndKept(t *testing.T) {
	bind := func(number syscall.Errno) error {
		return &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", number)}
	}
	if taken, kept := bind(10048), bind(10013); !isTaken(taken) || isKept(taken) || isTaken(kept) || !isKept(kept) {
		t.Errorf("%v: %t, %t; %v: %t, %t", taken, isTaken(taken), isKept(taken), kept, isTaken(kept), isKept(kept))
	}
}
