package translate

import (
	"fmt"
	"net/netip"
	"slices"
)

// Step is one thing that the translator looks at on the way to a verdict.
type Step struct {
	Topic   string  // header, destination, source, hairpin, hop limit, traffic class, transport, quote, size
	Text    string  // what it found, and what follows from it
	Section string  // the rule's source, "" where none is needed
	Verdict Verdict // Forward: the packet goes on; any other: its way ends here
}

// Trace tells step by step how Decide, and then Fit with these MTUs, come to
// their verdict about p, which the last step has. It asks the functions that they
// ask, in the same order, and takes the rest from the Plan that they filled.
//
// It is for people: it allocates, and the data plane never calls it. Where the
// short cut of fast.go applies, it tells what the complete rules say, which is
// the same.
func (t *Translator) Trace(p []byte, m Meta, mtuIn, mtuOut int) []Step {
	r := &tracer{t: t, p: p}
	v := t.decide(&r.pl, p, m)
	switch r.pl.From {
	case V4:
		r.walk4()
	case V6:
		r.walk6()
	default:
		text := "there are no bytes"
		if len(p) > 0 {
			text = fmt.Sprintf("the first byte, 0x%02x, says version %d", p[0], p[0]>>4)
		}
		r.end("header", v, "%s: %s", text, v.Info().Doc)
	}
	if r.ended() {
		return r.steps
	}
	r.class()
	r.transport(v)
	if !r.ended() {
		r.size(v, mtuIn, mtuOut)
	}
	return r.steps
}

// tracer collects steps. pl is what Decide made of the packet, h its header.
type tracer struct {
	t     *Translator
	p     []byte
	h     parsed
	pl    Plan
	steps []Step
}

func (r *tracer) say(topic, section, format string, args ...any) {
	r.steps = append(r.steps, Step{topic, fmt.Sprintf(format, args...), section, Forward})
}

// end is a step that ends with v; its rule is the verdict's.
func (r *tracer) end(topic string, v Verdict, format string, args ...any) {
	r.steps = append(r.steps, Step{topic, fmt.Sprintf(format, args...), v.Info().Section, v})
}

func (r *tracer) ended() bool {
	return len(r.steps) > 0 && r.steps[len(r.steps)-1].Verdict != Forward
}

// walk4 goes through decide4.
func (r *tracer) walk4() {
	t := r.t
	h, v := parse4(r.p, false)
	r.h = h
	if v != Forward && v.Action() != Answer {
		r.end("header", v, "IPv4, %d bytes: %s", len(r.p), v.Info().Doc)
		return
	}
	r.header(v)
	dst, mine := t.destination4(h.dst.v4())
	if mine != Forward {
		r.end("destination", mine, "%v: %s", show(V4, h.dst), mine.Info().Doc)
		return
	}
	if by, ok := t.mapping4(h.dst.v4()); ok {
		r.say("destination", "RFC 7757 3.3.1", "%v is mapped by %s: it becomes %v", show(V4, h.dst), by, show(V6, dst))
	} else {
		r.say("destination", "RFC 6052 2.2", "%v has no mapping, and stands under pool6 prefix %s: it becomes %v", show(V4, h.dst), t.poolName(t.network), show(V6, dst))
	}
	if v != Forward {
		r.end("header", v, "%s%s", r.where(), v.Info().Doc)
		return
	}
	src, v := t.source4(&h, r.p)
	if v != Forward {
		r.end("source", v, "%v: %s", show(V4, h.src), v.Info().Doc)
		return
	}
	r.source4(src)
	if _, local := t.local6.Lookup(dst.hi, dst.lo); local {
		r.end("destination", LocalDestination6, "%v: %s", show(V6, dst), LocalDestination6.Info().Doc)
		return
	}
	r.hop(TTL4)
}

// source4 says how an IPv4 source became src.
func (r *tracer) source4(src addr) {
	t, v := r.t, r.h.src.v4()
	why := ""
	switch class := t.class4(v); {
	case class&classMartian != 0:
		why = ", which is allowed in an ICMP error only"
	case len(t.pools) > 0 && t.bannedUnder(&t.pools[0], v):
		why = ", which is not global, and allowed in an ICMP error only"
	}
	by, mapped := t.mapping4(v)
	if mapped {
		if a, _ := t.table.to6(v); a == src {
			r.say("source", "RFC 7757 3.3.1", "%v is mapped by %s: it becomes %v", show(V4, r.h.src), by, show(V6, src))
			return
		}
		why = ", and its mapping is not used between two mapped nodes with simple hairpinning (RFC 7757 4.2.1)"
	}
	if len(t.pools) > 0 && t.pools[0].embed(v) == src {
		if why == "" {
			why = " has no mapping"
		}
		r.say("source", "RFC 6052 2.2", "%v%s: under pool6 prefix %s it becomes %v", show(V4, r.h.src), why, t.poolName(&t.pools[0]), show(V6, src))
		return
	}
	r.say("source", "RFC 6791 3", "%v can't be translated%s: icmp_source6 gives the ICMP error %v", show(V4, r.h.src), why, show(V6, src))
}

// walk6 goes through decide6.
func (r *tracer) walk6() {
	t := r.t
	h, v := parse6(r.p, false)
	r.h = h
	if v != Forward && v.Action() != Answer {
		// With a whole header, a packet for somebody else is not judged.
		r.end("header", v, "IPv6, %d bytes: %s", len(r.p), v.Info().Doc)
		return
	}
	r.header(v)
	if mine := t.mine6(h.dst); mine != Forward {
		r.end("destination", mine, "%v: %s", show(V6, h.dst), mine.Info().Doc)
		return
	}
	if v != Forward {
		r.end("header", v, "%s%s", r.where(), v.Info().Doc)
		return
	}
	dst, via, v := t.destination6(h.dst)
	raw, _ := t.table.to4(h.dst)
	if pool := t.poolOf(h.dst); v != Forward && raw == 0 && pool != nil {
		raw = pool.extract(h.dst)
	}
	switch by, mapped := t.mapping6(h.dst); {
	case v != Forward:
		r.end("destination", v, "%v stands for %v: %s", show(V6, h.dst), show(V4, from4(raw)), v.Info().Doc)
		return
	case mapped:
		r.say("destination", "RFC 7757 3.3.2", "%v is mapped by %s: it becomes %v", show(V6, h.dst), by, show(V4, from4(dst)))
	default:
		r.say("destination", "RFC 6052 2.3", "%v is under pool6 prefix %s: it becomes %v", show(V6, h.dst), t.poolName(via), show(V4, from4(dst)))
	}
	src, v := t.source6(&h, r.p)
	if v != Forward {
		r.end("source", v, "%v: %s", show(V6, h.src), v.Info().Doc)
		return
	}
	r.source6(src)
	if via != nil && t.intrinsic && t.class[dst>>16]&classEAM != 0 && r.hairpin(src, dst, via) {
		return
	}
	r.hop(HopLimit6)
}

// source6 says how an IPv6 source became src.
func (r *tracer) source6(src uint32) {
	t, a := r.t, r.h.src
	if !t.isVM(a) {
		r.say("source", "RFC 6791 3", "%v is outside vm_prefixes; as this is an ICMP error, and may be a router's, icmp_source4 gives it %v", show(V6, a), show(V4, from4(src)))
		return
	}
	if by, ok := t.mapping6(a); ok {
		r.say("source", "RFC 7757 3.3.2", "%v is mapped by %s: it becomes %v", show(V6, a), by, show(V4, from4(src)))
		return
	}
	if via := t.poolOf(a); via != nil && !via.wellKnown {
		r.say("source", "RFC 6052 2.3", "%v is under pool6 prefix %s: it becomes %v", show(V6, a), t.poolName(via), show(V4, from4(src)))
		return
	}
	r.say("source", "RFC 6791 3", "%v has no mapping; as this is an ICMP error, icmp_source4 gives it %v", show(V6, a), show(V4, from4(src)))
}

// hairpin says what becomes of a destination that is a mapped node's IPv4
// address, and tells whether the packet's way ends there.
func (r *tracer) hairpin(src, dst uint32, via *pool) bool {
	t := r.t
	six, ok := t.table.to6(dst)
	if !ok {
		return false
	}
	by, _ := t.mapping4(dst)
	if t.bannedUnder(via, src) {
		r.end("hairpin", PrivateSource4, "%v is mapped by %s, so the packet would go back to IPv6: %s", show(V4, from4(dst)), by, PrivateSource4.Info().Doc)
		return true
	}
	if _, local := t.local6.Lookup(six.hi, six.lo); local {
		r.end("hairpin", LocalDestination6, "%v is mapped by %s: %s", show(V4, from4(dst)), by, LocalDestination6.Info().Doc)
		return true
	}
	r.say("hairpin", "RFC 7757 4.2.2", "%v is mapped by %s, so the packet goes straight back to IPv6: destination %v, source %v as IPv4 hosts see it",
		show(V4, from4(dst)), by, show(V6, six), show(V6, via.embed(src)))
	return false
}

// hop is the hop limit, whose end is expired.
func (r *tracer) hop(expired Verdict) {
	if r.h.ttl <= 1 {
		r.end("hop limit", expired, "%d: %s", r.h.ttl, expired.Info().Doc)
		return
	}
	r.say("hop limit", r.section("4.1", "5.1"), "%d becomes %d", r.h.ttl, r.h.ttl-1)
}

// section names RFC 7915's for the packet's direction.
func (r *tracer) section(four, six string) string {
	if r.h.fam == V4 {
		return "RFC 7915 " + four
	}
	return "RFC 7915 " + six
}

func (r *tracer) class() {
	if out := r.t.trafficClass(r.h.tos); r.t.config.TOS.Fixed {
		r.say("traffic class", r.section("4.1", "5.1"), "0x%02x becomes 0x%02x, because tos is set", r.h.tos, out)
	} else {
		r.say("traffic class", r.section("4.1", "5.1"), "0x%02x is copied", out)
	}
}

// header describes what was parsed. What parsing said against it, v, waits until
// it is clear whether the packet is the translator's.
func (r *tracer) header(v Verdict) {
	h := &r.h
	text := fmt.Sprintf("IPv%d, %d bytes, %s", h.fam, h.total, ProtocolName(h.proto))
	if v != Forward {
		text = fmt.Sprintf("IPv%d, %d bytes", h.fam, h.total)
	}
	section := "RFC 8200 3"
	if h.fam == V4 {
		section = "RFC 791 3.1"
	}
	if n := h.l4 - h.len(h.fam); v == Forward && h.fam == V4 && h.l4 > header4Len {
		text += fmt.Sprintf("; %d bytes of options stay behind", h.l4-header4Len)
		section = "RFC 7915 4.1"
	} else if v == Forward && h.fam == V6 && n > 0 {
		text += fmt.Sprintf("; %d bytes of extension headers stay behind", n)
		section = "RFC 7915 5.1"
	}
	if h.flags&isFragment != 0 {
		text += "; " + fragmentText(&h.header)
	}
	if n := len(r.p) - h.total; n > 0 {
		text += fmt.Sprintf("; %d bytes of padding behind it are ignored", n)
	}
	r.say("header", section, "%s", text)
}

// where says which byte of the header stands in the way, if one does.
func (r *tracer) where() string {
	if r.h.bad == 0 {
		return ""
	}
	return fmt.Sprintf("byte %d: ", r.h.bad)
}

func fragmentText(h *header) string {
	first := int(h.offset) * 8
	text := fmt.Sprintf("fragment with bytes %d to %d of datagram 0x%x", first, first+h.payload-1, h.id)
	switch {
	case h.payload == 0:
		text = fmt.Sprintf("empty fragment at byte %d of datagram 0x%x", first, h.id)
	case h.flags&more == 0 && first == 0:
		text = fmt.Sprintf("atomic fragment, identification 0x%x", h.id)
	}
	if h.flags&more != 0 {
		text += ", more follow"
	}
	return text
}

// mapping6 names the explicit mapping that table.to4 uses for a.
func (t *Translator) mapping6(a addr) (string, bool) {
	if t.table.host6.find4(a) != 0 {
		return t.entryName(func(e EAM) bool { return e.IPv6.Bits() == 128 && toAddr(e.IPv6.Addr()) == a }), true
	}
	if t.table.lpm6 == nil {
		return "", false
	}
	i, ok := t.table.lpm6.Lookup(a.hi, a.lo)
	if !ok {
		return "", false
	}
	return t.prefixName(&t.table.prefixes[i]), true
}

// mapping4 names the explicit mapping that table.to6 uses for v.
func (t *Translator) mapping4(v uint32) (string, bool) {
	if _, ok := t.table.to6(v); !ok {
		return "", false
	}
	if _, ok := t.table.host4.find6(v); ok {
		return t.entryName(func(e EAM) bool { return e.IPv4.Bits() == 32 && toAddr(e.IPv4.Addr()).v4() == v }), true
	}
	i, _ := t.table.lpm4.Lookup(uint64(v)<<32, 0)
	return t.prefixName(&t.table.prefixes[i]), true
}

func (t *Translator) prefixName(m *mapping) string {
	return t.entryName(func(e EAM) bool {
		return e.IPv6.Bits() == int(m.bits6) && e.IPv4.Bits() == int(m.bits4) && toAddr(e.IPv6.Addr()) == m.six && toAddr(e.IPv4.Addr()).v4() == m.four
	})
}

// entryName calls an entry as the configuration's errors do, from 0.
func (t *Translator) entryName(is func(EAM) bool) string {
	i := slices.IndexFunc(t.config.EAM, is)
	e := t.config.EAM[i]
	return fmt.Sprintf("eam[%d] (%v = %v)", i, e.IPv6, e.IPv4)
}

func (t *Translator) poolName(p *pool) string {
	for i := range t.pools {
		if t.pools[i].prefix == p.prefix && t.pools[i].bits == p.bits {
			return fmt.Sprintf("%v", t.config.Pool6[i])
		}
	}
	return ""
}

// show gives an address as people write it.
func show(f Family, a addr) netip.Addr {
	b := [16]byte{}
	for i := range 8 {
		b[i], b[8+i] = byte(a.hi>>(56-8*i)), byte(a.lo>>(56-8*i))
	}
	if f == V4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}
