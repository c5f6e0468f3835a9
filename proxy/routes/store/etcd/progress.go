package etcd

import (
	"context"
	"strconv"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// newEnough asks all members for their version, and tells which report progress
// in order with changes.
func (s *Store) newEnough(ctx context.Context, client *clientv3.Client) map[uint64]bool {
	ctx, cancel := s.within(ctx, s.timeout)
	defer cancel()
	var mu sync.Mutex
	members := map[uint64]bool{}
	var all sync.WaitGroup
	for _, e := range client.Endpoints() {
		all.Go(func() {
			// One that can't be asked remains unknown, and is not believed.
			if r, err := client.Status(ctx, e); err == nil {
				mu.Lock()
				defer mu.Unlock()
				members[r.Header.MemberId] = progressInOrder(r.Version)
			}
		})
	}
	all.Wait()
	return members
}

// progressInOrder knows the first version with etcd's fix 15237 that is kept up.
func progressInOrder(version string) bool {
	core, _, _ := strings.Cut(version, "-") // a pre-release
	var n [3]int
	for i, part := range strings.SplitN(core, ".", 3) {
		var err error
		if n[i], err = strconv.Atoi(part); err != nil {
			return false
		}
	}
	return n[0] > 3 || n[0] == 3 && (n[1] > 5 || n[1] == 5 && n[2] >= 8)
}
