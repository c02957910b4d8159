package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/filelock"
)

// tokens are what a login came to.
type tokens struct {
	Type        string    `json:"token_type"`
	Access      string    `json:"access_token"`
	AccessUntil time.Time `json:"access_until,omitzero"` // zero where the provider did not say
	ID          string    `json:"id_token,omitempty"`
	IDUntil     time.Time `json:"id_until,omitzero"`
	Refresh     string    `json:"refresh_token,omitempty"`
	// fresh tokens are those that this process was given: what refuses them would also refuse the next.
	fresh bool
}

// cache is the file with the tokens of one login at one provider for one tracking server.
type cache struct {
	dir, name string
}

// maxCache bounds what is read.
const maxCache = 1 << 20

// cacheFor makes dir, or the one in the user's cache directory where it is "". Its owner alone can look into it.
func cacheFor(dir, server string, s Settings) (*cache, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find the user's cache directory: %w", err)
		}
		dir = filepath.Join(user, "kubectl-mlflow", "oidc")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory needs x
		return nil, fmt.Errorf("close the cache directory to others: %w", err)
	}
	key, err := json.Marshal([]string{server, s.Issuer, s.ClientID, s.Audience, s.Scope, fmt.Sprint(s.Interactive)})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	return &cache{dir: dir, name: hex.EncodeToString(sum[:16])}, nil
}

func (c *cache) file() string { return filepath.Join(c.dir, c.name+".json") }

// read returns nil where there is nothing that can be used: no file, a damaged one, or one that others can read or have put there.
func (c *cache) read() *tokens {
	if c == nil {
		return nil
	}
	info, err := os.Lstat(c.file())
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" { // which has no such bits
		return nil
	}
	file, err := os.Open(c.file())
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(file, maxCache))
	if err != nil {
		return nil
	}
	t := &tokens{}
	if json.Unmarshal(text, t) != nil || t.Access == "" {
		return nil
	}
	return t
}

// write puts a whole file in the place of the old one.
func (c *cache) write(t *tokens) (err error) {
	if c == nil {
		return nil
	}
	text, err := json.Marshal(t) //nolint:gosec // it is for tokens
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(c.dir, c.name+".*.new") // for its owner alone
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(text)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), c.file())
}

// lock waits until no other process renews the same tokens; waits is called before a wait. A process that dies has no lock any more.
func (c *cache) lock(ctx context.Context, waits func()) (unlock func(), err error) {
	if c == nil {
		return func() {}, nil
	}
	lock := filelock.On(filepath.Join(c.dir, c.name+".lock")) // without one, who comes second logs in once more
	has, err := lock.Try()
	if err == nil && !has {
		waits()
		err = lock.Wait(ctx)
	}
	return func() { _ = lock.Unlock() }, err // it ends with the process at the latest
}
