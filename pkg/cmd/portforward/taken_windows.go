package portforward

import (
	"errors"
	"syscall"
)

// inUse is WSAEADDRINUSE of Windows Sockets; syscall.EADDRINUSE is a number of Go's own there, which no call returns.
const inUse = syscall.Errno(10048)

// isTaken tells whether somebody listens on the port.
func isTaken(err error) bool { return errors.Is(err, inUse) }

// isKept tells whether the port is not to be had for this user: Windows itself keeps whole ranges, for Hyper-V.
func isKept(err error) bool { return errors.Is(err, syscall.WSAEACCES) }
