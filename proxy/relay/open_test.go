package relay

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// refusing is an address where nobody listens.
func refusing(t testing.TB) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// blackhole is an address that does not answer: its queue is full.
func blackhole(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, _ := unix.Getsockname(fd)
	at := netip.AddrPortFrom(netip.IPv6Loopback(), uint16(sa.(*unix.SockaddrInet6).Port))
	for {
		c, err := net.DialTimeout("tcp", at.String(), 100*time.Millisecond)
		if err != nil {
			return at
		}
		t.Cleanup(func() { c.Close() })
	}
}

func TestBackends(t *testing.T) {
	good := backend(t, echo)
	none, hole := refusing(t), blackhole(t)
	for _, x := range []struct {
		name     string
		backends []netip.AddrPort
		want     string
		end      End
	}{
		{"refuses", []netip.AddrPort{none, good}, "hello", Finished},
		{"no_answer", []netip.AddrPort{hole, good}, "hello", Finished},
		{"both", []netip.AddrPort{none, hole, none, good}, "hello", Finished},
		{"all_refuse", []netip.AddrPort{none, none}, "nobody there", ConnectFailed},
		{"no_answer_at_all", []netip.AddrPort{hole}, "nobody there", ConnectFailed},
		{"no_route", []netip.AddrPort{netip.MustParseAddrPort("[100::1]:443")}, "nobody there", ConnectFailed},
	} {
		t.Run(x.name, func(t *testing.T) {
			j := to(x.backends...)
			_, at := serve(t, Config{ConnectTimeout: 100 * time.Millisecond}, j)
			c := dialTo(t, at)
			say(t, c, "hello")
			_ = c.CloseWrite()
			hear(t, c, x.want)
			hearEnd(t, c)
			e := j.ended(t, 1)[0]
			if e.End != x.end || (e.Connect > 0) != (x.end == Finished) || e.Backend != x.backends[len(x.backends)-1] {
				t.Errorf("ended %v at %v, connected after %v", e.End, e.Backend, e.Connect)
			}
		})
	}
}

func TestHello(t *testing.T) {
	good := backend(t, echo)
	header := Answer{Backends: []netip.AddrPort{good}, Header: []byte("from a client: ")}

	t.Run("byte_by_byte", func(t *testing.T) {
		_, at := serve(t, Config{}, line(func(*Conn, []byte) Answer { return header }))
		c := dialTo(t, at)
		_ = c.SetNoDelay(true)
		for _, b := range "a line of some length\nand" {
			say(t, c, string(b))
			time.Sleep(100 * time.Microsecond)
		}
		hear(t, c, "from a client: a line of some length\nand")
	})
	t.Run("long", func(t *testing.T) {
		long := strings.Repeat("x", 200<<10) + "\n"
		_, at := serve(t, Config{MaxHello: 300 << 10}, line(func(*Conn, []byte) Answer { return header }))
		c := dialTo(t, at)
		go func() { _, _ = io.WriteString(c, long) }()
		hear(t, c, "from a client: "+long)
	})
	t.Run("too_long", func(t *testing.T) {
		j := line(nil)
		_, at := serve(t, Config{MaxHello: 1000}, j)
		c := dialTo(t, at)
		say(t, c, strings.Repeat("x", 1001))
		if e := j.ended(t, 1)[0]; e.End != HelloTooLong {
			t.Errorf("ended %v", e.End)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		j := line(nil)
		_, at := serve(t, Config{HelloTimeout: 200 * time.Millisecond}, j)
		c := dialTo(t, at)
		say(t, c, "x")
		hearEnd(t, c)
		if e := j.ended(t, 1)[0]; e.End != HelloTimeout || time.Since(e.Start) < 200*time.Millisecond {
			t.Errorf("ended %v", e.End)
		}
	})
	t.Run("gone", func(t *testing.T) {
		j := line(nil)
		_, at := serve(t, Config{}, j)
		c := dialTo(t, at)
		say(t, c, "x")
		_ = c.CloseWrite()
		hearEnd(t, c)
		if e := j.ended(t, 1)[0]; e.End != HelloGone {
			t.Errorf("ended %v", e.End)
		}
	})
	t.Run("unwelcome", func(t *testing.T) {
		j := to(good)
		j.accept = func(netip.AddrPort) bool { return false }
		s, at := serve(t, Config{}, j)
		c := dialTo(t, at)
		say(t, c, "x")
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes", n)
		}
		eventually(t, "the count", func() bool { return s.Stats().Ends[Unwelcome] == 1 })
		if s.Stats().Open != 0 {
			t.Error("it is still open")
		}
	})
	t.Run("addresses", func(t *testing.T) {
		got := make(chan netip.AddrPort, 2)
		_, at := serve(t, Config{}, line(func(c *Conn, _ []byte) Answer {
			got <- c.Local()
			got <- c.From
			return header
		}))
		c := dialTo(t, at)
		say(t, c, "\n")
		if local, from := <-got, <-got; local != at || from != c.LocalAddr().(*net.TCPAddr).AddrPort() {
			t.Errorf("from %v to %v", from, local)
		}
	})
}

// The client gets the last word although it has sent, and goes on sending, what
// nobody reads.
func TestReplyWhileSending(t *testing.T) {
	// More than the kernel takes at once.
	reply := strings.Repeat("this is not the place. ", 400000)
	for _, say := range []string{"x", strings.Repeat("x", 3<<20)} {
		j := &judge{hello: func(*Conn, []byte) Answer { return Answer{Reply: []byte(reply)} }}
		_, at := serve(t, Config{}, j)
		c := dialTo(t, at)
		sent := make(chan struct{})
		go func() {
			_, _ = io.WriteString(c, say)
			close(sent)
		}()
		hear(t, c, reply)
		hearEnd(t, c)
		<-sent
		c.Close()
		if e := j.ended(t, 1)[0]; e.End != Refused {
			t.Errorf("ended %v", e.End)
		}
	}
}

// A client that sends without end after a reply takes no time from others and is
// put off when its time is over.
func TestReplyToFlood(t *testing.T) {
	good := backend(t, echo)
	j := &judge{hello: func(_ *Conn, hello []byte) Answer {
		if hello[0] == 'x' {
			return Answer{Reply: []byte("no")}
		}
		return Answer{Backends: []netip.AddrPort{good}}
	}}
	_, at := serve(t, Config{Loops: 1}, j)
	c := dialTo(t, at)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		b := []byte(strings.Repeat("x", 256<<10))
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	other := dialTo(t, at)
	for range 50 {
		say(t, other, "ping")
		hear(t, other, "ping")
	}
	<-stopped
	if e := j.ended(t, 1)[0]; e.End != Refused {
		t.Errorf("ended %v", e.End)
	}
}

// The kernel keeps a client that says nothing for a while (TCP_DEFER_ACCEPT),
// and then it has as long as any other.
func TestSilentClient(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the kernel's own clock, for seconds")
	}
	t.Parallel()
	j := line(nil)
	_, at := serve(t, Config{HelloTimeout: time.Second}, j)
	c := dialTo(t, at)
	hearEnd(t, c)
	if e := j.ended(t, 1)[0]; e.End != HelloTimeout {
		t.Errorf("ended %v", e.End)
	}
}
