//go:build !windows

package portforward

import (
	"errors"
	"syscall"
)

// isTaken tells whether somebody listens on the port.
func isTaken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// isKept tells whether the port is not to be had for this user.
func isKept(err error) bool { return errors.Is(err, syscall.EACCES) }
