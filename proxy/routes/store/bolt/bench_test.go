package bolt

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"aarch64.com/isthmus/proxy/routes/store"
)

// BenchmarkCommit commits one proxy among 10,000, from several goroutines.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 4, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, err := Open(b.Context(), filepath.Join(b.TempDir(), "routes.db"), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			value := make([]byte, 500)
			for i := range 100 {
				var txn store.Txn
				for k := range store.MaxTxn {
					txn.Put = append(txn.Put, store.Put{Key: fmt.Sprintf("s/proxy/www%04d.example", i*store.MaxTxn+k), Value: value})
				}
				if _, err := s.Commit(b.Context(), txn); err != nil {
					b.Fatal(err)
				}
			}
			var n atomic.Int64
			var all sync.WaitGroup
			b.ResetTimer()
			for range writers {
				all.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						txn := store.Txn{Put: []store.Put{{Key: fmt.Sprintf("s/proxy/www%04d.example", i*7919%10_000), Value: value}}}
						if _, err := s.Commit(b.Context(), txn); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}
