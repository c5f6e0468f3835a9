package relay

import "time"

// A timer stands in one list for each kind of timeout. All of a list have the
// same delay, so that new ones go to the end and the first is the next to fire.
// They keep when they were started and not when they fire: a delay that changes
// counts for those that are there, too.
type timer struct {
	prev, next *Conn
	list       *timers
	start      int64
}

type timers struct {
	delay       int64 // ns
	first, last *Conn
}

// start puts c at the end, wherever it was before. now never goes back.
func (l *timers) start(c *Conn, now int64) {
	c.stop()
	t := &c.timer
	t.list, t.start, t.prev = l, now, l.last
	if l.last != nil {
		l.last.timer.next = c
	} else {
		l.first = c
	}
	l.last = c
}

// stop takes c out of its list.
func (c *Conn) stop() {
	t := &c.timer
	if t.list == nil {
		return
	}
	if t.prev != nil {
		t.prev.timer.next = t.next
	} else {
		t.list.first = t.next
	}
	if t.next != nil {
		t.next.timer.prev = t.prev
	} else {
		t.list.last = t.prev
	}
	*t = timer{}
}

// due is a connection whose time is over, or nil.
func (l *timers) due(now int64) *Conn {
	if l.first != nil && l.first.timer.start+l.delay <= now {
		return l.first
	}
	return nil
}

// The idle list is kept in order without touching it for each byte: a connection
// moves to its end only when its place is older than this share of the delay, and
// the delay is longer by as much. So it never fires early, and late by a
// sixteenth at most.
const idleShare = 16

func idleDelay(timeout time.Duration) int64 { return int64(timeout) + int64(timeout)/idleShare }

// active notes that bytes moved.
func (l *loop) active(c *Conn) {
	c.moved = l.now
	if l.now-c.timer.start > l.idle.delay/(idleShare+1) {
		l.idle.start(c, l.now)
	}
}

var epoch = time.Now()

// nanotime is the loops' clock. It is monotonic and costs no system call.
func nanotime() int64 { return int64(time.Since(epoch)) }
