package proxy

import (
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/sniff"
	"golang.org/x/sys/unix"
)

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
