package proxy

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"
)

// rawVM is a backend that is told what to answer.
type rawVM struct {
	*net.UDPConn
	t    *testing.T
	name string
	peer netip.AddrPort // who was heard last
}

func newRawVM(t *testing.T, name string) *rawVM {
	t.Helper()
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &rawVM{c, t, name, netip.AddrPort{}}
}

// route leads to the VM.
func (v *rawVM) route(host, project string) routes.Route {
	r := route(host, v.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	r.Project = project
	return r
}

// next is the next datagram.
func (v *rawVM) next() []byte {
	v.t.Helper()
	b := make([]byte, 2000)
	_ = v.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, from, err := v.ReadFromUDPAddrPort(b)
	if err != nil {
		v.t.Fatalf("%s: %v", v.name, err)
	}
	v.peer = from
	return b[:n]
}

// expect fails unless the next datagram is this one.
func (v *rawVM) expect(want []byte) {
	v.t.Helper()
	if got := v.next(); !bytes.Equal(got, want) {
		v.t.Fatalf("%s gets %.60q, want %.60q", v.name, got, want)
	}
}

// rawClient is a visitor that can send anything.
type rawClient struct {
	*net.UDPConn
	w *world
}

func (w *world) rawClient() *rawClient {
	w.t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return &rawClient{c, w}
}

func (c *rawClient) send(b []byte) {
	c.w.t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, c.w.at); err != nil {
		c.w.t.Fatal(err)
	}
}

func (c *rawClient) next() []byte {
	c.w.t.Helper()
	b := make([]byte, 2000)
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := c.Read(b)
	if err != nil {
		c.w.t.Fatal(err)
	}
	return b[:n]
}

// short is a datagram with a short header.
func short(id, text string) []byte { return append([]byte("\x40"+id), text...) }

// long is one with a Handshake packet's header.
func long(dcid, scid []byte, text string) []byte {
	b := append([]byte("\xe0\x00\x00\x00\x01"), byte(len(dcid)))
	b = append(append(b, dcid...), byte(len(scid)))
	return append(append(b, scid...), "\x40\x20"+text+string(make([]byte, 30))...)
}

// established is a flow whose client has been heard with the backend's id. It gives
// the client's own.
func (c *rawClient) established(host string, v *rawVM, id string) (scid []byte) {
	t := c.w.t
	t.Helper()
	hello := helloOf(t, host)
	h, _ := sniff.ParseLongHeader(hello[0])
	for _, b := range hello {
		c.send(b)
	}
	for _, b := range hello {
		v.expect(b)
	}
	answer := long(h.SCID, []byte(id), "answer")
	if _, err := v.WriteToUDPAddrPort(answer, v.peer); err != nil {
		t.Fatal(err)
	}
	if got := c.next(); !bytes.Equal(got, answer) {
		t.Fatalf("the client gets %.60q", got)
	}
	finished := long([]byte(id), h.SCID, "finished")
	c.send(finished)
	v.expect(finished)
	return h.SCID
}

const (
	idA = "AAAAaaaa"
	idB = "BBBBbbbb"
	idX = "XXXXxxxx" // known to nobody
)

// counted waits for a counter.
func (w *world) counted(what string, n uint64, count func(QUICStats) uint64) {
	w.t.Helper()
	eventually(w.t, what, func() bool { return count(w.Stats().QUIC) == n })
}

func mixed(s QUICStats) uint64 { return s.Mixed }
func stray(s QUICStats) uint64 { return s.Stray }

func TestQUICUnknownID(t *testing.T) {
	a := newRawVM(t, "a")
	w := newQUICWorld(t, nil, a.route("a.example", "one"))
	c := w.rawClient()
	scid := c.established("a.example", a, idA)

	// RFC 9000 5.1.2: an id may change at any time. Nobody else is there.
	for _, b := range [][]byte{short(idX, "new"), short(idX, "again"), short(idA, "late"), short(idX, "on"),
		long([]byte(idX), scid, "an id that came under seal")} {
		c.send(b)
		a.expect(b)
	}
	// Another client's is in no flow, unless it has an id that was heard.
	stranger := w.rawClient()
	stranger.send(short("YYYYyyyy", "stranger"))
	w.counted("the stranger is stray", 1, stray)
	c.send(long([]byte("QQQQqqqq"), []byte("another"), "none of the flow's ids"))
	c.send(short("ZZZZzzzz", "the last one"))
	a.expect(short("ZZZZzzzz", "the last one"))
	stranger.send(short(idX, "the one before"))
	w.counted("which is forgotten", 2, stray)
	for _, id := range []string{"ZZZZzzzz", idA} {
		moved := w.rawClient()
		moved.send(short(id, "moved"))
		a.expect(short(id, "moved"))
	}
}

// Connections of one client's port to two projects: the second one is closed at
// once, so that the client takes TCP.
func TestQUICTwoProjectsOnePort(t *testing.T) {
	for _, tt := range []struct {
		name     string
		one, two string
		refused  bool
	}{
		{name: "one project", one: "one", two: "one"},
		{name: "two projects", one: "one", two: "two", refused: true},
		{name: "no projects", one: "", two: "", refused: true},
		{name: "a project and none", one: "one", two: "", refused: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newQUICVM(t, "a", "a.example", "b.example"), newRawVM(t, "b")
			ra := route("a.example", a.port)
			ra.Project = tt.one
			rb := b.route("b.example", tt.two)
			if !tt.refused {
				rb.HTTPS = a.port
			}
			w := newQUICWorld(t, nil, ra, rb)
			v := w.visitor(a, quic.Version1)
			v.get(t, "a.example")
			r, err := v.Get("https://b.example/")
			if err == nil {
				r.Body.Close()
			}
			var e *quic.TransportError
			if refused := errors.As(err, &e) && e.Remote && e.ErrorCode == quic.ConnectionRefused; refused != tt.refused {
				t.Errorf("%v; want it refused: %v", err, tt.refused)
			}
			v.get(t, "a.example")
			if n := w.Stats().QUIC.Mixed; n != 0 != tt.refused {
				t.Errorf("%d counted as mixed", n)
			}
			if tt.refused {
				if r := w.expect(TooMany, "b.example"); r.Why == "" {
					t.Error("no reason")
				}
				// Another port is another client's, for all that one knows.
				c := w.rawClient()
				c.established("b.example", b, idB)
			}
		})
	}
}

// Two flows of one project: known ids are exact, others go to both.
func TestQUICTwoFlowsOneProject(t *testing.T) {
	a, b := newRawVM(t, "a"), newRawVM(t, "b")
	w := newQUICWorld(t, nil, a.route("a.example", "one"), b.route("b.example", "one"))
	c := w.rawClient()
	c.established("a.example", a, idA)
	scid := c.established("b.example", b, idB)
	c.send(short(idA, "a"))
	c.send(short(idB, "b"))
	c.send(short(idX, "both"))
	c.send(long([]byte(idX), scid, "b by the client's id"))
	c.send(short(idB, "end"))
	c.send(short(idA, "end"))
	a.expect(short(idA, "a"))
	a.expect(short(idX, "both"))
	a.expect(short(idA, "end"))
	b.expect(short(idB, "b"))
	b.expect(short(idX, "both"))
	b.expect(long([]byte(idX), scid, "b by the client's id"))
	b.expect(short(idB, "end"))
}

// What the kernel has joined is told apart.
func TestQUICJoined(t *testing.T) {
	a, b := newRawVM(t, "a"), newRawVM(t, "b")
	w := newQUICWorld(t, nil, a.route("a.example", "one"), b.route("b.example", "two"))
	c := w.rawClient()
	c.established("a.example", a, idA)
	other := w.rawClient()
	other.established("b.example", b, idB)
	list := [][]byte{short(idA, "first"), short(idB, "other"), short(idA, "third"), short(idX, "fresh")}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	to := rawAddrOf(w.at)
	_ = raw.Control(func(fd uintptr) {
		err = newMessages().send(int(fd), bytes.Join(list, nil), len(list[0]), 0, false, &to, netip.Addr{})
	})
	if err != nil {
		t.Fatal(err)
	}
	a.expect(list[0])
	a.expect(list[2])
	a.expect(list[3])
	w.counted("the other's is dropped", 1, mixed)
	other.send(short(idB, "end"))
	b.expect(short(idB, "end"))
}

// A flow that comes to where another project's is stays away (RFC 9000 9.3); to a
// path that is free it may go, and the path is its owner's then.
func TestQUICMovesAndOwners(t *testing.T) {
	a, b := newRawVM(t, "a"), newRawVM(t, "b")
	w := newQUICWorld(t, nil, a.route("a.example", "one"), b.route("b.example", "two"))
	ca, cb := w.rawClient(), w.rawClient()
	ca.established("a.example", a, idA)
	cb.established("b.example", b, idB)
	cb.send(short(idA, "from b's port"))
	w.counted("a does not move to b's port", 1, mixed)
	cb.send(short(idB, "b"))
	b.expect(short(idB, "b"))
	ca.send(short(idA, "a"))
	a.expect(short(idA, "a"))

	// Some of these ports are another loop's.
	for n := range uint64(6) {
		c := w.rawClient()
		c.send(short(idA, "moved"))
		a.expect(short(idA, "moved"))
		if _, err := a.WriteToUDPAddrPort([]byte("@back"), a.peer); err != nil {
			t.Fatal(err)
		}
		if got := c.next(); string(got) != "@back" {
			t.Fatalf("the new port gets %q", got)
		}
		for _, d := range helloOf(t, "b.example") {
			c.send(d)
		}
		if got := c.next(); got[0]&0xf0 != 0xc0 || len(got) > 100 {
			t.Fatalf("answer to a hello for b at a's port: % x", got)
		}
		w.counted("b's connection is refused at a's new port", 2+n, mixed)
	}

	// The port that a has left is anybody's.
	ca.established("b.example", b, "CCCCcccc")
	ca.send(short(idA, "too late"))
	w.counted("what comes late from the old port is dropped", 8, mixed)
	ca.send(short("CCCCcccc", "end"))
	b.expect(short("CCCCcccc", "end"))
}

// A client that never hears its answers is not taken for one that does, and makes
// room.
func TestQUICUnconfirmed(t *testing.T) {
	a := newRawVM(t, "a")
	w := newQUICWorld(t, nil, a.route("a.example", "one"))
	confirmed := func() (n int) {
		for _, l := range w.quic().loops {
			over := make(chan bool)
			l.do(func() { n += l.steady.Len(); close(over) })
			<-over
		}
		return n
	}
	c := w.rawClient()
	hello := helloOf(t, "a.example")
	for _, b := range hello {
		c.send(b)
	}
	for _, b := range hello {
		a.expect(b)
	}
	h, _ := sniff.ParseLongHeader(hello[0])
	say := func() {
		t.Helper()
		if _, err := a.WriteToUDPAddrPort(long(h.SCID, []byte(idA), "answer"), a.peer); err != nil {
			t.Fatal(err)
		}
		c.next()
	}
	say()
	for range 5 {
		c.send(short(idX, "a guess"))
		a.expect(short(idX, "a guess"))
	}
	if n := confirmed(); n != 0 {
		t.Error("a client is believed that has sent without being answered")
	}
	say() // the backend goes on, so it has understood
	c.send(short(idX, "and on"))
	a.expect(short(idX, "and on"))
	if n := confirmed(); n != 1 {
		t.Error("a client is not believed that takes turns with the backend")
	}
}

// A datagram on an established flow allocates nothing, either way.
func TestQUICAllocations(t *testing.T) {
	a := newRawVM(t, "a")
	w := newQUICWorld(t, nil, a.route("a.example", "one"))
	c := w.rawClient()
	c.established("a.example", a, idA)
	up, down, b := short(idA, "up"), []byte("@down"), make([]byte, 2000)
	_ = a.SetReadDeadline(time.Now().Add(20 * time.Second))
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n := testing.AllocsPerRun(1000, func() {
		if _, err := c.WriteToUDPAddrPort(up, w.at); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.ReadFromUDPAddrPort(b); err != nil {
			t.Fatal(err)
		}
		if _, err := a.WriteToUDPAddrPort(down, a.peer); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.ReadFromUDPAddrPort(b); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a datagram each way", n)
	}
}

// Answers to what may be forged are few and short (RFC 9000 8.1).
func TestQUICAnswersAreBounded(t *testing.T) {
	w := newQUICWorld(t, nil)
	l := w.quic().loops[0]
	over := make(chan bool)
	l.do(func() {
		defer close(over)
		l.now = time.Now()
		for range maxAnswers + 10 {
			l.mayAnswer()
		}
		if n := w.Stats().QUIC.Muted; n != 10 {
			t.Errorf("%d answers not given, want 10", n)
		}
		l.now = l.now.Add(time.Second)
		if !l.mayAnswer() {
			t.Error("none a second later")
		}
	})
	<-over
	h, _ := sniff.ParseLongHeader(helloOf(t, "a.example")[0])
	if b, err := sniff.Refuse(h, sniff.ConnectionRefused); err != nil || len(b) > 100 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestRawAddr(t *testing.T) {
	for _, s := range []string{"192.0.2.1:443", "[2001:db8::1]:65535"} {
		want := netip.MustParseAddrPort(s)
		r := rawAddrOf(want)
		if got := r.addrPort(); got != want {
			t.Errorf("%v, want %v", got, want)
		}
		if is6 := r.size() == unix.SizeofSockaddrInet6; is6 != want.Addr().Is6() {
			t.Errorf("%v: size %d", want, r.size())
		}
	}
}
