package ui

import (
	"io"
	"os"

	"golang.org/x/term"
)

// terminal is what is known of the place that is written to.
type terminal struct {
	live  bool       // the cursor can be moved: lines may be drawn again
	color bool       // colours are wanted
	width func() int // in columns, 0 where it is not known
}

// inspect looks at w and at the environment: TERM=dumb and a Windows console of old take no cursor movement, NO_COLOR no colour.
func inspect(w io.Writer, goos string, lookup func(string) (string, bool)) terminal {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return terminal{}
	}
	return capabilities(goos, lookup, func() int {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return 0
		}
		return width
	})
}

// capabilities of a terminal, by the rules of k8s.io/cli-runtime's AllowsColorOutput.
func capabilities(goos string, lookup func(string) (string, bool), width func() int) terminal {
	if name, _ := lookup("TERM"); name == "dumb" {
		return terminal{}
	}
	if goos == "windows" {
		// Windows Terminal says that it is one; the older console may print escape sequences as they are.
		if _, ok := lookup("WT_SESSION"); !ok {
			return terminal{}
		}
	}
	_, plain := lookup("NO_COLOR")
	return terminal{live: true, color: !plain, width: width}
}
