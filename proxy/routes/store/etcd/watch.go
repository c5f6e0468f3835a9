package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"aarch64.com/isthmus/proxy/routes/store"
)

const (
	// beat is how often a watch asks for progress.
	beat = 2 * time.Second
	// silence is how long no answer may come before the watch ends.
	silence = 6 * time.Second
)

// watch is one stream of a call of Watch.
type watch struct {
	s       *Store
	client  *clientv3.Client
	stream  pb.Watch_WatchClient
	through store.Revision
	f       func([]store.Change, store.Revision) error
	begun   bool // the member has accepted it

	trust   chan map[uint64]bool // what is found out about members; nil: nothing is asked yet
	trusted map[uint64]bool
}

// Watch tells changes until the stream breaks. The library's own watcher would
// hide that, and try for ever.
func (s *Store) Watch(ctx context.Context, prefix string, after store.Revision, f func([]store.Change, store.Revision) error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if after < 0 {
		return fmt.Errorf("%w: there is no revision %d", store.ErrCompacted, after)
	}
	client, err := s.connected(ctx)
	if err != nil {
		return err
	}
	w := &watch{s: s, client: client, through: after, f: f}
	for began := time.Now(); ; time.Sleep(pause) {
		err = w.run(ctx, prefix)
		// A token that one member has given is not known to all at once.
		if w.begun || !errors.Is(err, rpctypes.ErrInvalidAuthToken) || time.Since(began) > s.timeout {
			return err
		}
	}
}

func (w *watch) run(ctx context.Context, prefix string) error {
	s := w.s
	streaming, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	// To begin may take a password's check, for which the library waits for ever.
	begin := time.AfterFunc(s.timeout, cancel)
	defer begin.Stop()
	var err error
	if w.stream, err = pb.NewWatchClient(w.client.ActiveConnection()).Watch(streaming, grpc.MaxCallRecvMsgSize(math.MaxInt32)); err != nil {
		return s.explain(ctx, "watch", err)
	}
	if err := w.create([]byte(s.prefix+prefix), []byte(clientv3.GetPrefixRangeEnd(s.prefix+prefix))); err != nil {
		return s.explain(ctx, "watch", err)
	}
	begin.Stop()
	answers := make(chan *pb.WatchResponse)
	broken := make(chan error, 1)
	go func() {
		for {
			r, err := w.stream.Recv()
			if err != nil {
				broken <- err
				return
			}
			select {
			case answers <- r:
			case <-streaming.Done():
				return
			}
		}
	}()
	ask := time.NewTicker(beat)
	defer ask.Stop()
	dead := time.NewTimer(silence)
	defer dead.Stop()
	for {
		select {
		case r := <-answers:
			if err := w.answer(ctx, r); err != nil {
				return err
			}
			dead.Reset(silence) // f may have taken longer
		case err := <-broken:
			return s.explain(ctx, "watch", err)
		case w.trusted = <-w.trust:
		case <-ask.C:
			// Before, the answer would not be about this watch. An error is one of
			// the stream, which broken explains.
			if w.begun {
				_ = w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
			}
		case <-dead.C:
			return s.explain(ctx, "watch", status.Error(codes.Unavailable, fmt.Sprintf("no answer for %v", silence)))
		case <-streaming.Done():
			return s.explain(ctx, "watch", streaming.Err())
		}
	}
}

// create asks for the watch.
//
// It begins with the revision that is known already: a member answers nothing
// about the progress of a watch from a revision that is still to come. Answers
// are not fragmented: a member computes the size of a fragment again with each
// event, which takes it seconds of CPU for 100,000.
func (w *watch) create(from, end []byte) error {
	err := w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: from, RangeEnd: end, StartRevision: max(int64(w.through), 1), ProgressNotify: true,
	}}})
	if errors.Is(err, io.EOF) {
		_, err = w.stream.Recv() // which knows why
	}
	return err
}

// check looks whether the cluster has reached the revision to watch from. The
// member may merely be behind the others.
func (w *watch) check(ctx context.Context, r *pb.WatchResponse) error {
	if store.Revision(r.Header.Revision) >= w.through {
		return nil
	}
	_, newest, err := w.s.Get(ctx)
	if err == nil && newest < w.through {
		err = fmt.Errorf("%w: after revision %d was asked for, and etcd at %s has come to %d only", store.ErrCompacted, w.through, w.s.where, newest)
	}
	return err
}

// answer tells what a response has.
func (w *watch) answer(ctx context.Context, r *pb.WatchResponse) error {
	if r.Canceled || r.CompactRevision != 0 {
		err := cancelled(r.CancelReason)
		if r.CompactRevision != 0 {
			err = rpctypes.ErrGRPCCompacted
		}
		return w.s.explain(ctx, "watch", err)
	}
	if r.Created {
		w.begun = true
		return w.check(ctx, r)
	}
	var changes []store.Change
	for _, e := range r.Events {
		// Those of the first revision are known. A member that was given a snapshot
		// by the leader may tell some again.
		if store.Revision(e.Kv.ModRevision) <= w.through {
			continue
		}
		c := store.Change{Entry: w.s.entry(e.Kv)}
		if e.Type == mvccpb.Event_DELETE {
			c.Gone, c.Value, c.Created = true, nil, 0
		}
		changes = append(changes, c)
	}
	switch {
	case len(changes) > 0:
		w.through = changes[len(changes)-1].Modified
	case len(r.Events) > 0:
		return nil
	case w.believes(r):
		w.through = max(w.through, store.Revision(r.Header.Revision))
	}
	return w.f(changes, w.through)
}

// believes tells whether a report of progress says how far the watch has come.
// One for this watch alone always does; the answer to our question does from
// members that are new enough, which is found out at the first.
func (w *watch) believes(r *pb.WatchResponse) bool {
	if r.WatchId != clientv3.InvalidWatchID {
		return true
	}
	if w.trust == nil {
		w.trust = make(chan map[uint64]bool, 1)
		go func() { w.trust <- w.s.newEnough(w.stream.Context(), w.client) }()
	}
	return w.trusted[r.Header.MemberId]
}
