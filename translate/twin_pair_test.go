package translate_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/twin"
)

// These tests hold the translator against its twin (internal/twin), which is
// written from the RFCs and nothing else, byte by byte.

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func addrs(list ...string) (as []netip.Addr) {
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func eams(list ...string) (es []translate.EAM) {
	for i := 0; i < len(list); i += 2 {
		es = append(es, translate.EAM{IPv6: netip.MustParsePrefix(list[i]), IPv4: netip.MustParsePrefix(list[i+1])})
	}
	return es
}

// twinConfigs cover every pool6 length, both hairpin modes and none, mappings
// that overlap and whose suffixes differ, and each option at least once. The
// first ones let the fast path work.
func twinConfigs() []translate.Config {
	hosts := eams("2001:db8:aaaa::1/128", "198.18.4.1/32", "2001:db8:bbbb::2/128", "192.0.2.7/32")
	overlapping := append(eams(
		"2001:db8:cccc::/64", "198.51.100.0/24", "2001:db8:cccc::8/125", "198.51.100.8/29",
		"2001:db8:cccc::8:1/128", "198.51.100.9/32", "2001:db8:dddd::/120", "198.51.101.1/32",
		"2001:db8:eeee::/56", "198.51.96.0/22", "2001:db8:eeee:8000::/49", "198.51.97.0/24",
	), hosts...)
	c := []translate.Config{
		{Pool6: prefixes("64:ff9b::/96"), EAM: hosts},
		{Pool6: prefixes("2001:db8:64::/96"), EAM: overlapping, ICMPSource4: prefixes("192.0.2.128/25")},
		{Pool6: prefixes("64:ff9b::/96", "2001:db8:64::/96"), EAM: overlapping, LowestIPv6MTU: 1500,
			TOS: translate.TOS{Fixed: true}, ICMPSource4: prefixes("192.0.2.129/32"), ICMPSource6: prefixes("2001:db8:6::/64")},
		{Pool6: prefixes("64:ff9b::/96"), EAM: overlapping, Hairpin: translate.HairpinOff, AllowPrivate4: true,
			LowestIPv6MTU: 65535, UDPZeroChecksum: translate.UDPZeroDrop},
		{Pool6: prefixes("64:ff9b::/96"), EAM: overlapping, Hairpin: translate.HairpinSimple,
			TOS: translate.TOS{Fixed: true, Value: 0xb8}, Deny4: prefixes("203.0.113.64/26", "198.51.100.8/32"),
			Local4: addrs("203.0.113.2", "198.51.100.11"), Local6: addrs("2001:db8::2", "2001:db8:cccc::8:1")},
	}
	for _, p := range []string{"2001:db8::/32", "2001:db8:100::/40", "2001:db8:122::/48", "2001:db8:122:300::/56", "2001:db8:122:344::/64", "2001:db8:122:344::/96"} {
		c = append(c, translate.Config{Pool6: prefixes(p), EAM: eams("2001:4860::/64", "198.51.100.0/24", "2001:4860::1/128", "198.18.4.1/32"),
			Local4: addrs("203.0.113.2"), Local6: addrs("2001:4860::1"), ICMPSource4: prefixes("192.0.2.0/31"), LowestIPv6MTU: 1400})
	}
	return append(c,
		translate.Config{Pool6: prefixes("64:ff9b::/96"), EAM: overlapping, ICMPSource4: prefixes("192.0.2.129/32"),
			VMPrefixes: prefixes("2001:db8:aaaa::/48", "2001:db8:cccc::/125", "2001:db8:eeee::/56", "64:ff9b::/97")},
		translate.Config{Pool6: prefixes("64:ff9b::/96"), EAM: hosts, MSSClamp: translate.MSSClamp{Auto: true}},
		translate.Config{Pool6: prefixes("2001:db8:122::/48"), EAM: overlapping, MSSClamp: translate.MSSClamp{Max: 1220}},
		translate.Config{Pool6: prefixes("64:ff9b::/96"), EAM: overlapping, MSSClamp: translate.MSSClamp{Auto: true, Max: 1300}, LowestIPv6MTU: 1500},
		translate.Config{Pool6: prefixes("2001:db8:64::/96"), EAM: hosts, ICMPSource4: prefixes("192.0.2.129/32"), Hairpin: translate.HairpinSimple,
			VMPrefixes: prefixes("2001:db8:bbbb::2/128", "2001:db8:64::/96")},
		translate.Config{EAM: overlapping, ICMPSource6: prefixes("2001:db8:6::/127"), Hairpin: translate.HairpinSimple},
		translate.Config{Pool6: prefixes("64:ff9b::/96"), Hairpin: translate.HairpinIntrinsic, ICMPSource6: prefixes("2001:db8:6::1/128"),
			EAM: append(eams("64:ff9b::c000:280/121", "192.0.2.0/25"), overlapping...)},
		translate.Config{Pool6: prefixes("2001:db8:122::/48", "64:ff9b::/96", "2001:db8:200::/40"), EAM: overlapping,
			Hairpin: translate.HairpinSimple, ICMPSource4: prefixes("192.0.2.248/29", "192.0.2.240/32"), Deny4: prefixes("0.0.0.0/1")},
	)
}

var twinMTUs = []int{0, 1500, 1280, 68, 576, 1260, 1279, 1281, 1300, 1400, 1420, 1480, 1492, 1499, 1501, 2153, 9000, 65535, 100, 1}

var twinSources = translate.Sources{V4: [4]byte{192, 0, 2, 1}, V6: netip.MustParseAddr("2001:db8:ffff::1").As16()}

// pair is a translator and its twin's configuration. The Plan and State are used
// for one packet after another, as a worker does, so that nothing of an earlier
// packet may matter.
type pair struct {
	config translate.Config
	tr     *translate.Translator
	plan   translate.Plan
	state  *translate.State
	lastID uint16
}

func newPairs(t testing.TB) (ps []*pair) {
	t.Helper()
	for i, c := range twinConfigs() {
		tr, err := translate.New(c)
		if err != nil {
			t.Fatalf("config %d: %v", i, err)
		}
		ps = append(ps, &pair{config: c, tr: tr, state: translate.NewState(uint64(i))})
	}
	return ps
}

// outcome is what the data plane makes of a packet.
type outcome struct {
	verdict translate.Verdict
	whole   []byte
	packets [][]byte
	err     []byte
}

const guardBytes = 48

// run takes a packet through Decide, Fit, Rewrite, Split and Error, and checks
// that only what may be written was.
func (pr *pair) run(p []byte, m translate.Meta, mtuIn, mtuOut int, src translate.Sources) (o outcome, err error) {
	start := guardBytes + translate.Headroom
	buf := bytes.Repeat([]byte{0x5a}, start+len(p)+guardBytes)
	copy(buf[start:], p)
	before := bytes.Clone(buf)
	pl := &pr.plan
	o.verdict = pr.tr.Decide(pl, buf[start:start+len(p):start+len(p)], m)
	if o.verdict.Action() == translate.Emit {
		o.verdict = pr.tr.Fit(pl, mtuIn, mtuOut)
	}
	if o.verdict != pl.Verdict {
		return o, fmt.Errorf("verdict %v returned, %v in the plan", o.verdict, pl.Verdict)
	}
	if !bytes.Equal(buf, before) {
		return o, fmt.Errorf("%v: Decide or Fit wrote to the packet", o.verdict)
	}
	at, n := 0, 0
	switch o.verdict.Action() {
	case translate.Emit, translate.Cut:
		at, n = pr.tr.Rewrite(pl, pr.state, buf, start)
		o.whole = bytes.Clone(buf[at : at+n])
		if n != pl.OutLen {
			return o, fmt.Errorf("Rewrite made %d bytes, the plan says %d", n, pl.OutLen)
		}
	default:
		var ok bool
		if at, n, ok = pr.tr.Error(pl, buf, start, src); ok {
			o.err = bytes.Clone(buf[at : at+n])
		} else if !bytes.Equal(buf, before) {
			return o, fmt.Errorf("%v: no error was made, but bytes were written", o.verdict)
		}
	}
	if n > 0 && (at < start-translate.Headroom || at+n > start+pl.Len) {
		return o, fmt.Errorf("%v: the result is at [%d,%d) of [%d,%d)", o.verdict, at-start, at-start+n, -translate.Headroom, pl.Len)
	}
	lo, hi := start-translate.Headroom, start+pl.Len
	if !bytes.Equal(buf[:lo], before[:lo]) || !bytes.Equal(buf[hi:], before[hi:]) {
		return o, fmt.Errorf("%v: bytes outside of headroom and packet were written", o.verdict)
	}
	switch o.verdict {
	case translate.Forward:
		o.packets = [][]byte{o.whole}
	case translate.Split:
		for more := true; more; {
			dst := make([]byte, 70000)
			var k int
			k, more = pl.Split(o.whole, dst)
			o.packets = append(o.packets, dst[:k])
		}
	default:
	}
	return o, nil
}

// chosen reads from a result what the standards leave to the implementation.
func chosen(out []byte) (c twin.Chosen) {
	switch {
	case len(out) >= 20 && out[0]>>4 == 4:
		c.ID = binary.BigEndian.Uint16(out[4:])
		c.Source = netip.AddrFrom4([4]byte(out[12:16]))
		if len(out) >= 34 {
			c.InnerID = binary.BigEndian.Uint16(out[32:])
		}
	case len(out) >= 40:
		c.Source = netip.AddrFrom16([16]byte(out[8:24]))
		if at := innerAt6(out) + 4; len(out) >= at+2 {
			c.InnerID = binary.BigEndian.Uint16(out[at:])
		}
	}
	return c
}

func innerAt6(out []byte) int {
	if out[6] == 44 {
		return 56
	}
	return 48
}

// compare runs both and tells where they differ.
func (pr *pair) compare(p []byte, m translate.Meta, mtuIn, mtuOut int, src translate.Sources) (outcome, twin.Result, error) {
	o, err := pr.run(p, m, mtuIn, mtuOut, src)
	if err != nil {
		return o, twin.Result{}, err
	}
	sent := o.whole
	if o.err != nil {
		sent = o.err
	}
	want := twin.Translate(twin.Input{
		Config: pr.config, Packet: p, Meta: m, MTUIn: mtuIn, MTUOut: mtuOut,
		Sources: src, Chosen: chosen(sent),
	})
	switch {
	case o.verdict != want.Verdict:
		return o, want, fmt.Errorf("verdict %v, the twin says %v", o.verdict, want.Verdict)
	case !bytes.Equal(o.err, want.Error):
		return o, want, fmt.Errorf("%v: ICMP error\n     %x\ntwin %x", o.verdict, o.err, want.Error)
	case !bytes.Equal(o.whole, want.Whole):
		return o, want, fmt.Errorf("%v: result\n     %x\ntwin %x", o.verdict, o.whole, want.Whole)
	case len(o.packets) != len(want.Packets):
		return o, want, fmt.Errorf("%d packets, the twin has %d", len(o.packets), len(want.Packets))
	}
	for i := range o.packets {
		if !bytes.Equal(o.packets[i], want.Packets[i]) {
			return o, want, fmt.Errorf("fragment %d\n     %x\ntwin %x", i, o.packets[i], want.Packets[i])
		}
	}
	if o.whole == nil {
		return o, want, nil
	}
	pl := &pr.plan
	if pl.From != want.From || pl.To != want.To || pl.Len != want.Length || planDestination(pl) != want.Destination {
		return o, want, fmt.Errorf("plan: from %d to %d, %d bytes, destination %v; twin: %d, %d, %d, %v",
			pl.From, pl.To, pl.Len, planDestination(pl), want.From, want.To, want.Length, want.Destination)
	}
	if id := chosen(sent).ID; want.UsedID {
		// The generator runs through all values before one comes again.
		if id == pr.lastID {
			return o, want, fmt.Errorf("identification %#x twice in a row", id)
		}
		pr.lastID = id
	}
	return o, want, nil
}

func planDestination(pl *translate.Plan) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], pl.DstHi)
	binary.BigEndian.PutUint64(b[8:], pl.DstLo)
	if pl.To == translate.V4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}

// mustAgree fails the test with everything needed to repeat it.
func (pr *pair) mustAgree(t testing.TB, p []byte, m translate.Meta, mtuIn, mtuOut int, src translate.Sources) (outcome, twin.Result) {
	t.Helper()
	o, r, err := pr.compare(p, m, mtuIn, mtuOut, src)
	if err != nil {
		t.Fatalf("%v\nin   %x\nmeta %+v, MTUs %d, %d, config %+v", err, p, m, mtuIn, mtuOut, pr.config)
	}
	return o, r
}
