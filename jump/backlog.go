package jump

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// What a client has sent and no VM has taken stays in memory: each channel may be
// ahead by its window of 2 MiB (RFC 4254 section 5.2), and the SSH library needs up to
// 48 bytes for a packet with one byte in it. On the wire such a packet has at least
// 36, so the bytes on the wire are what to bound: memory is at most 4/3 of them.
//
// Which packets are still kept shows from outside only in part, because a read of
// a channel joins packets. What is known for certain is the payload that was taken,
// and when everything that was there before some moment has been: as soon as a
// channel's reader has found less than it asked for or waits, or has taken a window
// since.
// So time is divided into epochs. One is over when that holds for all channels;
// what is kept is then no older than it. The estimate is what came in this epoch
// and the one before, less the payload taken that can't be older. It is never too
// low. It grows too high only while a channel is stuck, by what the packets of the
// others have on the wire besides their payload.
//
// A connection whose estimate is too high is not read any more for a while. VMs
// that take anything at a fair pace catch up; channels of those that don't are
// closed. That a channel is slow is no reason to close it, and neither is another
// channel's.
const (
	// backlogMax is for one connection, bytes on the wire.
	backlogMax = 32 << 20
	// backlogMemory is what that takes at most, bytes.
	backlogMemory = backlogMax / 3 * 4
	// backlogTight is for one connection while all together are above
	// backlogTotal. One slow upload fits in.
	backlogTight = 6 << 20
	backlogTotal = 512 << 20
	// windowSize is what flow control allows each channel to be ahead by.
	windowSize = 2 << 20
	// estimateEvery is how many bytes are read between estimates.
	estimateEvery = 64 << 10
	// catchUp is how long a connection is not read for the sake of slow
	// channels; after twice that it is closed.
	catchUp     = 10 * time.Second
	catchUpPoll = 2 * time.Millisecond
)

var errBacklog = errors.New("more unread data than a connection may have")

// intake is one direction of data from a client: a channel's, or its error
// output's.
type intake struct {
	taken atomic.Uint64 // payload, bytes
	empty atomic.Uint64 // how often nothing more was there
	reads atomic.Int64  // since when the channel is being read, UnixNano; 0: it is not

	stuck func() // ends a channel that does not get on

	// Of this epoch; the backlog's lock holds for these.
	atStart struct{ taken, empty uint64 }
	passed  bool   // all from before this epoch has been taken
	since   uint64 // taken, when that was seen
}

// read reads from the channel that this is about.
func (in *intake) read(from io.Reader, b []byte) (int, error) {
	in.reads.Store(time.Now().UnixNano())
	n, err := from.Read(b)
	in.taken.Add(uint64(n))
	if n < len(b) {
		in.empty.Add(1)
	}
	in.reads.Store(0)
	return n, err
}

// discard reads what nobody wants, until the end of file.
func (in *intake) discard(from io.Reader) {
	var b [keystrokes]byte
	for {
		if _, err := in.read(from, b[:]); err != nil {
			return
		}
	}
}

// idleRead is how long a read waits when there is nothing: to join the smallest
// packets takes a few milliseconds.
const idleRead = 100 * time.Millisecond

// pass tells whether all that came before this epoch has been taken.
func (in *intake) pass(now time.Time) bool {
	if in.passed {
		return true
	}
	reads := in.reads.Load()
	switch {
	case in.empty.Load() != in.atStart.empty:
	case in.taken.Load()-in.atStart.taken >= windowSize:
	case reads != 0 && now.Sub(time.Unix(0, reads)) > idleRead:
	default:
		return false
	}
	in.passed, in.since = true, in.taken.Load()
	return true
}

func (in *intake) begin() {
	in.passed = false
	in.atStart.taken, in.atStart.empty = in.taken.Load(), in.empty.Load()
}

// backlog estimates what a connection keeps for its channels.
type backlog struct {
	all *atomic.Int64 // of all connections

	mu      sync.Mutex
	intakes map[*intake]bool
	start   uint64 // of this epoch, bytes read from the wire
	left    uint64 // taken since then by those that are gone
	before  int64  // estimate at the end of the last epoch
	last    int64  // estimate
}

// add begins to count for a channel. Nothing has come for it yet.
func (b *backlog) add(stuck func()) *intake {
	in := &intake{stuck: stuck, passed: true}
	b.mu.Lock()
	if b.intakes == nil {
		b.intakes = map[*intake]bool{}
	}
	b.intakes[in] = true
	b.mu.Unlock()
	return in
}

// remove ends the counting. What was kept for the channel is free now.
func (b *backlog) remove(in *intake) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.intakes, in)
	if in.passed {
		b.left += in.taken.Load() - in.since
	}
}

// estimate is for when that many bytes have been read from the wire.
func (b *backlog) estimate(read uint64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	over, taken, at := true, b.left, time.Now()
	for in := range b.intakes {
		if in.pass(at) {
			taken += in.taken.Load() - in.since
		} else {
			over = false
		}
	}
	now := max(0, int64(read-b.start)-int64(taken))
	e := b.before + now
	if over {
		b.before, b.start, b.left = now, read, 0
		for in := range b.intakes {
			in.begin()
		}
	}
	b.all.Add(e - b.last)
	b.last = e
	return e
}

// behind are the channels that have not passed.
func (b *backlog) behind() (list []*intake) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for in := range b.intakes {
		if !in.passed {
			list = append(list, in)
		}
	}
	return list
}

// bound is what a connection may keep now.
func (b *backlog) bound() int64 {
	if b.all.Load() > backlogTotal {
		return backlogTight
	}
	return backlogMax
}

// free ends all counting.
func (b *backlog) free() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.Add(-b.last)
	b.last = 0
}

// settle waits until no more is kept than may be.
func (w *wire) settle() error {
	b := &w.backlog
	if b.estimate(w.read.Load()) <= b.bound() {
		return nil
	}
	ticker := time.NewTicker(catchUpPoll)
	defer ticker.Stop()
	began, told := time.Now(), false
	wait := time.Duration(w.catchUp.Load())
	for b.estimate(w.read.Load()) > b.bound() {
		switch since := time.Since(began); {
		case since > 2*wait:
			w.ended(Stalled)
			return errBacklog
		case since > wait && !told:
			told = true
			for _, in := range b.behind() {
				go in.stuck() // writes to the client, who may not read
			}
		}
		select {
		case <-ticker.C:
		case <-w.closed:
			return errBacklog
		}
	}
	w.last.Store(time.Now().UnixNano()) // it was not the client who was silent
	return nil
}
