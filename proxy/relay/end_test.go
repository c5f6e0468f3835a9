package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"
)

// breakOff closes with a reset.
func breakOff(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// A broken connection breaks the one on the other side, after what has been said.
func TestReset(t *testing.T) {
	t.Run("by_backend", func(t *testing.T) {
		j := to(backend(t, func(c *net.TCPConn) {
			b := make([]byte, 5)
			_, _ = io.ReadFull(c, b)
			_, _ = c.Write([]byte("last words"))
			_, _ = io.ReadFull(c, b)
			breakOff(c)
		}))
		_, at := serve(t, Config{}, j)
		c := dialTo(t, at)
		say(t, c, "hello")
		hear(t, c, "last words")
		say(t, c, "hello")
		if rest, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client got %q, %v", rest, err)
		}
		if e := j.ended(t, 1)[0]; e.End != BackendReset || e.Late || e.Down != 10 {
			t.Errorf("ended %v (late: %v) with %d bytes down", e.End, e.Late, e.Down)
		}
	})
	t.Run("by_backend_behind_the_client's_end", func(t *testing.T) {
		j := to(backend(t, func(c *net.TCPConn) {
			_, _ = io.Copy(io.Discard, c)
			breakOff(c)
		}))
		_, at := serve(t, Config{}, j)
		c := dialTo(t, at)
		say(t, c, "hello")
		_ = c.CloseWrite()
		if rest, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client got %q, %v", rest, err)
		}
		if e := j.ended(t, 1)[0]; e.End != BackendReset || !e.Late {
			t.Errorf("ended %v (late: %v)", e.End, e.Late)
		}
	})
	// A server that has said all, and closes with something unread.
	t.Run("by_backend_behind_its_end", func(t *testing.T) {
		j := to(backend(t, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 5))
			_, _ = c.Write([]byte("answer"))
			_ = c.CloseWrite()
			_ = c.Close()
		}))
		_, at := serve(t, Config{}, j)
		for range 20 {
			c := dialTo(t, at)
			say(t, c, "hello")
			hear(t, c, "answer")
			say(t, c, "goodbye")
			if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
				t.Errorf("the client got %q, %v", rest, err)
			}
			c.Close()
		}
		for _, e := range j.ended(t, 20) {
			if e.End != Finished || e.Down != 6 {
				t.Errorf("ended %v with %d bytes down", e.End, e.Down)
			}
		}
	})
	// A client that goes on sending finds out by a write.
	t.Run("by_backend_while_sending", func(t *testing.T) {
		j := to(backend(t, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 100000))
			breakOff(c)
		}))
		_, at := serve(t, Config{}, j)
		c := dialTo(t, at)
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				break
			}
		}
		if e := j.ended(t, 1)[0]; e.End != BackendReset || e.Late {
			t.Errorf("ended %v (late: %v)", e.End, e.Late)
		}
	})
	t.Run("by_client", func(t *testing.T) {
		heard := make(chan error, 1)
		j := to(backend(t, func(c *net.TCPConn) {
			_, _ = c.Write([]byte("x"))
			_, err := io.Copy(io.Discard, c)
			heard <- err
		}))
		_, at := serve(t, Config{}, j)
		c := dialTo(t, at)
		say(t, c, "hello")
		hear(t, c, "x")
		breakOff(c)
		if err := <-heard; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the backend got %v", err)
		}
		if e := j.ended(t, 1)[0]; e.End != ClientReset || e.Up != 5 {
			t.Errorf("ended %v with %d bytes up", e.End, e.Up)
		}
	})
	t.Run("by_client_while_receiving", func(t *testing.T) {
		stopped := make(chan error, 1)
		j := to(backend(t, func(c *net.TCPConn) {
			b := make([]byte, 64<<10)
			for {
				if _, err := c.Write(b); err != nil {
					stopped <- err
					return
				}
			}
		}))
		_, at := serve(t, Config{}, j)
		c := dialTo(t, at)
		say(t, c, "hello")
		_, _ = io.ReadFull(c, make([]byte, 5<<20))
		breakOff(c)
		<-stopped
		if e := j.ended(t, 1)[0]; e.End != ClientReset {
			t.Errorf("ended %v", e.End)
		}
	})
	t.Run("by_client_while_connecting", func(t *testing.T) {
		j := to(blackhole(t))
		s, at := serve(t, Config{ConnectTimeout: patience}, j)
		c := dialTo(t, at)
		say(t, c, "hello")
		eventually(t, "the connection", func() bool { return s.Stats().Open == 1 })
		breakOff(c)
		if e := j.ended(t, 1)[0]; e.End != ClientReset {
			t.Errorf("ended %v", e.End)
		}
	})
	// Both sides break at once, in whatever order it is seen.
	t.Run("both", func(t *testing.T) {
		const n = 100
		j := to(backend(t, func(c *net.TCPConn) {
			go func() { _, _ = c.Write(make([]byte, 1<<20)) }()
			_, _ = io.ReadFull(c, make([]byte, 64<<10))
			breakOff(c)
		}))
		_, at := serve(t, Config{}, j)
		for range n {
			c := dialTo(t, at)
			_, _ = c.Write(make([]byte, 70<<10))
			breakOff(c)
		}
		j.ended(t, n)
	})
}

func TestIdleTimeout(t *testing.T) {
	const timeout = 300 * time.Millisecond
	j := to(backend(t, echo))
	_, at := serve(t, Config{IdleTimeout: timeout}, j)
	idle, busy := dialTo(t, at), dialTo(t, at)
	say(t, idle, "x")
	hear(t, idle, "x")
	for range 20 {
		say(t, busy, "y")
		hear(t, busy, "y")
		time.Sleep(timeout / 10)
	}
	hearEnd(t, idle)
	hearEnd(t, busy)
	list := j.ended(t, 2)
	if list[0].Up != 1 || list[1].Up != 20 {
		t.Errorf("after %d bytes the first, %d the second", list[0].Up, list[1].Up)
	}
	for _, e := range list {
		if e.End != IdleTimeout {
			t.Errorf("ended %v", e.End)
		}
	}
}

func TestUpdate(t *testing.T) {
	j := to(backend(t, echo))
	s, at := serve(t, Config{}, j)
	c := dialTo(t, at)
	say(t, c, "x")
	hear(t, c, "x")
	s.Update(Config{IdleTimeout: 100 * time.Millisecond})
	hearEnd(t, c)
	if e := j.ended(t, 1)[0]; e.End != IdleTimeout {
		t.Errorf("ended %v", e.End)
	}
}

func TestEachAndKill(t *testing.T) {
	const n = 20
	j := to(backend(t, echo))
	s, at := serve(t, Config{Loops: 3}, j)
	conns := map[netip.AddrPort]*net.TCPConn{}
	for range n {
		c := dialTo(t, at)
		say(t, c, "x")
		hear(t, c, "x")
		conns[c.LocalAddr().(*net.TCPAddr).AddrPort()] = c
	}
	ids := map[netip.AddrPort]uint64{}
	seen := map[uint64]bool{}
	s.Each(func(c *Conn) {
		if !c.Relaying() || c.Up != 1 || c.Down != 1 || c.Local() != at || seen[c.ID] {
			t.Errorf("%+v", c)
		}
		ids[c.From], seen[c.ID] = c.ID, true
	})
	if len(ids) != n {
		t.Fatalf("%d of %d connections", len(ids), n)
	}
	if st := s.Stats(); st.Up != n || st.Down != n {
		t.Errorf("%d bytes up and %d down", st.Up, st.Down)
	}
	killed := 0
	for from, c := range conns {
		if killed++; killed <= n/2 {
			if !s.Kill(ids[from]) || s.Kill(ids[from]) {
				t.Error("not killed once")
			}
			_, _ = io.Copy(io.Discard, c)
			continue
		}
		say(t, c, "y")
		hear(t, c, "y")
	}
	for _, e := range j.ended(t, n/2) {
		if e.End != Killed {
			t.Errorf("ended %v", e.End)
		}
	}
}

func TestShutdown(t *testing.T) {
	j := to(backend(t, echo))
	s, at := serve(t, Config{}, j)
	c := dialTo(t, at)
	say(t, c, "x")
	hear(t, c, "x")
	var down sync.WaitGroup
	down.Go(func() { s.Shutdown(context.Background()) })
	eventually(t, "the listener to close", func() bool {
		again, err := net.Dial("tcp", at.String())
		if err == nil {
			again.Close()
		}
		return err != nil
	})
	say(t, c, "still there")
	hear(t, c, "still there")
	_ = c.CloseWrite()
	hearEnd(t, c)
	down.Wait()
	for _, e := range j.ended(t, 1) {
		// The others are those that asked whether it listens.
		if e.Up > 0 && e.End != Finished {
			t.Errorf("ended %v", e.End)
		}
	}
	// All is said and done.
	s.Each(func(*Conn) { t.Error("a connection") })
	if s.Kill(0) {
		t.Error("killed a connection")
	}
	s.Update(Config{})
	s.Shutdown(context.Background())
}

func TestShutdownWithoutTime(t *testing.T) {
	j := to(backend(t, echo))
	s, at := serve(t, Config{}, j)
	c := dialTo(t, at)
	say(t, c, "x")
	hear(t, c, "x")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.Shutdown(ctx)
	hearEnd(t, c)
	if e := j.ended(t, 1)[0]; e.End != Drained {
		t.Errorf("ended %v", e.End)
	}
}
