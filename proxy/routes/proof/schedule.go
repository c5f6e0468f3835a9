package proof

import (
	"hash/fnv"
	"math/rand/v2"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
)

// When a name is looked at again. A new one soon, then less and less often: its owner
// is at work on it, or has given up.
const (
	soon     = 10 * time.Second
	often    = 10 * time.Minute // at most so long between looks on the first day
	hourly   = time.Hour
	daily    = 24 * time.Hour
	patience = 30 * daily // then daily
)

// next is when to look at a name after now, if ever; the soonest is soon.
func next(p *catalog.Proxy, now time.Time, soon time.Duration) (at time.Time, ever bool) {
	switch {
	case p.Proof == catalog.Trusted:
		return time.Time{}, false
	case p.Proof == catalog.Pending:
		age := now.Sub(p.Changed)
		switch {
		case age < daily:
			return now.Add(min(max(age/8, soon), often)), true
		case age < patience:
			return now.Add(jitter(hourly)), true
		}
	case !p.Missing.IsZero() && now.Sub(p.Missing) < patience, p.Missing.IsZero() && p.Problem != "":
		return now.Add(jitter(hourly)), true
	}
	return slot(p.Host, now), true
}

// jitter spreads looks by a tenth.
func jitter(d time.Duration) time.Duration { return d - d/20 + rand.N(d/10) }

// slot is the name's own time of the day, so that a checker that has just started
// does not look at all names at once.
func slot(host string, now time.Time) time.Time {
	h := fnv.New64a()
	_, _ = h.Write([]byte(host))
	at := now.Truncate(daily).Add(time.Duration(h.Sum64() % uint64(daily)))
	if !at.After(now) {
		at = at.Add(daily)
	}
	return at
}

// queue is a heap of names by when they are due.
type queue []*item

type item struct {
	host    string
	project string
	at      time.Time
	pos     int // in the heap; -1: not in it
}

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].pos, q[j].pos = i, j }
func (q *queue) Push(x any)        { x.(*item).pos = len(*q); *q = append(*q, x.(*item)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*q, x.pos = old[:len(old)-1], -1
	return x
}
