package relay

// A timer stands in one list for each kind of timeout. All of a list have the
// same delay, so that new ones go to the end and the first is the next to fire.
type timer struct {
	prev, next *Conn
	list       *timers
	at         int64
}

type timers struct {
	delay       int64 // ns
	first, last *Conn
}

// start puts c at the end, wherever it was before.
func (l *timers) start(c *Conn, now int64) {
	c.stop()
	t := &c.timer
	t.list, t.at, t.prev = l, now+l.delay, l.last
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

// due is the connection whose time is over, or nil.
func (l *timers) due(now int64) *Conn {
	if l.first != nil && l.first.timer.at <= now {
		return l.first
	}
	return nil
}
