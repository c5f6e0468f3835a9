package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
	"aarch64.com/isthmus/proxy/routes/store/etcd"
)

// openEngine opens the store that the configuration names.
func openEngine(ctx context.Context, c *config.Config) (store.Store, error) {
	switch c.Routes.Engine {
	case config.EngineBolt:
		return bolt.Open(ctx, c.RoutesFile(), bolt.Options{})
	case config.EngineEtcd:
		settings, err := etcdSettings(&c.Routes.Etcd)
		if err != nil {
			return nil, err
		}
		return etcd.Open(settings)
	}
	return nil, fmt.Errorf("routes.engine %q has no store", c.Routes.Engine)
}

// etcdSettings is what the configuration says about etcd, with the password.
func etcdSettings(e *config.Etcd) (etcd.Config, error) {
	out := etcd.Config{Endpoints: e.Endpoints, Prefix: e.Prefix, CA: e.CAFile, Cert: e.CertFile, Key: e.KeyFile, User: e.User}
	if e.PasswordFile == "" {
		return out, nil
	}
	info, err := os.Stat(e.PasswordFile)
	if err != nil {
		return out, fmt.Errorf("password of etcd: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return out, fmt.Errorf("%s: others may read this password; run chmod 600 %[1]s", e.PasswordFile)
	}
	data, err := os.ReadFile(e.PasswordFile)
	if err != nil {
		return out, fmt.Errorf("password of etcd: %w", err)
	}
	if out.Password = strings.TrimRight(string(data), "\r\n"); out.Password == "" {
		return out, fmt.Errorf("%s: no password in it", e.PasswordFile)
	}
	return out, nil
}

// describeStore says where the store is.
func describeStore(c *config.Config) string {
	if c.Routes.Engine == config.EngineEtcd {
		return "etcd " + strings.Join(c.Routes.Etcd.Endpoints, ", ") + ", keys " + c.Routes.Etcd.Prefix
	}
	return c.Routes.Engine + " " + c.RoutesFile()
}

// checkStore reads the files that the store and the API need, without making any or
// asking anybody.
func checkStore(c *config.Config) (warnings []string) {
	say := func(err error) {
		if err != nil {
			warnings = append(warnings, err.Error()+"; the API would not start here")
		}
	}
	switch c.Routes.Engine {
	case config.EngineEtcd:
		settings, err := etcdSettings(&c.Routes.Etcd)
		if err == nil {
			var s *etcd.Store
			if s, err = etcd.Open(settings); err == nil {
				s.Close() // it has not connected
			}
		}
		if err != nil {
			warnings = append(warnings, err.Error()+"; web proxy and API would not start here")
		}
	case config.EngineBolt:
		if info, err := os.Stat(c.RoutesFile()); err == nil && info.Mode().Perm()&0o077 != 0 {
			warnings = append(warnings, fmt.Sprintf("%s: others may read it; run chmod 600 %[1]s", c.RoutesFile()))
		}
	}
	if c.API.CertFile != "" {
		_, err := tls.LoadX509KeyPair(c.API.CertFile, c.API.KeyFile)
		if err != nil {
			err = fmt.Errorf("certificate of the API: %w", err)
		}
		say(err)
	}
	_, err := nodeName(c)
	say(err)
	return warnings
}

// lateStore is a store that may not be open yet: a file that another process still
// has, or one that is damaged. Until it is, everything fails as if it were away.
type lateStore struct {
	open func(context.Context) (store.Store, error)
	log  func(warn bool, message string)

	cancel context.CancelFunc
	wait   sync.WaitGroup
	ready  chan struct{} // closed when it is open

	mu     sync.Mutex
	is     store.Store // nil: not open
	why    error       // then: why not
	closed bool
}

var _ store.Store = (*lateStore)(nil)

// Between attempts to open a store.
const (
	openAgain  = time.Second
	openRarely = 30 * time.Second // one that nobody else has will hardly mend itself
)

// openLate opens a store, now or in the background.
func openLate(open func(context.Context) (store.Store, error), log func(warn bool, message string)) *lateStore {
	ctx, cancel := context.WithCancel(context.Background())
	s := &lateStore{open: open, log: log, cancel: cancel, ready: make(chan struct{})}
	if !s.try(ctx) {
		s.wait.Go(func() { s.keepTrying(ctx) })
	}
	return s
}

// try opens it, or tells once why that can't be.
func (s *lateStore) try(ctx context.Context) bool {
	is, err := s.open(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		if s.why != nil {
			s.log(false, "routes: the store is open")
		}
		s.is = is
		close(s.ready)
		return true
	}
	if !errors.Is(err, store.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if ctx.Err() == nil && (s.why == nil || s.why.Error() != err.Error()) {
		s.log(!errors.Is(err, bolt.ErrLocked), fmt.Sprintf("routes: %v; trying again", err))
	}
	s.why = err
	return false
}

func (s *lateStore) keepTrying(ctx context.Context) {
	for pause := openAgain; ; pause = min(2*pause, openRarely) {
		now := pause
		if errors.Is(s.problem(), bolt.ErrLocked) {
			now = 0 // the attempt itself waits for the file
		}
		select {
		case <-time.After(now):
		case <-ctx.Done():
			return
		}
		if s.try(ctx) {
			return
		}
	}
}

// problem is why it is not open, or nil.
func (s *lateStore) problem() error {
	_, err := s.get()
	return err
}

func (s *lateStore) get() (store.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("%w: this process is about to end", store.ErrUnavailable)
	}
	if s.is == nil {
		return nil, s.why
	}
	return s.is, nil
}

// opened waits until it is open.
func (s *lateStore) opened(ctx context.Context) (store.Store, error) {
	select {
	case <-s.ready:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *lateStore) Get(ctx context.Context, keys ...string) (map[string]store.Entry, store.Revision, error) {
	is, err := s.get()
	if err != nil {
		return nil, 0, err
	}
	return is.Get(ctx, keys...)
}

func (s *lateStore) List(ctx context.Context, prefix string, f func(store.Entry) error) (store.Revision, error) {
	is, err := s.get()
	if err != nil {
		return 0, err
	}
	return is.List(ctx, prefix, f)
}

func (s *lateStore) Watch(ctx context.Context, prefix string, after store.Revision, f func([]store.Change, store.Revision) error) error {
	is, err := s.get()
	if err != nil {
		return err
	}
	return is.Watch(ctx, prefix, after, f)
}

func (s *lateStore) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	is, err := s.get()
	if err != nil {
		return 0, err
	}
	return is.Commit(ctx, t)
}

func (s *lateStore) Announce(ctx context.Context, key string) (store.Announcement, error) {
	is, err := s.get()
	if err != nil {
		return nil, err
	}
	return is.Announce(ctx, key)
}

// Close closes the store, if it is open, and gives up if it is not.
func (s *lateStore) Close() error {
	s.cancel()
	s.wait.Wait()
	s.mu.Lock()
	is := s.is
	s.closed = true
	s.mu.Unlock()
	if is == nil {
		return nil
	}
	return is.Close()
}
