package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/filelock"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// CacheDir is the directory for what outlives a command, made where it is missing: dir, or kubectl-mlflow in the user's cache directory
// where dir is "".
func CacheDir(dir string) (string, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the user's cache directory: %w", err)
		}
		dir = filepath.Join(user, "kubectl-mlflow")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	return dir, nil
}

// known returns the image of e by digest, "" where the registry has none.
func (m *Maker) known(ctx context.Context, e Environment) (ref string, err error) {
	digest, ok, err := m.Repository.Digest(ctx, e.Tag())
	if err != nil || !ok {
		return "", err
	}
	return m.Repository.At(digest), nil
}

// provide returns the image of e by digest, which was not in the registry when we looked. Of all who want it on this machine one builds
// it; the others wait, and use what came of it.
func (m *Maker) provide(ctx context.Context, e Environment, c Content) (ref string, err error) {
	unlock, err := m.lock(ctx, e)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if !c.Anew {
		if ref, err = m.known(ctx, e); err != nil || ref != "" {
			return ref, err
		}
		progress.Say(m.Progress, "environment: %s", m.news(ctx, e, c.Present))
	}
	digest, err := m.build(ctx, e, c.Builder)
	if err != nil {
		return "", err
	}
	return m.Repository.At(digest), nil
}

// lock waits until no other process of this machine builds e for the same repository. A process that dies has no lock any more.
func (m *Maker) lock(ctx context.Context, e Environment) (unlock func() error, err error) {
	dir, err := CacheDir(m.Cache)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(m.Repository.Ref(e.Tag())))
	lock := filelock.On(filepath.Join(dir, fmt.Sprintf("env-%x.lock", sum[:8]))) // without one, two builds are no more than wasted work: what they push is the same
	has, err := lock.Try()
	if err == nil && !has {
		err = progress.Do(m.Progress, "Waiting for another build of the same environment", func(progress.Step) error { return lock.Wait(ctx) })
	}
	return lock.Unlock, err
}
