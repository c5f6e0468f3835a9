package relay

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The runtime is told of events while the loop is parked, and at no other time: else
// it wakes up a thread for each event of a busy loop.
func TestRuntimeIsToldWhileParked(t *testing.T) {
	s, at := serve(t, Config{Loops: 1}, to(backend(t, echo)))
	l := s.loops[0]
	c := dialTo(t, at)
	for range 3 {
		eventually(t, "the loop to park", func() bool { return told(t, l) })
		say(t, c, "x")
		hear(t, c, "x")
		awake := true
		s.each(func(l *loop) { awake = told(t, l) })
		if awake {
			t.Fatal("the runtime is still told of events")
		}
	}
}

// told looks at what the loop's epoll for parking waits for (proc_pid_fdinfo(5)).
func told(t *testing.T, l *loop) bool {
	var text []byte
	err := l.raw.Control(func(fd uintptr) { text, _ = os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd)) })
	if err != nil {
		t.Error(err)
		return false
	}
	_, after, ok := strings.Cut(string(text), "events:")
	var events uint32
	if _, err := fmt.Sscanf(after, "%x", &events); !ok || err != nil {
		t.Errorf("%q: %v", text, err)
	}
	return events&unix.EPOLLIN != 0
}
