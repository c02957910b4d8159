// Package browser opens pages in the user's browser.
package browser

import (
	"context"
	"os/exec"
	"runtime"
)

// Open opens url. It does not wait for the browser.
func Open(ctx context.Context, url string) error { return open(ctx, runtime.GOOS, url) }

// opener is the program that opens a URL in the user's browser.
func opener(goos string) []string {
	switch goos {
	case "darwin":
		return []string{"open"}
	case "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	return []string{"xdg-open"}
}

func open(ctx context.Context, goos, url string) error {
	words := append(opener(goos), url)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), words[0], words[1:]...) //nolint:gosec // one of three programs
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // whatever becomes of the browser
	return nil
}
