package ui

import (
	"errors"
	"fmt"
)

// ErrDiffers is returned by a command that was asked whether something differs, and found that it does. It exits 1 and says no
// more than it has said.
var ErrDiffers = errors.New("it differs")

// ExitCode is returned by a command that ran another program, and ends as that did. It says no more than that has said.
type ExitCode int

func (c ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }
