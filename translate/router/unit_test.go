package router

import (
	"strings"
	"testing"
	"time"
)

func TestNetwork(t *testing.T) {
	mac := strings.Repeat("\x02", 12)
	for _, c := range []struct {
		name  string
		frame string
		start int
		want  Reason
	}{
		{"IPv4", mac + "\x08\x00\x45", 14, ReasonNone},
		{"IPv6", mac + "\x86\xdd\x60", 14, ReasonNone},
		{"802.1Q", mac + "\x81\x00\x00\x07\x86\xdd\x60", 18, ReasonNone},
		{"802.1ad and 802.1Q", mac + "\x88\xa8\x00\x01\x81\x00\x00\x07\x08\x00\x45", 22, ReasonNone},
		{"three tags", mac + "\x88\xa8\x00\x01\x81\x00\x00\x07\x81\x00\x00\x07\x08\x00\x45", 0, FrameType},
		{"ARP", mac + "\x08\x06\x00", 0, FrameType},
		{"IPv4 type, version 6", mac + "\x08\x00\x60", 0, FrameVersion},
		{"IPv6 type, version 4", mac + "\x86\xdd\x45", 0, FrameVersion},
		{"empty", "", 0, FrameShort},
		{"no payload", mac + "\x08\x00", 0, FrameShort},
		{"ends in a tag", mac + "\x81\x00\x00\x07\x86", 0, FrameShort},
	} {
		t.Run(c.name, func(t *testing.T) {
			if start, r := network([]byte(c.frame)); start != c.start || r != c.want {
				t.Errorf("got %d, %v; want %d, %v", start, r, c.start, c.want)
			}
		})
	}
}

func FuzzNetwork(f *testing.F) {
	f.Add([]byte("\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x81\x00\x00\x07\x86\xdd\x60"))
	f.Fuzz(func(t *testing.T, b []byte) {
		start, r := network(b)
		if r == ReasonNone && (start >= len(b) || (b[start]>>4 != 4 && b[start]>>4 != 6)) {
			t.Errorf("packet at %d of %d bytes", start, len(b))
		}
	})
}

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBucket(10, 3, now)
	take := func(want bool) {
		t.Helper()
		if got := b.take(now); got != want {
			t.Fatalf("take = %v, want %v", got, want)
		}
	}
	take(true)
	take(true)
	take(true)
	take(false)
	now = now.Add(100 * time.Millisecond)
	take(true)
	take(false)
	now = now.Add(-time.Hour) // a clock that goes back must not refill
	take(false)
	now = now.Add(2 * time.Hour)
	take(true)
	take(true)
	take(true)
	take(false)
}

func TestReasonsAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for r := range NumReasons {
		i := r.Info()
		if i.Label == "" || !strings.HasSuffix(i.Doc, ".") || seen[i.Label] {
			t.Errorf("reason %d: label %q, doc %q", r, i.Label, i.Doc)
		}
		seen[i.Label] = true
	}
}

func TestPlainPool(t *testing.T) {
	p := newPlainPool(3, 1024)
	var fs [4]frame
	for i := range fs {
		if got, want := p.get(&fs[i]), i < 3; got != want {
			t.Fatalf("get %d = %v", i, got)
		}
	}
	if len(fs[0].buf) != 1024 || cap(fs[0].buf) != 1024 || &fs[0].buf[0] == &fs[1].buf[0] {
		t.Error("frames overlap")
	}
	fs[1].release()
	if !p.get(&fs[3]) || fs[3].addr != fs[1].addr {
		t.Error("a released frame is not handed out again")
	}
}
