package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"aarch64.com/isthmus/proxy/routes/store"
)

// lease is the process's, for all keys that it announces.
type lease struct {
	s      *Store
	ttl    time.Duration
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	loop   sync.WaitGroup

	turn chan struct{} // who has put something in may use what follows, and make requests
	id   clientv3.LeaseID
	said map[string]*announcement
	runs bool
}

// announcement is one key.
type announcement struct {
	l     *lease
	key   string
	value []byte
	want  bool // value is to be there
	there bool // it is, under the present lease
}

func newLease(s *Store, ttl time.Duration) *lease {
	l := &lease{s: s, ttl: ttl, said: map[string]*announcement{}, turn: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	return l
}

// take waits for the turn.
func (l *lease) take(ctx context.Context) error {
	if err := l.s.ready(ctx); err != nil {
		return err
	}
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ctx.Done():
		return errClosed
	}
}

func (l *lease) pass() { <-l.turn }

// Announce prepares a key.
func (s *Store) Announce(ctx context.Context, key string) (store.Announcement, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	l := s.lease
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	defer l.pass()
	if l.said[key] != nil {
		return nil, fmt.Errorf("this process announces %q already", key)
	}
	a := &announcement{l: l, key: key}
	l.said[key] = a
	if !l.runs {
		l.runs = true
		l.loop.Go(l.keep)
	}
	return a, nil
}

// Set changes the value. If that fails because etcd is away, it is tried again
// in the background.
func (a *announcement) Set(ctx context.Context, value []byte) error {
	if err := store.CheckValue(a.key, value); err != nil {
		return err
	}
	l := a.l
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.pass()
	if l.said[a.key] != a {
		return fmt.Errorf("%q is not announced any more", a.key)
	}
	a.value, a.want, a.there = append([]byte{}, value...), true, false
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	return l.put(ctx, a)
}

// put makes the key be there. It needs the turn.
func (l *lease) put(ctx context.Context, a *announcement) error {
	return l.s.read(ctx, "announce", func(ctx context.Context, client *clientv3.Client) error {
		if l.id == 0 {
			r, err := client.Grant(ctx, int64(l.ttl/time.Second))
			if err != nil {
				return err
			}
			l.id = r.ID
		}
		_, err := client.Put(ctx, l.s.prefix+a.key, string(a.value), clientv3.WithLease(l.id))
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			l.lost()
			return errAgain
		}
		a.there = err == nil
		return err
	})
}

// lost is what follows from a lease that has ended. It needs the turn.
func (l *lease) lost() {
	l.id = 0
	for _, a := range l.said {
		a.there = false
	}
}

// keep renews the lease, and puts back what has been lost.
func (l *lease) keep() {
	for {
		l.renew(l.putBack())
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(l.ttl / 16):
		}
	}
}

// putBack puts what is not there, and returns the lease.
func (l *lease) putBack() clientv3.LeaseID {
	if l.take(l.ctx) != nil {
		return 0
	}
	defer l.pass()
	for _, a := range l.said {
		// A failure is tried again soon.
		if a.want && !a.there && l.put(l.ctx, a) != nil {
			break
		}
	}
	return l.id
}

// renew renews a lease four times in its life, until that fails, or something has
// to be put back. The library's own way waits longer for a member that does not
// answer than a lease lives, or makes a stream for each time, for which a
// password is checked.
func (l *lease) renew(id clientv3.LeaseID) {
	client, err := l.s.connected(l.ctx)
	if err != nil || id == 0 {
		return
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(l.ctx))
	defer cancel()
	late := time.AfterFunc(l.ttl/4, cancel)
	defer late.Stop()
	stream, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return
	}
	for {
		if stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}) != nil {
			return
		}
		r, err := stream.Recv()
		if err != nil || l.take(ctx) != nil {
			return
		}
		if r.TTL <= 0 && l.id == id {
			l.lost()
		}
		well := l.id == id
		for _, a := range l.said {
			well = well && a.there == a.want
		}
		l.pass()
		if !well {
			return
		}
		late.Reset(l.ttl / 2) // with the pause
		select {
		case <-ctx.Done():
			return
		case <-time.After(l.ttl / 4):
		}
	}
}

// Close removes the key if it is still ours.
func (a *announcement) Close() error {
	l := a.l
	if l.take(l.ctx) != nil {
		return nil // the store is closed, and has removed it
	}
	defer l.pass()
	if l.said[a.key] != a {
		return nil
	}
	delete(l.said, a.key)
	if !a.want || l.id == 0 {
		return nil
	}
	key := l.s.prefix + a.key
	return l.s.read(l.ctx, "remove what was announced", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(key), "=", l.id)).Then(clientv3.OpDelete(key)).Commit()
		return err
	})
}

// farewell is how long a store that ends tries to give its lease back. What is lost
// if it can't are keys that go with the process anyway.
const farewell = 400 * time.Millisecond

// close gives the lease back, and with it all keys.
func (l *lease) close() {
	l.cancel()
	defer time.AfterFunc(farewell, l.s.cancel).Stop()
	l.loop.Wait()
	l.turn <- struct{}{} // for ever
	if l.id == 0 {
		return
	}
	client, err := l.s.connected(l.s.ctx)
	if err != nil {
		return
	}
	ctx, cancel := l.s.within(l.s.ctx, farewell)
	defer cancel()
	_, _ = client.Revoke(ctx, l.id) // else they go when the lease ends
}
