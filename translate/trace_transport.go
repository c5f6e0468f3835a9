package translate

import (
	"encoding/binary"
	"fmt"
)

// transport tells what finish and transport planned; v is Decide's verdict.
func (r *tracer) transport(v Verdict) {
	pl, h := &r.pl, &r.h
	name := ProtocolName(h.proto)
	switch {
	case v >= Protocol4 && v <= InnerPrivate:
		topic := "transport"
		if v >= InnerShort {
			topic = "quote"
			r.errorHead()
		}
		r.end(topic, v, "%s: %s", name, v.Info().Doc)
	case v == TooLong || v == Superpacket:
	case pl.kind == kindError:
		r.errorHead()
		r.quote()
	case h.offset != 0:
		r.say("transport", r.section("4.5", "5.5"), "%s: this fragment has no transport header; its payload stays as it is", name)
	case pl.kind == kindEcho:
		to := ProtocolName(pl.out.proto)
		r.say("transport", r.section("4.2", "5.2"), "%s becomes %s; %s",
			ICMPName(h.fam, r.p[h.l4], 0), ICMPName(pl.To, pl.icmp, 0), r.checksum(fmt.Sprintf("the checksum of %s", to)))
	case pl.full:
		r.say("transport", r.section("4.5", "5.5"), "UDP without a checksum, which IPv6 demands: computed over all %d bytes", pl.sumLen)
	case pl.ck == 0 && h.proto == protoUDP:
		r.say("transport", "RFC 768", "UDP without a checksum, which IPv4 allows: it stays without")
	case pl.ck == 0:
		r.say("transport", r.section("4.5", "5.5"), "%s passes as it is: no checksum is known to cover the addresses", name)
	default:
		r.say("transport", r.section("4.5", "5.5"), "%s: %s", name, r.checksum("the checksum"))
	}
}

// checksum says what becomes of the checksum field; a superpacket's, or a
// partial one, is for others to complete.
func (r *tracer) checksum(what string) string {
	pl := &r.pl
	field := binary.BigEndian.Uint16(r.p[pl.ck:])
	b := [2]byte{r.p[pl.ck], r.p[pl.ck+1]}
	patch(b[:], pl.delta, pl.invert, pl.udp)
	becomes := binary.BigEndian.Uint16(b[:])
	kind := ""
	if pl.invert == 0 {
		kind = " (partial: the sum of the pseudo-header, for hardware to complete)"
	}
	if field == becomes {
		return fmt.Sprintf("%s%s stays 0x%04x, because the new header sums up to the same (RFC 6052 4.1)", what, kind, field)
	}
	return fmt.Sprintf("%s%s, 0x%04x, becomes 0x%04x: the new header's sum differs by 0x%04x (RFC 1624)", what, kind, field, becomes, pl.delta)
}

// errorHead tells what type, code, and pointer of an ICMP error become.
func (r *tracer) errorHead() {
	h, in := &r.h, &r.pl.inner
	typ, code := r.p[h.l4], r.p[h.l4+1]
	word := binary.BigEndian.Uint32(r.p[h.l4+4:])
	text := fmt.Sprintf("%s becomes %s", ICMPName(h.fam, typ, code), ICMPName(r.pl.To, in.msg.typ, in.msg.code))
	pointer := func(f Family, word uint32) uint32 {
		if f == V4 {
			return word >> 24
		}
		return word
	}
	if in.msg.rest != 0 && !in.mtu {
		old := "the protocol field"
		if h.fam == V6 || typ == icmp4ParameterProblem {
			old = fmt.Sprintf("byte %d", pointer(h.fam, word))
		}
		text += fmt.Sprintf("; the pointer to %s becomes byte %d", old, pointer(r.pl.To, in.msg.rest))
	}
	r.say("transport", r.section("4.2", "5.2"), "%s", text)
}

// quote tells what becomes of the packet inside an ICMP error.
func (r *tracer) quote() {
	h, pl, in := &r.h, &r.pl, &r.pl.inner
	old := r.p[h.l4+icmpHeader:]
	var q parsed
	if h.fam == V4 {
		q, _ = parse4(old, true)
	} else {
		q, _ = parse6(old, true)
	}
	what := ProtocolName(q.proto)
	if in.icmp >= 0 {
		what = ICMPName(h.fam, old[in.hdr], 0)
	}
	r.say("quote", r.section("4.3", "5.3"), "the packet inside, %s from %v to %v, becomes one from %v to %v; its hop limit of %d stays",
		what, show(h.fam, q.src), show(h.fam, q.dst), show(pl.To, in.src), show(pl.To, in.dst), q.ttl)
	text := fmt.Sprintf("%d bytes behind its header are kept", in.pay)
	if in.ck >= 0 {
		text += ", its checksum is kept consistent"
	}
	if in.pad > 0 {
		text += fmt.Sprintf(", %d zeros follow", in.pad)
	}
	section := r.section("4.3", "5.3")
	switch {
	case in.extLen > 0:
		section = "RFC 4884 4"
		text += fmt.Sprintf("; %d bytes of ICMP extensions move along, behind a quote of %d words", in.extLen, in.length)
	case quoteLength(h.fam, r.p[h.l4], r.p[h.l4:]) > 0:
		section = "RFC 4884 4"
		text += "; ICMP extensions are left out"
	}
	r.say("quote", section, "%s", text)
}

// size tells what Fit does.
func (r *tracer) size(v Verdict, mtuIn, mtuOut int) {
	pl, t := &r.pl, r.t
	if v == TooLong || v == Superpacket {
		r.end("size", v, "%d bytes: %s", pl.OutLen, v.Info().Doc)
		return
	}
	r.identification()
	out, wire := pl.OutLen, pl.wire
	text := fmt.Sprintf("%d bytes become %d", pl.Len, out)
	if wire != out {
		text += fmt.Sprintf(", on the wire in segments of %d", wire)
	}
	said := pl.inner.msg.rest
	v = t.fit(pl, mtuIn, mtuOut) // Fit without its short cut
	if pl.mss.at != 0 {
		become := "stays"
		if pl.mss.now < pl.mss.said {
			become = fmt.Sprintf("becomes %d", pl.mss.now)
		}
		r.say("size", "RFC 9293 3.7.1", "a SYN: the segment size that it offers, %d bytes, %s (tcp_mss_clamp; MTU on the way in: %s, out: %s)", pl.mss.said, become, mtuText(mtuIn), mtuText(mtuOut))
	}
	if pl.kind == kindError && pl.inner.mtu {
		r.say("size", r.section("4.2", "5.2"), "the MTU in the message, %d for the other header, becomes %d: the least of that, the link to the router (%s) and the link on (%s), and never less than %s",
			said, pl.inner.msg.rest, mtuText(mtuIn), mtuText(mtuOut), map[Family]string{V4: "68", V6: "1280"}[pl.To])
	}
	link := "the next link's MTU is not known"
	if mtuOut > 0 {
		link = fmt.Sprintf("the next link's MTU is %d", mtuOut)
	}
	section := r.section("4", "5")
	switch v {
	case Forward:
		r.say("size", section, "%s; %s: it fits", text, link)
	case Split:
		why := "DF is clear"
		if pl.From == V6 {
			section = "RFC 7915 5.1.1"
			why = "IPv6 nodes need not send less than 1280 bytes"
		} else if pl.cut == t.lowest {
			why = fmt.Sprintf("DF is clear, lowest_ipv6_mtu is %d", t.lowest)
		}
		if pl.kind == kindError {
			why = "an ICMP error is never answered"
		}
		r.steps = append(r.steps, Step{"size", fmt.Sprintf("%s; %s, %s: split into fragments of at most %d", text, link, why, pl.cut), section, v})
	case TooBig4, TooBig6:
		why := "DF is set"
		if pl.From == V6 {
			why = "IPv6 packets over 1280 bytes are not split"
		}
		r.end("size", v, "%s; %s, %s: the sender is told an MTU of %d", text, link, why, pl.param)
	default:
		r.end("size", v, "%s; %s: %s", text, link, v.Info().Doc)
	}
}

func mtuText(mtu int) string {
	if mtu <= 0 {
		return "not known"
	}
	return fmt.Sprintf("%d", mtu)
}

// identification tells what fragmentation fields the new header has.
func (r *tracer) identification() {
	pl, o := &r.pl, &r.pl.out
	switch {
	case pl.To == V4 && o.flags&isFragment != 0:
		r.say("fragment", "RFC 7915 5.1.1", "the Fragment Header becomes identification 0x%04x (its low 16 bits), offset %d, MF %d; DF is clear", o.id&0xffff, int(o.offset)*8, o.flags&more/more)
	case pl.To == V4 && o.flags&generateID != 0:
		r.say("fragment", "RFC 7915 5.1", "not over %d bytes: DF is clear, and an identification is generated", clearDF)
	case pl.To == V4:
		r.say("fragment", "RFC 7915 5.1", "over %d bytes: DF is set, and the identification is 0", clearDF)
	case o.flags&isFragment != 0:
		r.say("fragment", r.section("4.1", "5.1.1"), "a fragment: it gets a Fragment Header with identification 0x%x, offset %d, M %d", o.id, int(o.offset)*8, o.flags&more/more)
	}
}
