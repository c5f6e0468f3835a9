package lab

import (
	"bytes"
	"sync"
)

// maxTail is how much of what a process says is kept, in bytes.
const maxTail = 16 << 10

// Tail keeps the end of what a process writes while somebody reads. Its zero value
// is empty.
type Tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write takes all of p, and never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := t.b.Write(p)
	if more := t.b.Len() - maxTail; more > 0 {
		t.b.Next(more)
	}
	return n, err
}

// String is what is kept.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
