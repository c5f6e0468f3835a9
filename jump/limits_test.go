package jump

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// clock is what admission takes for the time.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

// testAdmission has a clock of its own, and drops nobody at random.
func testAdmission(l Limits) (*admission, *clock) {
	l.setDefaults()
	c := &clock{time.Unix(1_700_000_000, 0)}
	m := newAdmission(&l)
	m.now, m.chance = c.now, func() float64 { return 0.999999 }
	return m, c
}

var (
	alice = netip.MustParseAddr("192.0.2.1")
	bob   = netip.MustParseAddr("192.0.2.2")
	carol = netip.MustParseAddr("2001:db8:ca01::1")
	vm1   = netip.MustParseAddr("2001:db8:64::1")
)

func wantLogin(t *testing.T, what string, got, want Login) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func wantNone(t *testing.T, m *admission) {
	t.Helper()
	if a, b, c, _ := m.counts(); a != 0 || b != 0 || c != 0 {
		t.Errorf("%d connections, %d handshakes and %d channels are left", a, b, c)
	}
}

func TestSourceOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":             "192.0.2.1/32",
		"::ffff:192.0.2.1":      "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6":  "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":   "2001:db8:1:2::/64",
		"fe80::1%eth0":          "fe80::/64",
		"2001:db8:1:3::1":       "2001:db8:1:3::/64",
		"::ffff:192.0.2.1%eth0": "192.0.2.1/32",
	} {
		if got := sourceOf(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s belongs to %s, want %s", in, got, want)
		}
	}
	// A load balancer may not know the source: they share one.
	if got := sourceOf(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("no address belongs to %v", got)
	}
}

func TestConnectionsPerSource(t *testing.T) {
	m, _ := testAdmission(Limits{ConnectionsPerSource: 2, Exempt: prefixes("192.0.2.2/32")})
	sameNet, otherNet := netip.MustParseAddr("2001:db8:ca01::ffff"), netip.MustParseAddr("2001:db8:ca01:1::1")
	for _, a := range []netip.Addr{alice, alice, carol, sameNet, bob, bob, bob, bob} {
		wantLogin(t, a.String(), m.enter(a), LoggedIn)
	}
	wantLogin(t, "third from an address", m.enter(alice), LoginSource)
	wantLogin(t, "third from a /64", m.enter(sameNet), LoginSource)
	wantLogin(t, "from the next /64", m.enter(otherNet), LoggedIn)
	m.leave(alice, false)
	wantLogin(t, "after one has left", m.enter(alice), LoggedIn)
	m.welcomed()
	m.leave(alice, true)
	for _, a := range []netip.Addr{alice, carol, sameNet, otherNet, bob, bob, bob, bob} {
		m.leave(a, false)
	}
	wantNone(t, m)
	for _, s := range m.sources {
		if s.open != 0 {
			t.Error("a source keeps connections that have left")
		}
	}
}

func TestConnectionsInAll(t *testing.T) {
	m, _ := testAdmission(Limits{Connections: 3, ConnectionsPerSource: -1, Exempt: prefixes("192.0.2.2/32")})
	for range 3 {
		wantLogin(t, "up to the bound", m.enter(alice), LoggedIn)
		m.welcomed()
	}
	wantLogin(t, "beyond", m.enter(carol), LoginDropped)
	wantLogin(t, "beyond, exempt", m.enter(bob), LoginDropped)
	m.leave(alice, true)
	wantLogin(t, "after one has left", m.enter(carol), LoggedIn)
}

func TestPenaltiesDecay(t *testing.T) {
	m, clock := testAdmission(Limits{Exempt: prefixes("192.0.2.2/32")})
	enter := func(a netip.Addr) Login {
		l := m.enter(a)
		if l == LoggedIn {
			m.leave(a, false)
		}
		return l
	}
	// A few mistakes are nothing, as people behind one address make them.
	for range tooMuch / penaltyLogin {
		m.penalize(alice, penaltyLogin)
	}
	wantLogin(t, "with just as much as is borne", enter(alice), LoggedIn)
	m.penalize(alice, penaltyRefused)
	wantLogin(t, "a second more", enter(alice), LoginPenalty)
	clock.advance(penaltyRefused)
	wantLogin(t, "after that second", enter(alice), LoggedIn)

	for range 1000 {
		m.penalize(alice, penaltyFlood)
		m.penalize(bob, penaltyFlood)
	}
	wantLogin(t, "after a thousand floods", enter(alice), LoginPenalty)
	wantLogin(t, "of an exempt source", enter(bob), LoggedIn)
	wantLogin(t, "another source", enter(carol), LoggedIn)
	clock.advance(worst - tooMuch - time.Second)
	wantLogin(t, "shortly before the end", enter(alice), LoginPenalty)
	clock.advance(time.Second)
	wantLogin(t, "all is borne after ten minutes", enter(alice), LoggedIn)
	// The past is over, and no credit.
	clock.advance(24 * time.Hour)
	m.penalize(alice, tooMuch+time.Second)
	wantLogin(t, "a day later", enter(alice), LoginPenalty)
	wantNone(t, m)
}

// From Start on new ones are dropped with a chance that grows to one at Full.
func TestRandomEarlyDrop(t *testing.T) {
	m, _ := testAdmission(Limits{Start: 10, Full: 20, ConnectionsPerSource: -1})
	random := rand.New(rand.NewPCG(1, 2))
	m.chance = random.Float64
	const tries = 20_000
	last := -1.0
	for waiting := range 21 {
		m.waiting = waiting
		dropped := 0
		for range tries {
			if m.enter(alice) == LoginDropped {
				dropped++
				continue
			}
			m.leave(alice, false)
		}
		part := float64(dropped) / tries
		switch {
		case waiting < 10 && dropped != 0:
			t.Errorf("%d waiting: %d dropped", waiting, dropped)
		case waiting == 20 && dropped != tries:
			t.Errorf("all full: %d of %d dropped", dropped, tries)
		case waiting >= 10 && part <= last:
			t.Errorf("%d waiting: %.3f dropped, %.3f with one less", waiting, part, last)
		}
		last = part
	}
	if last != 1 {
		t.Errorf("at Full %.3f are dropped", last)
	}
}

func TestTargetsPerMinute(t *testing.T) {
	m, clock := testAdmission(Limits{TargetsPerMinute: 3, DialsPerMinute: -1, Exempt: prefixes("192.0.2.2/32")})
	vm := func(i int) netip.Addr {
		a := vm1.As16()
		binary.BigEndian.PutUint32(a[12:], uint32(i))
		return netip.AddrFrom16(a)
	}
	dial := func(from netip.Addr, i int) bool {
		no := m.dial(from, vm(i))
		if no == nil {
			m.hangUp()
		} else if no.end != RefusedRate {
			t.Errorf("refused with %v", no.end)
		}
		return no == nil
	}
	for i := range 3 {
		if !dial(alice, i) {
			t.Errorf("VM %d is refused", i)
		}
	}
	if dial(alice, 3) {
		t.Error("a fourth VM in a minute")
	}
	if !dial(alice, 1) {
		t.Error("a known VM is refused")
	}
	if !dial(carol, 3) {
		t.Error("another source is refused")
	}
	for i := range 100 {
		if !dial(bob, i) {
			t.Error("an exempt source is refused")
		}
	}
	clock.advance(59 * time.Second)
	if !dial(alice, 1) || dial(alice, 3) {
		t.Error("forgotten before the minute is over")
	}
	clock.advance(time.Second)
	if !dial(alice, 3) || !dial(alice, 4) || dial(alice, 5) {
		t.Error("after a minute, two of three are free")
	}
	wantNone(t, m)
}

func TestDialsPerMinute(t *testing.T) {
	m, clock := testAdmission(Limits{DialsPerMinute: 6})
	count := func(to netip.Addr) (n int) {
		for m.dial(alice, to) == nil {
			m.hangUp()
			n++
		}
		return n
	}
	other := vm1.Next()
	if n := count(vm1); n != 6 {
		t.Errorf("%d at once, want 6", n)
	}
	if n := count(other); n != 6 {
		t.Errorf("%d to another VM, want 6", n)
	}
	clock.advance(10 * time.Second)
	if n := count(vm1); n != 1 {
		t.Errorf("%d after ten seconds, want 1", n)
	}
	clock.advance(time.Hour)
	if n := count(vm1); n != 6 {
		t.Errorf("%d after an hour, want 6", n)
	}
	// Trying all the time brings no more.
	n := 0
	for range 60 * 60 {
		clock.advance(time.Second)
		if m.dial(alice, vm1) == nil {
			m.hangUp()
			n++
		}
	}
	if n < 6*60-1 || n > 6*60 {
		t.Errorf("%d in an hour, want 360", n)
	}
}

func TestChannelsInAll(t *testing.T) {
	m, _ := testAdmission(Limits{Channels: 2, Exempt: prefixes("192.0.2.2/32")})
	if m.dial(alice, vm1) != nil || m.dial(bob, vm1) != nil {
		t.Error("refused below the bound")
	}
	if no := m.dial(bob, vm1); no == nil || no.end != RefusedCount {
		t.Errorf("the third: %v", no)
	}
	m.hangUp()
	if m.dial(alice, vm1) != nil {
		t.Error("refused after one has ended")
	}
	m.hangUp()
	m.hangUp()
	wantNone(t, m)
}

// A million addresses leave no more than a bounded heap, and nobody who is
// connected is forgotten.
func TestFloodOfSources(t *testing.T) {
	m, clock := testAdmission(Limits{})
	wantLogin(t, "an honest one", m.enter(alice), LoggedIn)
	m.welcomed()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	a := carol.As16()
	for i := range uint64(1_000_000) {
		binary.BigEndian.PutUint64(a[:], 0x2001_0db8_0000_0000+i)
		from := netip.AddrFrom16(a)
		if m.enter(from) == LoggedIn {
			m.penalize(from, penaltyLogin)
			m.leave(from, false)
		}
		if len(m.sources) > maxSources {
			t.Fatalf("%d sources are remembered", len(m.sources))
		}
		if i%1000 == 0 {
			clock.advance(time.Millisecond)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if s := m.sources[sourceOf(alice)]; s == nil || s.open != 1 {
		t.Error("an open connection was forgotten")
	}
	clock.advance(2 * time.Minute)
	m.sweep()
	if len(m.sources) != 1 {
		t.Errorf("%d sources are remembered long after", len(m.sources))
	}
	m.leave(alice, true)
	clock.advance(2 * time.Minute)
	m.sweep()
	if len(m.sources) != 0 {
		t.Errorf("%d sources are remembered after all have left", len(m.sources))
	}
	wantNone(t, m)
}

// A source with penalties is remembered until they are over, unless there is a
// flood.
func TestSweepKeepsPenalties(t *testing.T) {
	m, clock := testAdmission(Limits{})
	for range 1000 {
		m.penalize(alice, penaltyFlood)
	}
	clock.advance(worst - tooMuch - time.Second)
	m.sweep()
	wantLogin(t, "after sweeping", m.enter(alice), LoginPenalty)
}
