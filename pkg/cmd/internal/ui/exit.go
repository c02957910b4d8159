package ui

import "errors"

// ErrDiffers is returned by a command that was asked whether something differs, and found that it does. It exits 1 and says no
// more than it has said.
var ErrDiffers = errors.New("it differs")
