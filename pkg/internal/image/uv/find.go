package uv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// find returns a uv that is new enough: from PATH, else the pinned one, which it fetches once.
func (b *Builder) find(ctx context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.path != "" {
		return b.path, nil
	}
	if found, err := exec.LookPath("uv"); err == nil {
		out, err := run(ctx, "", os.Environ(), nil, found, "--version")
		if ctx.Err() != nil {
			return "", fmt.Errorf("ask uv for its version: %w", ctx.Err())
		}
		if err == nil && newEnough(out) {
			b.path = found
			return found, nil
		}
	}
	fetched, err := b.fetch(ctx)
	if err != nil {
		return "", err
	}
	b.path = fetched
	return fetched, nil
}

func uvVersion() *regexp.Regexp {
	return regexp.MustCompile(`^uv (\d+)\.(\d+)\.`)
}

// newEnough is uv 0.7 and later: it knows the platforms by glibc's version, `uv python find`, and --torch-backend.
func newEnough(out string) bool {
	m := uvVersion().FindStringSubmatch(out)
	if m == nil {
		return false
	}
	major, errMajor := strconv.Atoi(m[1])
	minor, errMinor := strconv.Atoi(m[2])
	return errMajor == nil && errMinor == nil && (major > 0 || minor >= 7)
}
