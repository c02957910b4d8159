package oidc

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const (
	// margin is how long before its end a token is renewed.
	margin = 30 * time.Second
	// patience is how long a login in the browser is waited for.
	patience = 5 * time.Minute
)

// Config is what a Session needs.
type Config struct {
	Settings
	// Server is the origin of the tracking server that the tokens are for. They are kept for no other.
	Server string
	// Browse opens a URL in the user's browser, if it can.
	Browse   func(ctx context.Context, url string) error
	Progress progress.Reporter
	// Cache is the directory to keep tokens in. Empty is the one in the user's cache directory.
	Cache string
}

// Session is a login at one provider for one tracking server. It is safe for concurrent use.
type Session struct {
	Config
	cache    *cache // nil where nothing can be kept
	client   *http.Client
	patience time.Duration
	now      func() time.Time

	// renew ends with the Session alone: a login outlives the request that has asked for it, which may give up and come again.
	renew   func(refused string) (*tokens, error)
	end     context.CancelFunc
	ended   sync.Once
	flights singleflight.Group
	turn    chan struct{} // of who renews

	mu      sync.Mutex
	current *tokens
}

// Open makes a Session. It lasts until Close, whatever becomes of ctx, and dials nobody.
func Open(ctx context.Context, c Config) *Session {
	s := &Session{Config: c, patience: patience, now: time.Now, turn: make(chan struct{}, 1)}
	s.client = newClient()
	ctx, s.end = context.WithCancel(context.WithoutCancel(ctx))
	s.renew = func(refused string) (*tokens, error) { return s.obtain(ctx, refused) }
	var err error
	if s.cache, err = cacheFor(c.Cache, c.Server, c.Settings); err != nil {
		s.unkept(err)
	}
	return s
}

// Close ends a login under way, and connections to the provider.
func (s *Session) Close() {
	s.end()
	s.ended.Do(func() { s.turn <- struct{}{} }) // nobody has it from now on
	s.client.CloseIdleConnections()
}

// LogIn makes sure that there is a token to show.
func (s *Session) LogIn(ctx context.Context) error {
	_, err := s.Authorization(ctx)
	if s.Interactive && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return s.nobodyCame()
	}
	return err
}

// Authorization is the value of the header of this name, after a login where one is needed.
func (s *Session) Authorization(ctx context.Context) (string, error) {
	s.mu.Lock()
	t := s.current
	s.mu.Unlock()
	if s.good(t, margin) {
		return s.header(t), nil
	}
	return s.once(ctx, "")
}

// Renew is the value that takes the place of refused, which the server did not accept; "" where a new one would be no better.
func (s *Session) Renew(ctx context.Context, refused string) (string, error) {
	s.mu.Lock()
	t := s.current
	s.mu.Unlock()
	switch {
	case t != nil && s.header(t) != refused:
		return s.header(t), nil // another request was faster
	case t != nil && t.fresh:
		return "", nil
	}
	return s.once(ctx, refused)
}

// once renews, together with all others that want it now.
func (s *Session) once(ctx context.Context, refused string) (string, error) {
	flight := s.flights.DoChan(refused, func() (any, error) { return s.renew(refused) })
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case landed := <-flight:
		if landed.Err != nil {
			return "", landed.Err
		}
		return s.header(landed.Val.(*tokens)), nil //nolint:forcetypeassert // it is what renew returns
	}
}

// obtain gets tokens from the cache, with the refresh token, or by a login, whichever comes first.
func (s *Session) obtain(ctx context.Context, refused string) (*tokens, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	unlock, err := s.cache.lock(ctx, func() {
		progress.Say(s.Progress, "Waiting for another command that logs in at %s", s.Issuer)
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		s.unkept(err)
		unlock = func() {}
	}
	defer unlock()
	s.mu.Lock()
	had := s.current
	s.mu.Unlock()
	if kept := s.cache.read(); kept != nil && (had == nil || kept.Refresh != had.Refresh || kept.Access != had.Access) {
		had = kept // another command may have renewed it since
	}
	if !s.good(had, margin) || s.header(had) == refused {
		if had, err = s.next(ctx, had); err != nil {
			return nil, err
		}
		had.fresh = true
		if err := s.cache.write(had); err != nil {
			s.unkept(err)
		}
	}
	s.mu.Lock()
	s.current = had
	s.mu.Unlock()
	return had, nil
}

// next asks the provider for tokens. had are the last ones, or nil.
func (s *Session) next(ctx context.Context, had *tokens) (*tokens, error) {
	p, err := s.discover(ctx)
	if err != nil {
		return nil, err
	}
	if had != nil && had.Refresh != "" {
		t, err := p.refresh(ctx, had)
		if err != nil && !refusal(err) {
			return nil, err
		}
		if err == nil && s.good(t, 0) {
			return t, nil
		}
	}
	var t *tokens
	if s.Interactive {
		t, err = p.askUser(ctx)
	} else {
		t, err = p.showSecret(ctx)
	}
	if err != nil {
		return nil, err
	}
	if s.shown(t) == "" {
		return nil, s.noIDToken()
	}
	return t, nil
}

// shown is the one of the tokens that the server is to see.
func (s *Session) shown(t *tokens) string {
	if s.UseIDToken {
		return t.ID
	}
	return t.Access
}

func (s *Session) header(t *tokens) string {
	kind := "Bearer"
	if !s.UseIDToken && t.Type != "" {
		kind = t.Type
	}
	return kind + " " + s.shown(t)
}

// good tells whether t can be shown for some time.
func (s *Session) good(t *tokens, some time.Duration) bool {
	if t == nil || s.shown(t) == "" {
		return false
	}
	until := t.AccessUntil
	if s.UseIDToken {
		until = t.IDUntil
	}
	return until.IsZero() || s.now().Add(some).Before(until)
}

// unkept says that the next command will have to log in again.
func (s *Session) unkept(err error) {
	progress.Say(s.Progress, "Warning: the login at %s is not kept for the next command: %v", s.Issuer, err)
	s.cache = nil
}
