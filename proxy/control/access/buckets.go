package access

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxBuckets bounds the memory for those that are counted. Beyond it, ones that
// have nothing held against them are forgotten first, and then any.
const maxBuckets = 1 << 14

// buckets are token buckets by key.
type buckets[K comparable] struct {
	mu    sync.Mutex
	limit rate.Limit // a second
	burst int
	of    map[K]*rate.Limiter
}

func newBuckets[K comparable](perSecond float64, burst int) *buckets[K] {
	return &buckets[K]{limit: rate.Limit(perSecond), burst: burst, of: map[K]*rate.Limiter{}}
}

// bound replaces the limits, also of those that are counted already.
func (b *buckets[K]) bound(perSecond float64, burst int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit == rate.Limit(perSecond) && b.burst == burst {
		return
	}
	b.limit, b.burst = rate.Limit(perSecond), burst
	for _, l := range b.of {
		l.SetLimit(b.limit)
		l.SetBurst(burst)
	}
}

// take takes one from k's bucket, or says how long it has to wait for one.
func (b *buckets[K]) take(k K, now time.Time) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of[k]
	if l == nil {
		b.makeRoom(now)
		l = rate.NewLimiter(b.limit, b.burst)
		b.of[k] = l
	}
	if l.AllowN(now, 1) {
		return 0
	}
	return b.wait(l, now)
}

// empty says how long k has to wait for one, and takes none.
func (b *buckets[K]) empty(k K, now time.Time) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of[k]
	if l == nil || l.TokensAt(now) >= 1 {
		return 0
	}
	return b.wait(l, now)
}

func (b *buckets[K]) wait(l *rate.Limiter, now time.Time) time.Duration {
	if b.limit <= 0 {
		return time.Hour // there will never be one; it is worth asking again
	}
	missing := 1 - l.TokensAt(now)
	return time.Duration(math.Ceil(missing / float64(b.limit) * float64(time.Second)))
}

func (b *buckets[K]) makeRoom(now time.Time) {
	if len(b.of) < maxBuckets {
		return
	}
	for k, l := range b.of {
		if l.TokensAt(now) >= float64(b.burst) {
			delete(b.of, k)
		}
	}
	for k := range b.of { // in no order
		if len(b.of) <= maxBuckets*3/4 {
			return
		}
		delete(b.of, k)
	}
}
