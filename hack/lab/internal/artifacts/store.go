package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// store is the cache folder, locked. An artifact is a folder artifacts/<name>-<key>, which appears whole or not at all.
type store struct {
	root     string
	reporter Reporter
	// plan: nothing is built; recipes only tell their names.
	plan bool
	// used are the artifacts that were asked for: what Clean keeps.
	used *names
}

// open creates the cache folder if need be and takes its lock. What a killed run left half built is removed.
func open(ctx context.Context, cache string, r Reporter) (*store, func(), error) {
	root, err := filepath.Abs(cache)
	if err != nil {
		return nil, nil, fmt.Errorf("cache folder %s: %w", cache, err)
	}
	s := &store{root: root, reporter: r, used: &names{}}
	for _, folder := range []string{s.artifacts(), s.logs()} {
		if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // pods' uids read the manifests and tools here; nothing is secret
			return nil, nil, fmt.Errorf("cache folder: %w", err)
		}
	}
	lock, err := s.lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	unlock := func() { _ = lock.Close() }                                                           // closing the descriptor is what unlocks; there is nothing left to flush
	if err := errors.Join(os.RemoveAll(s.scratch()), os.MkdirAll(s.scratch(), 0o755)); err != nil { //nolint:gosec // root file systems are built below it, whose own modes count
		unlock()
		return nil, nil, fmt.Errorf("cache folder: %w", err)
	}
	return s, unlock, nil
}

func (s *store) artifacts() string { return filepath.Join(s.root, "artifacts") }
func (s *store) logs() string      { return filepath.Join(s.root, "logs") }

// wheelCache is uv's: a changed recipe downloads only what is new in it.
func (s *store) wheelCache() string { return filepath.Join(s.root, "uv") }

// scratch is on the same file system as the artifacts, so that a rename finishes one.
func (s *store) scratch() string { return filepath.Join(s.root, "artifacts", ".scratch") }

// lock waits for other runs on this cache folder. The kernel lets go of the lock when its holder dies.
func (s *store) lock(ctx context.Context) (*os.File, error) {
	name := filepath.Join(s.artifacts(), ".lock")
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // an empty file
	if err != nil {
		return nil, fmt.Errorf("cache folder: %w", err)
	}
	try := func() error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
	err = try()
	if err == nil {
		return file, nil
	}
	done := s.reporter.Step("waiting for another run of the lab, which is building", 0)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for errors.Is(err, syscall.EWOULDBLOCK) {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-tick.C:
			err = try()
		}
	}
	done(err)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), file.Close())
	}
	return file, nil
}

// keyOf is the key of a recipe, given as all the strings that decide what comes of it.
func keyOf(recipe ...string) string {
	var whole []byte
	for _, part := range recipe {
		// The length keeps ("ab", "c") and ("a", "bc") apart.
		whole = fmt.Appendf(whole, "%d:%s", len(part), part)
	}
	sum := sha256.Sum256(whole)
	return hex.EncodeToString(sum[:])[:12]
}

// path is where an artifact is or will be.
func (s *store) path(name, key string) string {
	base := name + "-" + key
	s.used.add(base)
	return filepath.Join(s.artifacts(), base)
}

// ensure returns the folder of an artifact, which build fills if it does not exist yet.
func (s *store) ensure(ctx context.Context, step step, name, key string, build func(ctx context.Context, folder string) error) (string, error) {
	final := s.path(name, key)
	if s.plan || exists(final) {
		return final, nil
	}
	folder, err := s.temp(name)
	if err != nil {
		return "", err
	}
	err = s.do(ctx, step, func(ctx context.Context) error {
		if err := build(ctx, folder); err != nil {
			return err
		}
		return os.Rename(folder, final)
	})
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(folder))
	}
	return final, nil
}

// temp makes an empty scratch folder. The next run removes it if this one cannot.
func (s *store) temp(name string) (string, error) {
	folder, err := os.MkdirTemp(s.scratch(), name+"-")
	if err != nil {
		return "", err
	}
	// MkdirTemp's 0700 would become the mode of an artifact, or of an image's root.
	return folder, os.Chmod(folder, 0o755) //nolint:gosec // see open
}

func empty(folder string) error {
	return errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o755)) //nolint:gosec // see open
}

// link makes one folder with the files of several, as hard links: it stays whole when Clean removes what it was made from.
func (s *store) link(ctx context.Context, name string, files []string) (string, error) {
	recipe := make([]string, 0, len(files))
	for _, file := range files {
		// The folder's name bears the key of what is in it.
		recipe = append(recipe, filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file))
	}
	return s.ensure(ctx, step{}, name, keyOf(recipe...), func(_ context.Context, folder string) error {
		for _, file := range files {
			if err := os.Link(file, filepath.Join(folder, filepath.Base(file))); err != nil {
				return err
			}
		}
		return nil
	})
}

// step is what the reporter is told. One without a name is too quick to speak of.
type step struct {
	name  string
	usual time.Duration
}

func (s *store) do(ctx context.Context, st step, work func(ctx context.Context) error) error {
	if st.name == "" {
		return work(ctx)
	}
	done := s.reporter.Step(st.name, st.usual)
	err := work(ctx)
	if err != nil {
		err = fmt.Errorf("%s: %w", st.name, err)
	}
	done(err)
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// stale lists the artifacts that nobody asked for since open.
func (s *store) stale() ([]string, error) {
	entries, err := os.ReadDir(s.artifacts())
	if err != nil {
		return nil, err
	}
	var stale []string
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasPrefix(name, ".") && !s.used.has(name) {
			stale = append(stale, filepath.Join(s.artifacts(), name))
		}
	}
	return stale, nil
}
