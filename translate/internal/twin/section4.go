package twin

import (
	"net/netip"
	"slices"

	"aarch64.com/isthmus/translate"
)

// section4 is RFC 7915 section 4: from IPv4 to IPv6.
func (w *work) section4() translate.Verdict {
	p := w.in.Packet
	h, pointer, v := parseIPv4(p, false)
	w.old, w.bad = h, uint32(pointer)<<24 // RFC 792: the pointer is one byte
	w.res.Length = min(h.total, len(p))

	// A packet for somebody else is not judged further than its form.
	var dst netip.Addr
	if v == translate.Forward || v.Action() == translate.Answer {
		var mine translate.Verdict
		if dst, mine = w.destination4(h.dst); mine != translate.Forward {
			return mine
		}
	}
	if v != translate.Forward {
		return v
	}
	src, v := w.source4()
	if v != translate.Forward {
		return v
	}
	if slices.Contains(w.in.Config.Local6, dst) {
		return translate.LocalDestination6
	}
	// "Hop Limit: [...] As part of decrementing the TTL or Hop Limit, the
	// translator (as any router) MUST check for zero and send the ICMPv4 'TTL
	// Exceeded' or ICMPv6 'Hop Limit Exceeded' error."
	if h.ttl <= 1 {
		return translate.TTL4
	}

	w.new = w.header4to6(h)
	w.new.src, w.new.dst = src, dst
	w.new.ttl = h.ttl - 1
	if v := w.transport(p[h.length:h.total]); v != translate.Forward {
		return v
	}
	return w.fit()
}

// header4to6 is what RFC 7915 4.1 says about each field but addresses and Hop
// Limit.
func (w *work) header4to6(h header) header {
	n := h
	n.version = 6
	// "Traffic Class: By default, copied from the IP Type Of Service (TOS) octet.
	// [...] a translator MUST provide an option to ignore TOS and always set the
	// IPv6 traffic class to zero."
	n.tos = w.trafficClass(h.tos)
	// "Next Header: For ICMPv4 (1), it is changed to ICMPv6 (58); otherwise, the
	// protocol field MUST be copied from the IPv4 header."
	if h.proto == 1 {
		n.proto = 58
	}
	// "Identification: The low-order 16 bits copied from the Identification field
	// in the IPv4 header. The high-order 16 bits set to zero." Fragment Offset and
	// M flag are copied.
	n.id = h.id & 0xffff
	return n
}

func (w *work) trafficClass(x byte) byte {
	if w.in.Config.TOS.Fixed {
		return w.in.Config.TOS.Value
	}
	return x
}

// destination4: RFC 7915 6, RFC 7757 3.3.1: a mapping, else the algorithm of
// RFC 6052.
func (w *work) destination4(a netip.Addr) (netip.Addr, translate.Verdict) {
	if slices.Contains(w.in.Config.Local4, a) {
		return netip.Addr{}, translate.ToHost4
	}
	if martian(a) {
		return netip.Addr{}, translate.MartianDestination4
	}
	if six, ok := w.eam4to6(a); ok {
		return six, translate.Forward
	}
	if p, ok := w.network(); ok {
		return Embed(p, a), translate.Forward
	}
	return netip.Addr{}, translate.NotOurs4
}

// errorMessage4 tells the ICMPv4 error messages (RFC 1122 3.2.2): unreachable,
// quench, redirect, time exceeded, parameter problem.
func errorMessage4(typ byte) bool {
	return typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12
}

// source4 translates the source.
//
// RFC 7915 4.1: "If the translator gets an illegal source address (e.g.,
// 0.0.0.0, 127.0.0.1, etc.), the translator SHOULD silently discard the packet
// [...]. Note when translating ICMPv4 Error Messages into ICMPv6 Error Messages,
// the 'illegal' source address will be translated for the purpose of trouble
// shooting."
func (w *work) source4() (netip.Addr, translate.Verdict) {
	c, h := &w.in.Config, w.old
	a := h.src
	payload := w.in.Packet[h.length:h.total]
	isError := h.proto == 1 && h.offset == 0 && len(payload) > 0 && errorMessage4(payload[0])
	if martian(a) && !isError {
		return netip.Addr{}, translate.MartianSource4
	}
	if six, mapped := w.eam4to6(a); mapped {
		// RFC 7757 4.2.1, simple hairpinning: between two mapped nodes, the source
		// is shown under the translation prefix.
		_, other := w.eam4to6(h.dst)
		if c.Hairpin != translate.HairpinSimple || !other || len(c.Pool6) == 0 {
			return six, translate.Forward
		}
	}
	if len(c.Pool6) == 0 {
		if isError && len(c.ICMPSource6) > 0 {
			return w.routerSource(c.ICMPSource6), translate.Forward
		}
		return netip.Addr{}, translate.NoMapping4
	}
	if martian(a) || w.banned(c.Pool6[0], a) {
		if !isError {
			return netip.Addr{}, translate.PrivateSource4
		}
		if len(c.ICMPSource6) > 0 {
			return w.routerSource(c.ICMPSource6), translate.Forward
		}
	}
	return Embed(c.Pool6[0], a), translate.Forward
}
