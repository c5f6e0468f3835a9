package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

// judge is one whose answers are functions. It keeps what has been closed.
type judge struct {
	accept    func(netip.AddrPort) bool
	hello     func(c *Conn, hello []byte) Answer
	unreached string

	mu     sync.Mutex
	closed []Conn
}

func (j *judge) Accept(a netip.AddrPort) bool       { return j.accept == nil || j.accept(a) }
func (j *judge) Hello(c *Conn, hello []byte) Answer { return j.hello(c, hello) }
func (j *judge) Unreached(*Conn) []byte             { return []byte(j.unreached) }

func (j *judge) Closed(c *Conn) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = append(j.closed, *c)
}

// ended waits until n connections have, and gives them.
func (j *judge) ended(t testing.TB, n int) []Conn {
	t.Helper()
	var list []Conn
	eventually(t, "connections to end", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		list = append([]Conn(nil), j.closed...)
		return len(list) >= n
	})
	return list
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// to sends all connections to the same backends.
func to(backends ...netip.AddrPort) *judge {
	return &judge{unreached: "nobody there", hello: func(*Conn, []byte) Answer { return Answer{Backends: backends} }}
}

// line waits for a line feed.
func line(then func(c *Conn, hello []byte) Answer) *judge {
	return &judge{hello: func(c *Conn, hello []byte) Answer {
		if !bytes.Contains(hello, []byte("\n")) {
			return Answer{Wait: true}
		}
		return then(c, hello)
	}}
}

// unused gives an address of loopback that stays free for listeners with
// SO_REUSEPORT.
func unused(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
}

// serve starts loops that are shut down when the test ends.
func serve(t testing.TB, c Config, j Judge) (*Loops, netip.AddrPort) {
	t.Helper()
	at := unused(t)
	if c.Loops == 0 {
		c.Loops = 2
	}
	s, err := New(c, []netip.AddrPort{at}, j)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.Shutdown(ctx)
	})
	return s, at
}

// backend accepts connections on [::1] and gives each to serve.
func backend(t testing.TB, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(3 * patience))
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func echo(c *net.TCPConn) {
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	_ = c.CloseWrite()
}

func dialTo(t testing.TB, at netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	return c
}

func say(t testing.TB, c net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
}

func hear(t testing.TB, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func hearEnd(t testing.TB, c net.Conn) {
	t.Helper()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Fatalf("got %d bytes %.40q, %v; want the end", len(rest), rest, err)
	}
}

// noise gives n bytes of its own.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = random.Read(b)
	return b
}

// inChunks writes b in pieces of random sizes, with a rest now and then.
func inChunks(c net.Conn, b []byte, r *rand.Rand) error {
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(1<<r.IntN(19)))
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		if b = b[n:]; r.IntN(16) == 0 {
			time.Sleep(time.Duration(r.IntN(500)) * time.Microsecond)
		}
	}
	return nil
}

func TestEcho(t *testing.T) {
	j := to(backend(t, echo))
	s, at := serve(t, Config{}, j)
	var all sync.WaitGroup
	sizes := []int{1, 2, 100, 4095, 16 << 10, 65535, 65536, 65537, 1 << 20, 5<<20 + 1, 24 << 20}
	var sum uint64
	for i, size := range sizes {
		sum += uint64(size)
		all.Go(func() {
			c, data := dialTo(t, at), noise(size, uint64(i))
			var sent sync.WaitGroup
			sent.Go(func() {
				if err := inChunks(c, data, rand.New(rand.NewPCG(1, uint64(i)))); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
				_ = c.CloseWrite()
			})
			h := sha256.New()
			n, err := io.Copy(h, c)
			sent.Wait()
			if err != nil || n != int64(size) || [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
				t.Errorf("%d bytes: %d came back, others than were sent, or %v", size, n, err)
			}
		})
	}
	all.Wait()
	for _, c := range j.ended(t, len(sizes)) {
		if c.End != Finished || c.Up != c.Down || c.Connect <= 0 || c.First < c.Connect {
			t.Errorf("ended %v with %d up, %d down, connected after %v, answered after %v", c.End, c.Up, c.Down, c.Connect, c.First)
		}
	}
	if st := s.Stats(); st.Up != sum || st.Down != sum || st.Open != 0 || st.Ends[Finished] != uint64(len(sizes)) {
		t.Errorf("%+v, want %d up and down", st, sum)
	}
}

// Both directions at once and of their own, not one caused by the other.
func TestBulkBothWays(t *testing.T) {
	const size = 32 << 20
	up, down := noise(size, 1), noise(size, 2)
	heard := make(chan [32]byte, 1)
	at1 := backend(t, func(c *net.TCPConn) {
		var said sync.WaitGroup
		defer said.Wait()
		said.Go(func() {
			_ = inChunks(c, down, rand.New(rand.NewPCG(2, 2)))
			_ = c.CloseWrite()
		})
		h := sha256.New()
		_, _ = io.Copy(h, c)
		heard <- [32]byte(h.Sum(nil))
	})
	_, at := serve(t, Config{}, to(at1))
	c := dialTo(t, at)
	go func() {
		_ = inChunks(c, up, rand.New(rand.NewPCG(3, 3)))
		_ = c.CloseWrite()
	}()
	h := sha256.New()
	if _, err := io.Copy(h, c); err != nil || [32]byte(h.Sum(nil)) != sha256.Sum256(down) {
		t.Errorf("what the backend said has changed, or %v", err)
	}
	if <-heard != sha256.Sum256(up) {
		t.Error("what the client said has changed")
	}
}

func TestHalfClose(t *testing.T) {
	t.Run("client_first", func(t *testing.T) {
		_, at := serve(t, Config{}, to(backend(t, func(c *net.TCPConn) {
			b, err := io.ReadAll(c)
			if err == nil {
				_, _ = c.Write(append([]byte("after the end: "), b...))
			}
		})))
		c := dialTo(t, at)
		say(t, c, "question")
		_ = c.CloseWrite()
		hear(t, c, "after the end: question")
		hearEnd(t, c)
	})
	t.Run("backend_first", func(t *testing.T) {
		heard := make(chan string, 1)
		j := to(backend(t, func(c *net.TCPConn) {
			_, _ = c.Write([]byte("all I say"))
			_ = c.CloseWrite()
			b, _ := io.ReadAll(c)
			heard <- string(b)
		}))
		_, at := serve(t, Config{}, j)
		c := dialTo(t, at)
		say(t, c, "hello")
		hear(t, c, "all I say")
		hearEnd(t, c)
		say(t, c, ", and more")
		_ = c.CloseWrite()
		if got := <-heard; got != "hello, and more" {
			t.Errorf("the backend heard %q", got)
		}
		if e := j.ended(t, 1)[0]; e.End != Finished {
			t.Errorf("ended %v", e.End)
		}
	})
	// The end comes with the hello, before a backend is connected.
	t.Run("with_hello", func(t *testing.T) {
		_, at := serve(t, Config{}, to(backend(t, echo)))
		for range 50 {
			c := dialTo(t, at)
			say(t, c, "hello")
			_ = c.CloseWrite()
			hear(t, c, "hello")
			hearEnd(t, c)
		}
	})
}

// A client that does not read holds its backend up, and costs a buffer's and a
// pipe's worth of memory at most.
func TestSlowReader(t *testing.T) {
	const size = 64 << 20
	data := noise(size, 7)
	s, at := serve(t, Config{}, to(backend(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_, _ = c.Write(data)
	})))
	slow := dialTo(t, at)
	say(t, slow, "x")
	var before uint64
	// Until the kernels' buffers are full.
	eventually(t, "the transfer to stand still", func() bool {
		time.Sleep(200 * time.Millisecond)
		was := before
		before = s.Stats().Down
		return before == was && before > 0
	})
	if before > size/2 {
		t.Errorf("%d bytes came in for a client that reads none", before)
	}
	s.Each(func(c *Conn) {
		if n := len(c.client.out); n > bufferSize {
			t.Errorf("%d bytes are kept for it", n)
		}
	})
	h := sha256.New()
	if _, err := io.Copy(h, slow); err != nil || [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
		t.Errorf("what it read in the end is not what was sent, or %v", err)
	}
}

// Urgent data ends a read early, and more can be read at once. The urgent byte
// itself is lost, as it is for each peer that does not ask for it.
func TestUrgent(t *testing.T) {
	for _, size := range []int{10, 3 << 20} {
		_, at := serve(t, Config{}, to(backend(t, echo)))
		c := dialTo(t, at)
		data := noise(size, 1)
		go func() {
			for range 5 {
				_, _ = c.Write(data)
				raw, _ := c.SyscallConn()
				_ = raw.Write(func(fd uintptr) bool {
					return unix.Send(int(fd), []byte{'!'}, unix.MSG_OOB) != unix.EAGAIN
				})
				_, _ = c.Write(data)
			}
			_ = c.CloseWrite()
		}()
		n, err := io.Copy(io.Discard, c)
		if least := int64(10 * size); err != nil || n < least || n > least+5 {
			t.Errorf("%d bytes of %d came back, %v", n, least, err)
		}
	}
}
