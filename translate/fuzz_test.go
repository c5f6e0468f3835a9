package translate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

// fuzzConfigs are the configurations that every fuzzed packet may meet.
func fuzzConfigs() []Config {
	wide := Config{
		Pool6: prefixes("2001:db8:1::/48", "64:ff9b::/96"),
		EAM: []EAM{
			eam(vmA6+"/128", vmA4+"/32"), eam(vmB6+"/128", vmB4+"/32"),
			eam("2001:db8:cccc::/64", "198.51.100.0/24"), eam("2001:db8:cccc::8/125", "198.51.100.8/29"),
			eam("2001:db8:dddd::/120", "198.51.101.1/32"),
		},
		ICMPSource4:   prefixes("192.0.2.248/29", "192.0.2.240/32"),
		ICMPSource6:   prefixes("2001:db8:6::/64"),
		Deny4:         prefixes("203.0.113.64/26"),
		Local4:        []netip.Addr{netip.MustParseAddr("203.0.113.2")},
		Local6:        []netip.Addr{netip.MustParseAddr("2001:db8::2")},
		LowestIPv6MTU: 1400, Hairpin: HairpinSimple, UDPZeroChecksum: UDPZeroDrop, TOS: TOS{true, 0x28},
	}
	off := usual()
	off.Hairpin, off.AllowPrivate4 = HairpinOff, true
	sources := usual()
	sources.ICMPSource4 = prefixes("192.0.2.128/25")
	network := usual()
	network.Pool6 = prefixes("2001:db8:64::/96")
	return []Config{usual(), wide, off, sources, network}
}

// seeds are packets of every kind, from which mutation starts.
func seeds() [][]byte {
	quote4 := v4(vmA4, server, 6, tcp(40))
	quote6 := v6(server6, vmA6, 17, udp(40))
	long4 := v4(vmA4, server, 17, udp(200))
	long6 := v6(server6, vmA6, 17, udp(200))
	extension := icmpMessage(0x20, 0, 0x00080101, bytesOf(4))
	s := [][]byte{
		v6(vmA6, server6, 6, tcp(30)), v4(server, vmA4, 6, tcp(30)),
		v6(vmA6, server6, 17, udp(30)), v4(server, vmA4, 17, udp(30)),
		v6(vmA6, server6, 58, icmpMessage(128, 0, 1, bytesOf(30))), v4(server, vmA4, 1, icmpMessage(8, 0, 1, bytesOf(30))),
		v6(vmA6, "64:ff9b::"+vmB4, 6, tcp(30)),
		v6ext(vmA6, server6, 44, fragmentHeader(17, 0, true, 0x12345678), udp(64)),
		v6ext(vmA6, server6, 44, fragmentHeader(17, 64, false, 0x12345678), bytesOf(31)),
		v6ext(vmA6, server6, 44, fragmentHeader(58, 0, false, 0x12345678), icmpMessage(128, 0, 1, bytesOf(30))),
		v6ext(vmA6, server6, 0, []byte{60, 0, 1, 4, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0}, tcp(30)),
		v6ext(vmA6, server6, 43, []byte{6, 0, 0, 1, 0, 0, 0, 0}, tcp(30)),
		v4(server, vmA4, 17, udp(64), frag(flagMF), id(7)), v4(server, vmA4, 17, bytesOf(31), frag(8), id(7)),
		v4options(server, vmA4, 6, []byte{1, 131, 7, 4, 1, 2, 3, 4, 0, 0, 0, 0}, tcp(30)),
		v4options(server, vmA4, 6, []byte{148, 4, 0, 0}, tcp(30)),
		v4(server, vmA4, 1, icmpMessage(3, 4, 1400, quote4)), v4(server, vmA4, 1, icmpMessage(11, 0, 0, quote4)),
		v4("10.1.1.1", vmA4, 1, icmpMessage(12, 0, 8<<24, quote4)),
		v4(server, vmA4, 1, icmpMessage(3, 3, 132/4<<16, append(long4[:132:132], extension...))),
		v6(vmA6, server6, 58, icmpMessage(2, 0, 1400, quote6)), v6(vmA6, server6, 58, icmpMessage(3, 0, 0, quote6)),
		v6("2001:db8:9::1", server6, 58, icmpMessage(4, 0, 7, quote6)),
		v6(vmA6, server6, 58, icmpMessage(1, 4, 136/8<<24, append(long6[:136:136], extension...))),
		v6(vmB6, "64:ff9b::"+vmA4, 58, icmpMessage(1, 4, 0, v6("64:ff9b::"+vmA4, vmB6, 6, tcp(60)))),
		v4(server, vmA4, 136, udp(30)), v6(vmA6, server6, 33, bytesOf(30)),
	}
	zero := v4(server, vmA4, 17, udp(30))
	zero[26], zero[27] = 0, 0
	return append(s, zero)
}

// same tells whether two one's complement sums are equal: 0 and 0xffff are.
func same(a, b uint16) bool { return a%0xffff == b%0xffff }

// verify checks everything that must hold for any forwarded packet.
func verify(t testing.TB, p []byte, m Meta, r result, mtuOut int) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s\nin  %x\nout %x\nplan %+v", fmt.Sprintf(format, args...), p, r.out, r.plan)
	}
	in, err := look(p[:r.plan.Len])
	if err != nil {
		fail("a broken packet was forwarded: %v", err)
	}
	out, err := look(r.out)
	if err != nil {
		fail("%v", err)
	}
	if out.v6 != (r.plan.To == V6) || in.v6 != (r.plan.From == V6) {
		fail("families")
	}
	a, b := in.checksumField(), out.checksumField()
	zero := in.proto == 17 && a > 0 && p[a]|p[a+1] == 0 && !m.PartialChecksum
	switch {
	case m.PartialChecksum && r.verdict == Forward && a > 0 && b > 0:
		x, y := binary.BigEndian.Uint16(p[a:]), binary.BigEndian.Uint16(r.out[b:])
		px, py := in.pseudoSum(), out.pseudoSum()
		if !same(fold(uint64(x)+uint64(^px)), fold(uint64(y)+uint64(^py))) {
			fail("partial checksum %04x (pseudo %04x) became %04x (pseudo %04x)", x, px, y, py)
		}
	case m.PartialChecksum:
	case zero && out.v6:
		if n := int(binary.BigEndian.Uint16(r.out[out.l4+4:])); in.v6 {
			if r.out[b]|r.out[b+1] != 0 {
				fail("a missing UDP checksum was invented")
			}
		} else if s := slowSum(r.out[out.l4:out.l4+n], pseudoHeader(r.out, 17, n)); s != 0xffff {
			fail("computed UDP checksum: sum is %04x", s)
		}
	case zero:
	case a > 0 && b > 0 && r.verdict == Forward:
		if x, y := in.transportSum(), out.transportSum(); !same(x, y) {
			fail("transport sum was %04x, is %04x", x, y)
		}
		if out.proto == 17 && r.out[b]|r.out[b+1] == 0 {
			fail("UDP checksum 0")
		}
	}
	if m.SegmentSize == 0 && r.verdict == Forward && len(r.out) > mtuOut {
		fail("%d bytes for an MTU of %d", len(r.out), mtuOut)
	}
	if (out.proto == 1 || out.proto == 58) && out.offset == 0 && r.plan.kind == kindError {
		verifyError(in, out, fail)
	} else if r.verdict == Forward && !bytes.Equal(in.ip[in.l4+min(40, len(in.ip)-in.l4):], out.ip[out.l4+min(40, len(out.ip)-out.l4):]) {
		fail("payload changed")
	}
	if r.verdict == Split {
		verifySplit(out, r.frags, r.plan.cut, fail)
	}
}

// pseudoSum is what a partial checksum holds at least.
func (v view) pseudoSum() uint16 {
	if v.proto == 1 {
		return 0
	}
	return slowSum(pseudoHeader(v.ip, v.proto, len(v.ip)-v.l4))
}

// verifyError checks a translated ICMP error and the packet in it.
func verifyError(in, out view, fail func(string, ...any)) {
	limit := 1280
	if !out.v6 {
		limit = 576
	}
	if len(out.ip) > limit {
		fail("an ICMP error of %d bytes", len(out.ip))
	}
	msg := out.ip[out.l4:]
	quote := msg[8:]
	want := byte(4)
	if out.v6 {
		want = 6
	}
	if quote[0]>>4 != want {
		fail("inner version %d", quote[0]>>4)
	}
	n, unit := int(msg[5]), 4
	if out.v6 {
		n, unit = int(msg[4]), 8
	}
	extensible := out.v6 && (msg[0] == 1 || msg[0] == 3) || !out.v6
	if !out.v6 && msg[0] == 12 || !extensible {
		n = 0
	}
	if n > 0 && (n*unit < 128 || n*unit >= len(quote)) {
		fail("RFC 4884 length %d of %d bytes", n*unit, len(quote))
	}
	if n > 0 {
		quote = quote[:n*unit]
	}
	// The quoted packet, as far as it is there: give look a copy with a length
	// that fits, and note whether it is whole.
	q := bytes.Clone(quote)
	old := in.ip[in.l4+8:]
	given := int(in.ip[in.l4+5]) * 4
	if typ := in.ip[in.l4]; in.v6 {
		if given = int(in.ip[in.l4+4]) * 8; typ != 1 && typ != 3 {
			given = 0
		}
	}
	if given > 0 && given <= len(old) {
		old = old[:given]
	}
	head, total := 40, 40+int(binary.BigEndian.Uint16(q[4:]))
	if !out.v6 {
		if slowSum(q[:20]) != 0xffff {
			fail("inner IPv4 header checksum")
		}
		head, total = 20, int(binary.BigEndian.Uint16(q[2:]))
	}
	oldHead, oldTotal := 40, 40+int(binary.BigEndian.Uint16(old[4:]))
	if !in.v6 {
		oldHead, oldTotal = int(old[0]&15)*4, int(binary.BigEndian.Uint16(old[2:]))
	}
	if head > len(q) || oldHead > len(old) || total > len(q) || oldTotal > len(old) {
		return
	}
	oq := bytes.Clone(old[:oldTotal])
	if !in.v6 {
		oq[10], oq[11] = 0, 0
		binary.BigEndian.PutUint16(oq[10:], ^slowSum(oq[:oldHead]))
	}
	a, err1 := look(oq)
	b, err2 := look(q[:total])
	if err1 != nil || err2 != nil {
		fail("inner packet: before %v, after %v", err1, err2)
	}
	if len(a.ip)-a.l4 != len(b.ip)-b.l4 {
		fail("inner payload had %d bytes, has %d", len(a.ip)-a.l4, len(b.ip)-b.l4)
	}
	x, y := a.checksumField(), b.checksumField()
	if x == 0 || y == 0 || a.proto == 17 && a.ip[x]|a.ip[x+1] == 0 {
		return
	}
	if !same(a.transportSum(), b.transportSum()) {
		fail("inner transport sum was %04x, is %04x", a.transportSum(), b.transportSum())
	}
}

// verifySplit puts the fragments together again.
func verifySplit(whole view, frags [][]byte, cut int, fail func(string, ...any)) {
	var payload []byte
	for i, f := range frags {
		v, err := look(f)
		if err != nil {
			fail("fragment %d: %v\n%x", i, err, f)
		}
		if len(f) > cut {
			fail("fragment %d has %d bytes, allowed %d", i, len(f), cut)
		}
		if v.v6 && !v.fragment {
			fail("fragment %d has no Fragment Header", i)
		}
		if v.offset != whole.offset+len(payload) || v.id != whole.id || v.proto != whole.proto {
			fail("fragment %d: offset %d, id %x, protocol %d", i, v.offset, v.id, v.proto)
		}
		last := i == len(frags)-1
		if v.more != (!last || whole.more) || v.more && (len(f)-v.l4)%8 != 0 {
			fail("fragment %d: more %v, %d bytes", i, v.more, len(f)-v.l4)
		}
		payload = append(payload, f[v.l4:]...)
	}
	if !bytes.Equal(payload, whole.ip[whole.l4:]) {
		fail("the fragments do not make the packet")
	}
}

// fuzzMeta and fuzzMTU make something sensible of random numbers.
func fuzzMeta(x uint8) (m Meta) {
	m.PartialChecksum = x&1 != 0
	if x&2 != 0 {
		m.SegmentSize = uint16(x) * 8
	}
	return m
}

func fuzzMTU(x uint16) (in, out int) {
	sizes := []int{0, 68, 576, 1280, 1300, 1400, 1500, 9000}
	return sizes[x&7], sizes[x>>3&7]
}

// FuzzTranslate: whatever comes, nothing panics, nothing outside is written,
// and what comes out verifies.
func FuzzTranslate(f *testing.F) {
	for i, s := range seeds() {
		f.Add(s, uint8(i), uint8(0), uint16(6<<3|6))
		f.Add(s, uint8(0), uint8(i), uint16(3<<3|3))
	}
	var trs []*Translator
	for _, c := range fuzzConfigs() {
		trs = append(trs, mustNew(f, c))
	}
	f.Fuzz(func(t *testing.T, p []byte, config, meta uint8, mtu uint16) {
		m := fuzzMeta(meta)
		mtuIn, mtuOut := fuzzMTU(mtu)
		r := run(t, trs[int(config)%len(trs)], p, m, mtuIn, mtuOut)
		if a := r.verdict.Action(); a != Emit && a != Cut {
			return
		}
		limit := mtuOut
		switch {
		case limit == 0:
			limit = 1 << 20
		case r.plan.To == V6:
			limit = max(limit, 1280)
		}
		verify(t, p, m, r, limit)
	})
}

// FuzzRandomHeaders is FuzzTranslate with checksums and lengths put right after
// mutation, so that it gets further.
func FuzzRandomHeaders(f *testing.F) {
	for i, s := range seeds() {
		f.Add(s, uint8(i), uint8(0), uint16(6<<3|6))
		f.Add(s, uint8(0), uint8(i), uint16(3<<3|3))
	}
	var trs []*Translator
	for _, c := range fuzzConfigs() {
		trs = append(trs, mustNew(f, c))
	}
	f.Fuzz(func(t *testing.T, p []byte, config, meta uint8, mtu uint16) {
		if len(p) < 40 || len(p) > 65535 {
			return
		}
		p = bytes.Clone(p)
		if p[0]>>4 == 4 {
			binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		} else {
			p[0] = 6<<4 | p[0]&15
			binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		}
		if p[0]>>4 == 4 && (p[0]&15 < 5 || int(p[0]&15)*4 > len(p)) {
			return
		}
		if p[0]>>4 == 4 {
			p[10], p[11] = 0, 0
			binary.BigEndian.PutUint16(p[10:], ^slowSum(p[:int(p[0]&15)*4]))
		}
		m := fuzzMeta(meta)
		mtuIn, mtuOut := fuzzMTU(mtu)
		tr := trs[int(config)%len(trs)]
		r := run(t, tr, p, m, mtuIn, mtuOut)
		if a := r.verdict.Action(); a != Emit && a != Cut {
			return
		}
		limit := mtuOut
		switch {
		case limit == 0:
			limit = 1 << 20
		case r.plan.To == V6:
			limit = max(limit, 1280)
		}
		verify(t, p, m, r, limit)
	})
}

// FuzzFastPath: with and without the fast path, every packet has the same fate
// and becomes the same bytes.
func FuzzFastPath(f *testing.F) {
	for i, s := range seeds() {
		f.Add(s, uint8(i), uint8(0), uint16(6<<3|6))
	}
	var fast, slow []*Translator
	for _, c := range fuzzConfigs() {
		fast, slow = append(fast, mustNew(f, c)), append(slow, slowly(f, c))
	}
	f.Fuzz(func(t *testing.T, p []byte, config, meta uint8, mtu uint16) {
		m := fuzzMeta(meta)
		mtuIn, mtuOut := fuzzMTU(mtu)
		a := run(t, fast[int(config)%len(fast)], p, m, mtuIn, mtuOut)
		b := run(t, slow[int(config)%len(slow)], p, m, mtuIn, mtuOut)
		if a.verdict != b.verdict || !bytes.Equal(a.out, b.out) || len(a.frags) != len(b.frags) {
			t.Fatalf("fast %v, complete %v\nin   %x\nfast %x\ncomp %x", a.verdict, b.verdict, p, a.out, b.out)
		}
		for i := range a.frags {
			if !bytes.Equal(a.frags[i], b.frags[i]) {
				t.Fatalf("fragment %d\nfast %x\ncomp %x", i, a.frags[i], b.frags[i])
			}
		}
		if act := a.verdict.Action(); (act == Emit || act == Cut) && (a.plan.DstHi != b.plan.DstHi || a.plan.DstLo != b.plan.DstLo ||
			a.plan.From != b.plan.From || a.plan.To != b.plan.To || a.plan.OutLen != b.plan.OutLen) || a.plan.Len != b.plan.Len {
			t.Fatalf("plans differ\nfast %+v\ncomp %+v", a.plan, b.plan)
		}
	})
}

// FuzzError: an ICMP error of our own is a right one, and never about an error.
func FuzzError(f *testing.F) {
	for i, s := range seeds() {
		low := bytes.Clone(s)
		if low[0]>>4 == 4 {
			low[8] = 1
		} else {
			low[7] = 1
		}
		f.Add(fix(low), uint8(i), uint16(i))
	}
	var trs []*Translator
	for _, c := range fuzzConfigs() {
		trs = append(trs, mustNew(f, c))
	}
	src := Sources{V4: [4]byte{192, 0, 2, 1}, V6: netip.MustParseAddr("2001:db8::1").As16()}
	f.Fuzz(func(t *testing.T, p []byte, config uint8, mtu uint16) {
		tr := trs[int(config)%len(trs)]
		mtuIn, mtuOut := fuzzMTU(mtu)
		r := run(t, tr, p, Meta{}, mtuIn, mtuOut)
		start := guard + Headroom
		buf := bytes.Repeat([]byte{0xa5}, start+len(p)+guard)
		copy(buf[start:], p)
		before := bytes.Clone(buf)
		at, n, ok := tr.Error(&r.plan, buf, start, src)
		if !ok {
			if !bytes.Equal(buf, before) {
				t.Fatal("no error, but bytes were written")
			}
			return
		}
		if r.verdict.Action() != Answer || at < start-Headroom || at+n > start+r.plan.Len {
			t.Fatalf("%v: [%d,%d) of [%d,%d)", r.verdict, at, at+n, start-Headroom, start+r.plan.Len)
		}
		if !bytes.Equal(buf[:start-Headroom], before[:start-Headroom]) || !bytes.Equal(buf[start+r.plan.Len:], before[start+r.plan.Len:]) {
			t.Fatal("bytes outside were written")
		}
		v, err := look(buf[at : at+n])
		if err != nil {
			t.Fatal(err)
		}
		limit, addrs, size := 576, 12, 4
		if v.v6 {
			limit, addrs, size = 1280, 8, 16
		}
		if s := v.transportSum(); n > limit || s != 0xffff {
			t.Fatalf("%d bytes, sum %04x", n, s)
		}
		if !bytes.Equal(v.ip[addrs+size:addrs+2*size], p[addrs:addrs+size]) {
			t.Fatal("not sent to the source")
		}
		if !bytes.Equal(v.ip[v.l4+8:], p[:len(v.ip)-v.l4-8]) {
			t.Fatal("the quote is not the packet")
		}
		if in, err := look(p[:r.plan.Len]); err == nil && in.offset == 0 && in.l4 < len(in.ip) {
			typ := in.ip[in.l4]
			if in.proto == 58 && in.v6 && typ < 128 || in.proto == 1 && !in.v6 && (typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12) {
				t.Fatal("an error about an error")
			}
		}
	})
}
