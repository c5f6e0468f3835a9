package translate

// decide6 knows every rule for packets that come as IPv6.
func (t *Translator) decide6(pl *Plan, p []byte, m Meta) Verdict {
	pl.quick = false
	pl.From, pl.To, pl.Len = V6, V4, 0
	h, v := parse6(p, false)
	pl.Len = min(h.total, len(p))
	pl.param = uint32(h.bad)
	// A packet for somebody else is somebody else's to judge.
	if len(p) >= header6Len && (v == Forward || v.Action() == Answer) {
		if v := t.mine6(h.dst); v != Forward {
			return pl.end(v)
		}
	}
	if v != Forward {
		return pl.end(v)
	}

	dst, via, v := t.destination6(h.dst)
	if v != Forward {
		return pl.end(v)
	}
	src, v := t.source6(&h, p)
	if v != Forward {
		return pl.end(v)
	}
	o := &pl.out
	*o = h.header
	o.src, o.dst = from4(src), from4(dst)

	// A destination that is a mapped node's IPv4 address goes straight back to
	// IPv6, its source shown as IPv4 hosts see it (RFC 7757 4.2.2).
	if via != nil && t.intrinsic && t.class[dst>>16]&classEAM != 0 {
		if six, ok := t.table.to6(dst); ok {
			if t.bannedUnder(via, src) {
				return pl.end(PrivateSource4)
			}
			if _, local := t.local6.Lookup(six.hi, six.lo); local {
				return pl.end(LocalDestination6)
			}
			pl.To = V6
			o.src, o.dst = via.embed(src), six
		}
	}

	if h.ttl <= 1 {
		return pl.end(HopLimit6)
	}
	o.ttl--
	o.tos = t.trafficClass(h.tos)
	o.id &= 0xffff // by way of IPv4, even back to IPv6
	return t.finish(pl, &h, p, m)
}

// mine6 tells whether an IPv6 destination is the translator's.
func (t *Translator) mine6(dst addr) Verdict {
	if _, ok := t.local6.Lookup(dst.hi, dst.lo); ok {
		return ToHost6
	}
	if martian6(dst) {
		return MartianDestination6
	}
	if _, ok := t.table.to4(dst); ok || t.poolOf(dst) != nil {
		return Forward
	}
	return NotOurs6
}

// poolOf gives the pool6 prefix that covers a, or nil.
func (t *Translator) poolOf(a addr) *pool {
	for i := range t.pools {
		if t.pools[i].contains(a) {
			return &t.pools[i]
		}
	}
	return nil
}

// destination6 translates a destination; via is the pool6 prefix it is under,
// nil for a mapping, which comes first (RFC 7757 3.3.2).
func (t *Translator) destination6(a addr) (dst uint32, via *pool, v Verdict) {
	dst, mapped := t.table.to4(a)
	if !mapped {
		via = t.poolOf(a)
		dst = via.extract(a)
	}
	class := t.class4(dst)
	switch {
	case class&classMartian != 0:
		return 0, nil, MartianDestination4
	case class&classLocal != 0:
		return 0, nil, LocalDestination4
	case class&classDenied != 0:
		return 0, nil, Denied4
	case via != nil && t.bannedUnder(via, dst):
		return 0, nil, PrivateDestination4
	}
	return dst, via, Forward
}

// bannedUnder tells whether a non-global IPv4 address would stand under the
// well-known prefix (RFC 6052 3.1).
func (t *Translator) bannedUnder(p *pool, v uint32) bool {
	return p.wellKnown && t.class4(v)&classPrivate != 0
}

// isVM tells whether an IPv6 address is in Config.VMPrefixes.
func (t *Translator) isVM(a addr) bool {
	if t.vms == nil {
		return true
	}
	_, ok := t.vms.Lookup(a.hi, a.lo)
	return ok
}

// source6 translates a source. That of an ICMP error may be a router without a
// mapping, which is shown under an address of the pool (RFC 6791). So is one
// outside of VMPrefixes, whose mapping anybody could borrow; anything else that it
// sends has no answer, for that would go to whom the source was taken from.
func (t *Translator) source6(h *parsed, p []byte) (uint32, Verdict) {
	if martian6(h.src) {
		return 0, MartianSource6
	}
	vm := t.isVM(h.src)
	if v, ok := t.table.to4(h.src); ok && vm {
		return v, Forward
	}
	via := t.poolOf(h.src)
	if vm && via != nil && !via.wellKnown {
		v := via.extract(h.src)
		class := t.class4(v)
		switch {
		case class&classMartian != 0:
			return 0, MartianSource4
		case class&classLocal != 0:
			return 0, LocalSource4
		}
		return v, Forward
	}
	if h.proto == protoICMP6 && h.offset == 0 && h.l4 < len(p) && h.payload > 0 && p[h.l4] < icmp6FirstQuery {
		if len(t.config.ICMPSource4) == 0 {
			return 0, NoErrorSource4
		}
		return pick4(t.config.ICMPSource4, hash6(mix(h.src.hi, h.src.lo))), Forward
	}
	switch {
	case !vm:
		return 0, ForeignSource6
	case via != nil:
		return 0, WellKnownSource6
	}
	return 0, NoMapping6
}
