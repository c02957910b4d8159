package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// ErrNoTerminal tells that nobody can be asked.
var ErrNoTerminal = errors.New("standard input is no terminal")

// AskSecret asks on a terminal for what is not shown while it is typed. in is standard input; the question goes to w.
func AskSecret(ctx context.Context, in io.Reader, w io.Writer, question string) (string, error) {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return "", ErrNoTerminal
	}
	state, err := term.GetState(int(file.Fd()))
	if err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	if _, err := fmt.Fprint(w, question); err != nil {
		return "", err
	}
	type answer struct {
		text []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(int(file.Fd()))
		answered <- answer{text, err}
	}()
	select {
	case a := <-answered:
		_, err := fmt.Fprintln(w) // the line's end was not shown, either
		return string(a.text), errors.Join(a.err, err)
	case <-ctx.Done(): // the read cannot be called off; what it did to the terminal can
		return "", errors.Join(ctx.Err(), term.Restore(int(file.Fd()), state))
	}
}
