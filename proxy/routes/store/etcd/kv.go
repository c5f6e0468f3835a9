package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"aarch64.com/isthmus/proxy/routes/store"
)

const (
	maxOps = 128 // of a transaction, etcd's --max-txn-ops

	firstPage = 200     // entries of List's first request
	maxPage   = 10_000  // and of the others
	pageBytes = 1 << 20 // that others aim for

	pause = 50 * time.Millisecond // before a request is made again
)

func (s *Store) entry(kv *mvccpb.KeyValue) store.Entry {
	return store.Entry{
		Key: strings.TrimPrefix(string(kv.Key), s.prefix), Value: kv.Value,
		Created: store.Revision(kv.CreateRevision), Modified: store.Revision(kv.ModRevision),
	}
}

// read makes a request that may be made again, until it succeeds, fails for good
// or the time is over. Each try has half of it: a member that says nothing is
// not the only one.
func (s *Store) read(ctx context.Context, what string, request func(context.Context, *clientv3.Client) error) error {
	client, err := s.connected(ctx)
	if err != nil {
		return err
	}
	all, cancel := s.within(ctx, s.timeout)
	defer cancel()
	for {
		one, cancel := context.WithTimeout(all, s.timeout/2)
		err := request(one, client)
		cancel()
		if err == nil {
			return nil
		}
		if code := codeOf(err); all.Err() != nil || !refused(err) && code != codes.Unavailable && code != codes.DeadlineExceeded {
			return s.explain(ctx, what, err)
		}
		select {
		case <-all.Done():
			return s.explain(ctx, what, err)
		case <-time.After(pause):
		}
	}
}

// Get reads keys, in one transaction or in several at one revision.
func (s *Store) Get(ctx context.Context, keys ...string) (map[string]store.Entry, store.Revision, error) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	for _, key := range keys {
		if err := store.CheckKey(key); err != nil {
			return nil, 0, err
		}
	}
	if err := s.ready(ctx); err != nil {
		return nil, 0, err
	}
	var found map[string]store.Entry
	var revision int64
	err := s.read(ctx, "read", func(ctx context.Context, client *clientv3.Client) error {
		found, revision = make(map[string]store.Entry, len(keys)), 0
		if len(keys) == 0 {
			r, err := client.Get(ctx, s.prefix, clientv3.WithCountOnly())
			if err == nil {
				revision = r.Header.Revision
			}
			return err
		}
		for part := range slices.Chunk(keys, maxOps) {
			var ops []clientv3.Op
			for _, key := range part {
				ops = append(ops, clientv3.OpGet(s.prefix+key, clientv3.WithRev(revision)))
			}
			r, err := client.Txn(ctx).Then(ops...).Commit()
			if revision != 0 && errors.Is(err, rpctypes.ErrCompacted) {
				return errAgain // all of it, at a new revision
			}
			if err != nil {
				return err
			}
			if revision == 0 {
				revision = r.Header.Revision
			}
			for _, one := range r.Responses {
				for _, kv := range one.GetResponseRange().Kvs {
					e := s.entry(kv)
					found[e.Key] = e
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return found, store.Revision(revision), nil
}

// List reads all with a prefix, page after page at the first one's revision.
func (s *Store) List(ctx context.Context, prefix string, f func(store.Entry) error) (store.Revision, error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	from, end := s.prefix+prefix, clientv3.GetPrefixRangeEnd(s.prefix+prefix)
	var revision int64
	limit := int64(firstPage)
	for {
		var page *clientv3.GetResponse
		err := s.read(ctx, "list", func(ctx context.Context, client *clientv3.Client) (err error) {
			page, err = client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(revision), clientv3.WithLimit(limit))
			return err
		})
		if err != nil {
			return 0, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		size := int64(0)
		for _, kv := range page.Kvs {
			size += int64(len(kv.Key) + len(kv.Value))
			if err := f(s.entry(kv)); err != nil {
				return 0, err
			}
		}
		if !page.More || len(page.Kvs) == 0 {
			return store.Revision(revision), nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		limit = min(max(pageBytes*int64(len(page.Kvs))/max(size, 1), 1), maxPage)
	}
}

// Commit carries out a transaction. A member that knows no leader has done
// nothing about it, so that another try is safe; of all other failures nobody
// knows.
func (s *Store) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	if err := t.Check(); err != nil {
		return 0, err
	}
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	client, err := s.connected(ctx)
	if err != nil {
		return 0, err
	}
	var conditions []clientv3.Cmp
	for _, c := range t.If {
		conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(s.prefix+c.Key), "=", int64(c.Modified)))
	}
	var ops []clientv3.Op
	for _, p := range t.Put {
		ops = append(ops, clientv3.OpPut(s.prefix+p.Key, string(p.Value)))
	}
	for _, key := range t.Delete {
		ops = append(ops, clientv3.OpDelete(s.prefix+key))
	}
	if len(ops) == 0 {
		// One that does nothing is answered by a member out of what it has, which may
		// be behind. This read is linearizable.
		ops = append(ops, clientv3.OpGet(s.prefix, clientv3.WithCountOnly()))
	}
	all, cancel := s.within(ctx, s.timeout)
	defer cancel()
	for {
		r, err := client.Txn(all).If(conditions...).Then(ops...).Commit()
		switch {
		case err == nil && !r.Succeeded:
			return 0, fmt.Errorf("%w: a condition on one of %s did not hold at revision %d", store.ErrConflict, keysOf(t.If), r.Header.Revision)
		case err == nil:
			return store.Revision(r.Header.Revision), nil
		case !refused(err) || all.Err() != nil:
			return 0, s.explain(ctx, "commit", err)
		}
		select {
		case <-all.Done():
			return 0, s.explain(ctx, "commit", err)
		case <-time.After(pause):
		}
	}
}

func keysOf(conditions []store.Condition) string {
	var keys []string
	for _, c := range conditions {
		keys = append(keys, fmt.Sprintf("%.64q", c.Key))
	}
	if len(keys) > 3 {
		keys = append(keys[:3], "...")
	}
	return strings.Join(keys, ", ")
}
