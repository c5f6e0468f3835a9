package proxy

import (
	"container/list"
	"time"
)

// enlist puts a flow at the end of a list.
func (l *quicLoop) enlist(f *flow, x *list.List) {
	if f.list != nil {
		f.list.Remove(f.place)
	}
	f.list, f.since = x, l.now
	f.place = x.PushBack(f)
}

// evict ends the oldest flow of a list. Who floods with addresses that are not
// theirs pushes out their own.
func (l *quicLoop) evict(x *list.List) bool {
	e := x.Front()
	if e == nil {
		return false
	}
	l.quic.counts.evicted.Add(1)
	l.end(e.Value.(*flow), TooMany, "evicted")
	return true
}

// due tells of the first flow in a list whether its time is over.
func (l *quicLoop) due(x *list.List, after time.Duration) *flow {
	if e := x.Front(); e != nil {
		if f := e.Value.(*flow); l.now.Sub(f.since) >= after {
			return f
		}
	}
	return nil
}

func (l *quicLoop) expire() {
	t := &l.quic.server.config().Timeouts
	for f := l.due(&l.pending, t.Hello); f != nil; f = l.due(&l.pending, t.Hello) {
		l.end(f, SlowUser, "hello_timeout")
	}
	for f := l.due(&l.dialing, t.Connect); f != nil; f = l.due(&l.dialing, t.Connect) {
		l.dial(f)
	}
	for f := l.due(&l.young, t.Hello); f != nil; f = l.due(&l.young, t.Hello) {
		if f.first == 0 {
			l.end(f, SlowBackend, "no_answer")
		} else {
			l.end(f, SlowUser, "unconfirmed")
		}
	}
	for f := l.due(&l.steady, t.QUICIdle); f != nil; f = l.due(&l.steady, t.QUICIdle) {
		if l.now.Sub(f.moved) < t.QUICIdle {
			f.since = f.moved
			l.steady.MoveToBack(f.place)
			continue
		}
		// The end of a connection is sealed: silence is all that there is to see.
		l.end(f, Served, "idle")
	}
}
