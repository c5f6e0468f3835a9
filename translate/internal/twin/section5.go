package twin

import (
	"net/netip"
	"slices"

	"aarch64.com/isthmus/translate"
)

// section5 is RFC 7915 section 5: from IPv6 to IPv4.
func (w *work) section5() translate.Verdict {
	c, p := &w.in.Config, w.in.Packet
	h, pointer, v := parseIPv6(p, false)
	w.old, w.bad = h, uint32(pointer)
	w.res.Length = min(h.total, len(p))

	// A packet for somebody else is not judged further than its form.
	if v == translate.Forward || v.Action() == translate.Answer {
		_, mapped := w.eam6to4(h.dst)
		_, pooled := w.poolOf(h.dst)
		switch {
		case slices.Contains(c.Local6, h.dst):
			return translate.ToHost6
		case martian(h.dst):
			return translate.MartianDestination6
		case !mapped && !pooled:
			return translate.NotOurs6
		}
	}
	if v != translate.Forward {
		return v
	}

	dst, via, v := w.destination6(h.dst)
	if v != translate.Forward {
		return v
	}
	w.via = via
	src, v := w.source6()
	if v != translate.Forward {
		return v
	}

	// RFC 7757 4.2.2, intrinsic hairpinning: a destination under the translation
	// prefix whose IPv4 address has a mapping is translated back at once, its
	// source shown under that prefix.
	six, hairpin := w.eam4to6(dst)
	hairpin = hairpin && via.IsValid() && c.Hairpin == translate.HairpinIntrinsic
	if hairpin {
		if w.banned(via, src) {
			return translate.PrivateSource4
		}
		if slices.Contains(c.Local6, six) {
			return translate.LocalDestination6
		}
	}

	// "Time to Live: [...] As part of decrementing the TTL or Hop Limit, the
	// translator (as any router) MUST check for zero and send the ICMPv4 'TTL
	// Exceeded' or ICMPv6 'Hop Limit Exceeded' error."
	if h.ttl <= 1 {
		return translate.HopLimit6
	}
	w.new = w.header6to4(h)
	if hairpin {
		w.res.To = translate.V6
		w.new = w.header4to6(w.new)
		w.new.src, w.new.dst = Embed(via, src), six
	} else {
		w.new.src, w.new.dst = src, dst
	}
	w.new.ttl = h.ttl - 1
	if v := w.transport(p[h.length:h.total]); v != translate.Forward {
		return v
	}
	// RFC 791 3.1: the total length has 16 bits.
	if 20+len(w.body) > 65535 {
		return translate.TooLong
	}
	return w.fit()
}

// header6to4 is what RFC 7915 5.1 and 5.1.1 say about each field but addresses,
// Time to Live, and what depends on the size (flags).
func (w *work) header6to4(h header) header {
	n := h
	n.version = 4
	// "Type of Service (TOS) Octet: By default, copied from the IPv6 Traffic Class
	// (all 8 bits)." An option sets it to a fixed value.
	n.tos = w.trafficClass(h.tos)
	// "Protocol: For ICMPv6 (58), it is changed to ICMPv4 (1); otherwise, [...]
	// copied."
	if h.proto == 58 {
		n.proto = 1
	}
	// 5.1.1: "Identification: Copied from the low-order 16 bits in the
	// Identification field in the Fragment Header." "Flags: [...] The Don't
	// Fragment (DF) bit is set to zero." Offset and M are copied.
	n.id = h.id & 0xffff
	n.dontFragment = false
	return n
}

// destination6: RFC 7757 3.3.2: a mapping, else the algorithm of RFC 6052 with
// the prefix via.
func (w *work) destination6(a netip.Addr) (dst netip.Addr, via netip.Prefix, v translate.Verdict) {
	dst, mapped := w.eam6to4(a)
	if !mapped {
		via, _ = w.poolOf(a)
		dst = extract(via, a)
	}
	switch {
	case martian(dst):
		v = translate.MartianDestination4
	case slices.Contains(w.in.Config.Local4, dst):
		v = translate.LocalDestination4
	case slices.ContainsFunc(w.in.Config.Deny4, func(p netip.Prefix) bool { return p.Contains(dst) }):
		v = translate.Denied4
	case w.banned(via, dst):
		v = translate.PrivateDestination4
	default:
		v = translate.Forward
	}
	return dst, via, v
}

// source6 translates the source.
//
// RFC 6791 3: an ICMPv6 error from a router whose address has no IPv4 counterpart
// gets one of a pool. RFC 6052 3.3: no node lives under the well-known prefix.
func (w *work) source6() (netip.Addr, translate.Verdict) {
	h := w.old
	if martian(h.src) {
		return netip.Addr{}, translate.MartianSource6
	}
	// RFC 2827 3: "restricting transit traffic which originates from a downstream
	// network to known, and intentionally advertised, prefix(es)". Routers are
	// elsewhere, and are shown as those without a mapping.
	allowed := len(w.in.Config.VMPrefixes) == 0 || within(w.in.Config.VMPrefixes, h.src)
	if four, ok := w.eam6to4(h.src); ok && allowed {
		return four, translate.Forward
	}
	via, pooled := w.poolOf(h.src)
	if allowed && pooled && via != wellKnown {
		four := extract(via, h.src)
		if martian(four) {
			return netip.Addr{}, translate.MartianSource4
		}
		if slices.Contains(w.in.Config.Local4, four) {
			return netip.Addr{}, translate.LocalSource4
		}
		return four, translate.Forward
	}
	// RFC 4443 2.1: error messages have "a zero in the high-order bit".
	payload := w.in.Packet[h.length:h.total]
	if h.proto == 58 && h.offset == 0 && len(payload) > 0 && payload[0]&0x80 == 0 {
		if len(w.in.Config.ICMPSource4) == 0 {
			return netip.Addr{}, translate.NoErrorSource4
		}
		return w.routerSource(w.in.Config.ICMPSource4), translate.Forward
	}
	if !allowed {
		return netip.Addr{}, translate.ForeignSource6
	}
	if pooled {
		return netip.Addr{}, translate.WellKnownSource6
	}
	return netip.Addr{}, translate.NoMapping6
}
