package twin

import (
	"encoding/binary"
	"net/netip"

	"aarch64.com/isthmus/translate"
)

// quoted translates the packet in an ICMP error.
//
// RFC 7915 4.3: "The translation of the inner IP header can be done by invoking the
// function that translated the outer IP headers. This process MUST stop at the
// first embedded IP header and drop the packet if it contains more embedded
// headers." "Note that the TTL [...] of the inner" packet stays: it is not being
// forwarded.
func (w *work) quoted(p []byte) (datagram []byte, total int, v translate.Verdict) {
	to := w.new.version
	var h header
	if w.old.version == 4 {
		h, _, v = parseIPv4(p, true)
	} else {
		h, _, v = parseIPv6(p, true)
	}
	switch v {
	case translate.Forward:
	case translate.BadVersion:
		return nil, 0, translate.InnerVersion
	case translate.BadLength, translate.BadHeaderLength4, translate.Jumbogram:
		return nil, 0, translate.InnerLength
	case translate.ExtensionAfterFragment6, translate.ExtensionChain6:
		return nil, 0, translate.InnerExtension
	default:
		return nil, 0, translate.InnerShort
	}

	var n header
	if to == 4 {
		n = w.header6to4(h)
	} else if n = h; h.version == 6 {
		n = w.header4to6(w.header6to4(h))
	} else {
		n = w.header4to6(h)
	}
	n.ttl = h.ttl
	if n.src, n.dst, v = w.quotedAddresses(h); v != translate.Forward {
		return nil, 0, v
	}

	payload, v := w.quotedTransport(h, n, p[h.length:])
	if v != translate.Forward {
		return nil, 0, v
	}
	// The length fields say what the whole packet would have been.
	length := h.total - h.length
	if length > 65535-20 {
		return nil, 0, translate.InnerLength
	}
	if to == 4 && !h.fragment {
		w.flags4(&n, 20+length, &w.res.UsedInnerID, w.in.Chosen.InnerID)
	}
	return append(n.bytes(to, length), payload...), h.total, translate.Forward
}

// quotedAddresses: the source of the quoted packet is the node that the error
// goes to, so it is translated as a destination is; the destination of the
// quoted packet is where that node sent to, and was shown to it as a source is.
func (w *work) quotedAddresses(h header) (src, dst netip.Addr, v translate.Verdict) {
	if h.version == 4 {
		if src, v = w.quotedNode(h.src); v != translate.Forward {
			return src, dst, v
		}
		dst, v = w.quotedPeer(h.dst, w.in.Config.Hairpin == translate.HairpinSimple)
		return src, dst, v
	}
	if src, v = w.quoted6to4(h.src); v != translate.Forward {
		return src, dst, v
	}
	if dst, v = w.quoted6to4(h.dst); v != translate.Forward || w.new.version == 4 {
		return src, dst, v
	}
	// RFC 7757 4.2.2: a mapped node, which had sent to another one's address under
	// the translation prefix. It was shown to that one under the same prefix, to
	// which the error now came.
	if src, v = w.quotedNode(src); v != translate.Forward {
		return src, dst, v
	}
	if w.banned(w.via, dst) {
		return src, dst, translate.InnerPrivate
	}
	return src, Embed(w.via, dst), translate.Forward
}

// quotedNode is the node that the error goes to.
func (w *work) quotedNode(a netip.Addr) (netip.Addr, translate.Verdict) {
	if six, ok := w.eam4to6(a); ok {
		return six, translate.Forward
	}
	if p, ok := w.network(); ok {
		return Embed(p, a), translate.Forward
	}
	return w.underPool(a)
}

// quotedPeer is whom it had sent to. With hairpinning, that was under the
// translation prefix even for a mapped node (RFC 7757 4.2.1).
func (w *work) quotedPeer(a netip.Addr, hairpin bool) (netip.Addr, translate.Verdict) {
	if six, ok := w.eam4to6(a); ok && (!hairpin || len(w.in.Config.Pool6) == 0) {
		return six, translate.Forward
	}
	return w.underPool(a)
}

func (w *work) underPool(a netip.Addr) (netip.Addr, translate.Verdict) {
	switch pools := w.in.Config.Pool6; {
	case len(pools) == 0:
		return a, translate.InnerNoMapping
	case w.banned(pools[0], a):
		return a, translate.InnerPrivate
	default:
		return Embed(pools[0], a), translate.Forward
	}
}

func (w *work) quoted6to4(a netip.Addr) (netip.Addr, translate.Verdict) {
	if four, ok := w.eam6to4(a); ok {
		return four, translate.Forward
	}
	pool, ok := w.poolOf(a)
	if !ok {
		return a, translate.InnerNoMapping
	}
	four := extract(pool, a)
	if w.banned(pool, four) {
		return a, translate.InnerPrivate
	}
	return four, translate.Forward
}

// quotedTransport translates as much of the quoted payload as is there.
func (w *work) quotedTransport(h, n header, have []byte) ([]byte, translate.Verdict) {
	out := append([]byte{}, have...)
	length := h.total - h.length // of the pseudo-header
	if h.version == 4 && (h.proto == 0 || h.proto == 43 || h.proto == 44 || h.proto == 58 || h.proto == 60) ||
		h.version == 6 && h.proto == 1 {
		return nil, translate.InnerProtocol
	}
	at := -1
	udp := false
	if h.proto == 1 || h.proto == 58 {
		if h.offset > 0 || h.more {
			return nil, translate.InnerICMP
		}
		if len(have) == 0 {
			return out, translate.Forward
		}
		typ, ok := echo(have[0], h.version, n.version)
		if !ok {
			// An error about an error contains one more embedded header. RFC 4443
			// 2.4 e counts a redirect as one.
			if h.version == 4 && errorMessage4(have[0]) || h.version == 6 && (have[0] < 128 || have[0] == 137) {
				return nil, translate.InnerError
			}
			return nil, translate.InnerICMP
		}
		out[0] = typ
		at = 2
	} else if field, _, known := checksumField(h.proto); known && h.offset == 0 {
		at = field
		udp = h.proto == 17 || h.proto == 136
	}
	if at < 0 || len(have) < at+2 {
		return out, translate.Forward
	}
	if h.proto == 17 && have[at] == 0 && have[at+1] == 0 {
		return out, translate.Forward // none was there
	}
	c := recompute(pseudo(h, h.version, length), have, pseudo(n, n.version, length), out, at)
	if udp && c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(out[at:], c)
	return out, translate.Forward
}
