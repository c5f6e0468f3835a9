package proxy

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/quic-go/quic-go"
)

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
