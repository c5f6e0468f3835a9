package router

import (
	"testing"
	"time"
)

// TestBucketOfNone: errors can be turned off (RFC 7915 4.4, 5.4).
func TestBucketOfNone(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := newBucket(-1, -1, now)
	for range 3 {
		if now = now.Add(time.Hour); b.take(now) {
			t.Fatal("an error was let through")
		}
	}
}
