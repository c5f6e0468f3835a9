package bolt

import (
	"path/filepath"
	"testing"

	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/storetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, o)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// kill leaves the file as the death of the process would.
func kill(s *Store) {
	s.mu.Lock()
	s.closed = true
	clear(s.said)
	s.mu.Unlock()
	s.Close()
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Bed {
		path := filepath.Join(t.TempDir(), "routes.db")
		return storetest.Bed{
			Open: func(t *testing.T) store.Store { return open(t, path, Options{}) },
			Forget: func(t *testing.T, s store.Store) {
				// The writer looks at it with each round.
				o := &s.(*Store).options
				o.History = 1
				_, err := s.Commit(t.Context(), store.Txn{Put: []store.Put{{Key: "forget"}}})
				must(t, err)
				o.History = DefaultHistory
			},
			Kill: func(t *testing.T, s store.Store) { kill(s.(*Store)) },
		}
	})
}
