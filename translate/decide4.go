package translate

// decide4 knows every rule for packets that come as IPv4.
func (t *Translator) decide4(pl *Plan, p []byte, m Meta) Verdict {
	pl.quick = false
	pl.From, pl.To, pl.Len = V4, V6, 0
	h, v := parse4(p, false)
	pl.Len = min(h.total, len(p))
	// An ICMPv4 pointer is the first byte of the second word (RFC 792).
	pl.param = uint32(h.bad) << 24
	var dst addr
	// A packet for somebody else is somebody else's to judge.
	if v == Forward || v.Action() == Answer {
		var mine Verdict
		if dst, mine = t.destination4(h.dst.v4()); mine != Forward {
			return pl.end(mine)
		}
	}
	if v != Forward {
		return pl.end(v)
	}
	src, v := t.source4(&h, p)
	if v != Forward {
		return pl.end(v)
	}
	if _, local := t.local6.Lookup(dst.hi, dst.lo); local {
		return pl.end(LocalDestination6)
	}
	if h.ttl <= 1 {
		return pl.end(TTL4)
	}
	o := &pl.out
	*o = h.header
	o.src, o.dst = src, dst
	o.ttl--
	o.tos = t.trafficClass(h.tos)
	return t.finish(pl, &h, p, m)
}

// destination4 translates a destination: by a mapping, or under a prefix that
// may hold IPv6 nodes, which the well-known one may not (RFC 6052 3.3).
func (t *Translator) destination4(v uint32) (addr, Verdict) {
	class := t.class4(v)
	switch {
	case class&classLocal != 0:
		return addr{}, ToHost4
	case class&classMartian != 0:
		return addr{}, MartianDestination4
	}
	if class&classEAM != 0 {
		if a, ok := t.table.to6(v); ok {
			return a, Forward
		}
	}
	if t.network != nil {
		return t.network.embed(v), Forward
	}
	return addr{}, NotOurs4
}

// source4 translates a source. That of an ICMP error is translated even if it is
// illegal or private, or path MTU discovery would die (RFC 7915 4.1): under a
// pool address where one is set (RFC 6791), else as it is.
func (t *Translator) source4(h *parsed, p []byte) (addr, Verdict) {
	v := h.src.v4()
	isErr := h.proto == protoICMP4 && h.offset == 0 && h.payload > 0 && isError4(p[h.l4])
	class := t.class4(v)
	if class&classMartian != 0 && !isErr {
		return addr{}, MartianSource4
	}
	if class&classEAM != 0 {
		// Between two mapped nodes, the source is shown as the other one
		// addresses it, so that answers come back (RFC 7757 4.2.1).
		hairpin := false
		if t.simple && len(t.pools) > 0 && t.class4(h.dst.v4())&classEAM != 0 {
			_, hairpin = t.table.to6(h.dst.v4())
		}
		if a, ok := t.table.to6(v); ok && !hairpin {
			return a, Forward
		}
	}
	if len(t.pools) == 0 {
		if isErr && len(t.config.ICMPSource6) > 0 {
			return pick6(t.config.ICMPSource6, hash4(v)), Forward
		}
		return addr{}, NoMapping4
	}
	if class&classMartian != 0 || t.bannedUnder(&t.pools[0], v) {
		if !isErr {
			return addr{}, PrivateSource4
		}
		if len(t.config.ICMPSource6) > 0 {
			return pick6(t.config.ICMPSource6, hash4(v)), Forward
		}
	}
	return t.pools[0].embed(v), Forward
}
