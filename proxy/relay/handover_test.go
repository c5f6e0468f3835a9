package relay

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// New generations take the address over, one after the other, under load.
func TestHandover(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "handover"), "proxy")
	at := netip.MustParseAddrPort("127.0.0.1:4430")
	good := backend(t, echo)
	for _, migrate := range []string{"0", "1"} {
		if err := h.Sysctl("net.ipv4.tcp_migrate_req", migrate); err != nil {
			t.Fatal(err)
		}
		next := func() (s *Loops) {
			if err := h.Do(func() (err error) {
				s, err = New(Config{Loops: 2}, []netip.AddrPort{at}, to(good))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return s
		}
		served, lost := underLoad(t, h, at, next(), next)
		t.Logf("tcp_migrate_req=%s: %d connections, %d lost", migrate, served, lost)
		if served == 0 || migrate == "1" && lost > 0 {
			t.Errorf("tcp_migrate_req=%s: %d of %d connections are lost", migrate, lost, served+lost)
		}
	}
}

// A listening socket that outlives the loops loses nothing by itself.
func TestHandoverOfFile(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "handfile"), "proxy")
	at := netip.MustParseAddrPort("127.0.0.1:4430")
	var f *os.File
	if err := h.Do(func() error {
		var c Config
		c.setDefaults()
		fd, err := listen(at, &c)
		f = os.NewFile(uintptr(fd), "web.socket")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	good := backend(t, echo)
	next := func() *Loops {
		s, err := New(Config{Loops: 2, Files: []*os.File{f}}, nil, to(good))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	served, lost := underLoad(t, h, at, next(), next)
	t.Logf("%d connections, %d lost", served, lost)
	if served == 0 || lost > 0 {
		t.Errorf("%d of %d connections are lost", lost, served+lost)
	}
}

// underLoad has clients connect all the time while generations change.
func underLoad(t *testing.T, h *lab.Host, at netip.AddrPort, s *Loops, next func() *Loops) (served, lost int64) {
	var ok, failed atomic.Int64
	var all, drained sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for w := range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := once(h, at, w); err != nil {
					failed.Add(1)
				} else {
					ok.Add(1)
				}
			}
		})
	}
	for range 8 {
		before := ok.Load()
		eventually(t, "connections", func() bool { return ok.Load() > before+50 })
		old := s
		s = next()
		drained.Go(func() { old.Shutdown(context.Background()) })
	}
	drained.Wait()
	stop()
	all.Wait()
	s.Shutdown(context.Background())
	return ok.Load(), failed.Load()
}

func once(h *lab.Host, at netip.AddrPort, w int) error {
	c, err := h.Dial(context.Background(), "tcp", at.String())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	// Some say nothing for a moment: the kernel keeps those (TCP_DEFER_ACCEPT).
	time.Sleep(time.Duration(w) * time.Millisecond)
	what := fmt.Sprintf("hello from %d", w)
	if _, err := io.WriteString(c, what); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, len(what)))
	return err
}
