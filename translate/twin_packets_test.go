package translate_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/twin"
)

// maker makes packets of every kind, most of them right, some nearly.
type maker struct {
	*rand.Rand
	config *translate.Config
}

func (r maker) chance(percent int) bool { return r.IntN(100) < percent }

func pick[T any](r maker, list ...T) T { return list[r.IntN(len(list))] }

// add16 is the sum that checksums are made of (RFC 1071).
func add16(parts ...[]byte) uint16 {
	var s uint64
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			s += uint64(b[i])<<8 | uint64(b[i+1])
		}
		if len(b)%2 == 1 {
			s += uint64(b[len(b)-1]) << 8
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func (r maker) addr4() netip.Addr {
	list := []string{
		"192.0.2.33", "203.0.113.5", "198.18.4.1", "192.0.2.7", "198.51.100.9", "198.51.100.10", "198.51.100.8",
		"198.51.101.1", "198.51.97.3", "198.51.98.3", "198.51.100.200", "8.8.8.8", "192.0.2.200",
	}
	if r.chance(15) {
		list = []string{
			"10.1.2.3", "172.16.0.1", "172.32.0.1", "100.64.0.1", "100.128.0.1", "192.0.0.1", "192.0.1.1", "192.168.1.1", "198.19.255.255",
			"0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
			"203.0.113.2", "203.0.113.65", "198.51.100.11",
		}
	}
	return netip.MustParseAddr(pick(r, list...))
}

func (r maker) addr6() netip.Addr {
	switch x := r.IntN(100); {
	case x < 50 && len(r.config.Pool6) > 0:
		return r.dirty(twin.Embed(pick(r, r.config.Pool6...), r.addr4()))
	case x < 92:
		return netip.MustParseAddr(pick(r, "2001:db8:aaaa::1", "2001:db8:bbbb::2", "2001:db8:aaaa::1", "2001:db8:bbbb::2",
			"2001:db8:cccc:0:900::", "2001:db8:cccc::9", "2001:db8:cccc::8:1", "2001:db8:dddd::77", "2001:db8:eeee:1::", "2001:db8:eeee:8001::",
			"2001:4860::1", "2001:4860::c800:0:0:1", "64:ff9b::c000:2a1", "2001:db8:9::9", "2001:db8:122:344::1"))
	}
	return netip.MustParseAddr(pick(r, "::", "::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "2001:db8::2", "2001:db8:64::7f00:1", "2001:db8:9::1"))
}

// dirty sets bits that RFC 6052 says to ignore when read.
func (r maker) dirty(a netip.Addr) netip.Addr {
	b := a.As16()
	if r.chance(10) && len(r.config.Pool6) > 0 && r.config.Pool6[0].Bits() < 96 {
		b[pick(r, 8, 13, 14, 15)] ^= 1 << r.IntN(8)
	}
	return netip.AddrFrom16(b)
}

func (r maker) length() int {
	switch x := r.IntN(100); {
	case x < 45:
		return r.IntN(64)
	case x < 75:
		return pick(r, 68, 256, 508, 528, 548, 556, 1200, 1212, 1220, 1228, 1232, 1240, 1260, 1280, 1380, 1400, 1420, 1440, 1452, 1460, 1472, 1480) + r.IntN(17) - 8
	case x < 97:
		return r.IntN(1600)
	case x < 99:
		return r.IntN(9000)
	}
	return pick(r, 65535, 65515, 65507, 65495, 65455, 65400) - r.IntN(70)
}

func (r maker) some(n int) []byte {
	b := make([]byte, n)
	if r.chance(12) {
		return b // all zero: the corner of one's complement arithmetic
	}
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// packet makes an IP packet of a family; depth limits packets in ICMP errors.
func (r maker) packet(v6 bool, src, dst netip.Addr, depth int) []byte {
	proto := pick[byte](r, 6, 6, 17, 17, 1, 1, 2, 58, 58, 136, 33, 132, 47, 50, 51, 59, 0, 43, 44, 60, 255, 2)
	if v6 && proto == 1 && r.chance(90) {
		proto = 58
	} else if !v6 && proto == 58 && r.chance(90) {
		proto = 1
	}
	body := r.transport(proto, v6, src, dst, depth)
	if v6 {
		return r.ipv6(proto, src, dst, body)
	}
	return r.ipv4(proto, src, dst, body)
}

// transport makes what stands behind the IP headers, checksum included.
func (r maker) transport(proto byte, v6 bool, src, dst netip.Addr, depth int) []byte {
	b := r.some(r.length())
	at := -1
	switch proto {
	case 6:
		if len(b) > 12 {
			b[12] = byte(5+r.IntN(3))<<4 | b[12]&15
		}
		r.tcpOptions(b)
		at = 16
	case 17, 136, 33:
		at = 6
		if proto == 17 && len(b) >= 8 {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
			if r.chance(6) {
				binary.BigEndian.PutUint16(b[4:], uint16(r.IntN(len(b)+4)))
			}
		}
	case 1, 58:
		b = r.icmp(proto == 58, dst, src, depth)
		at = 2
	}
	if at < 0 || len(b) < at+2 {
		return b
	}
	b[at], b[at+1] = 0, 0
	if proto == 17 && r.chance(15) {
		return b // no checksum
	}
	pseudo := append(append([]byte{}, src.AsSlice()...), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)))
	pseudo = append(pseudo, 0, 0, 0, proto)
	if proto == 1 {
		pseudo = nil
	}
	c := ^add16(pseudo, b)
	switch {
	case r.chance(5):
		c = pick(r, 0, 0xffff, uint16(r.Uint32())) // wrong, most likely
	case proto == 17 && c == 0:
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], c)
	return b
}

// tcpOptions puts a segment size in front, behind up to three bytes, so that it
// stands on odd bytes, too. Some are broken.
func (r maker) tcpOptions(b []byte) {
	i := 20
	if len(b) < 28 || r.chance(50) {
		return
	}
	b[12] = 7 << 4
	for range r.IntN(4) {
		b[i] = 1
		i++
	}
	copy(b[i:], []byte{2, 4})
	binary.BigEndian.PutUint16(b[i+2:], pick[uint16](r, 0, 1, 535, 536, 537, 1220, 1240, 1440, 1460, 8960, 65535, uint16(r.Uint32())))
	if r.chance(10) {
		b[i+r.IntN(2)] = byte(r.IntN(8))
	}
	if r.chance(5) {
		b[12] = byte(r.IntN(16)) << 4
	}
}

// icmp makes an ICMP message, errors with a packet that went the other way.
func (r maker) icmp(v6 bool, innerSrc, innerDst netip.Addr, depth int) []byte {
	typ := byte(r.IntN(20))
	code := byte(r.IntN(18))
	if v6 {
		typ = pick(r, byte(r.IntN(8)), byte(126+r.IntN(20)), byte(1+r.IntN(4)), byte(1+r.IntN(4)))
		code = byte(r.IntN(8))
	} else if r.chance(50) {
		typ = pick[byte](r, 3, 3, 11, 12)
	}
	if r.chance(20) {
		typ, code = pick[byte](r, 0, 8), 0
		if v6 {
			typ += 128
			if typ == 136 {
				typ = 129
			}
		}
	}
	b := []byte{typ, code, 0, 0, 0, 0, 0, 0}
	isError := v6 && typ < 5 || !v6 && (typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12)
	if !isError || depth == 0 {
		return append(b[:r.cut(len(b), 3)], r.some(r.length())...)
	}
	switch {
	case !v6 && typ == 12:
		b[4] = byte(r.IntN(22))
	case v6 && typ == 4:
		b[7] = byte(r.IntN(42))
		if r.chance(5) {
			b[4] = 1
		}
	case !v6 && typ == 3 && code == 4:
		binary.BigEndian.PutUint16(b[6:], uint16(pick(r, 0, 0, 1, 68, 576, 1259, 1260, 1280, 1400, 1480, 1500, 65535)))
	case v6 && typ == 2:
		binary.BigEndian.PutUint32(b[4:], pick[uint32](r, 0, 1, 19, 20, 68, 88, 1280, 1300, 1500, 9000, 65536, 0xffffffff))
	case r.chance(5):
		copy(b[4:], r.some(4))
	}
	if r.chance(15) {
		innerSrc = r.addr4()
		if v6 {
			innerSrc = r.addr6()
		}
	}
	inner := r.packet(v6, innerSrc, innerDst, depth-1)
	inner = inner[:r.cut(len(inner), 60)]
	if r.chance(60) {
		inner = inner[:min(len(inner), pick(r, 28, 48, 128, 136, 500, 548, 1232, 1400))]
	}
	if !r.chance(35) {
		return append(b, inner...)
	}
	// RFC 4884: pad the quote, then extensions.
	unit := 4
	if v6 {
		unit = 8
	}
	for len(inner)%unit != 0 || len(inner) < 128 && !r.chance(10) {
		inner = append(inner, 0)
	}
	inner = inner[:min(len(inner), 255*unit)]
	words := len(inner) / unit
	if r.chance(5) {
		words = r.IntN(256)
	}
	if v6 {
		b[4] = byte(words)
	} else {
		b[5] = byte(words)
	}
	ext := append([]byte{0x20, 0, 0, 0}, r.some(pick(r, 0, 4, 8, 12, 60, 200, 420, 500, 1000))...)
	if r.chance(15) {
		ext = nil
	}
	return append(append(b, inner...), ext...)
}

// cut shortens a length in percent of the cases.
func (r maker) cut(n, percent int) int {
	if n > 0 && r.chance(percent) {
		return r.IntN(n)
	}
	return n
}

func (r maker) ttl() byte {
	return pick[byte](r, 64, 64, 64, 64, 64, 64, 255, 2, 2, 1, 0)
}

func (r maker) ipv4(proto byte, src, dst netip.Addr, body []byte) []byte {
	var options []byte
	if r.chance(12) {
		options = pick(r,
			[]byte{1, 1, 1, 0}, []byte{148, 4, 0, 0}, []byte{7, 7, 4, 0, 0, 0, 0, 0},
			[]byte{131, 7, 4, 1, 2, 3, 4, 0}, []byte{137, 7, 8, 1, 2, 3, 4, 0}, []byte{1, 131, 3, 4},
			[]byte{131, 2, 0, 0}, []byte{7, 0, 0, 0}, []byte{7, 1, 0, 0}, []byte{7, 9, 0, 0}, []byte{1, 1, 1, 7},
			append([]byte{0}, r.some(39)...), r.some(4*r.IntN(11)))
	}
	b := make([]byte, 20, 20+len(options)+len(body))
	b[0] = 0x45 + byte(len(options)/4)
	b[1] = byte(r.Uint32())
	binary.BigEndian.PutUint16(b[4:], uint16(r.Uint32()))
	word := pick[uint16](r, 0, 0, 0, 0x4000, 0x4000, 0x4000, 0x8000)
	if r.chance(15) {
		word |= pick[uint16](r, 0x2000, 1, 0x2001, 185, 0x1fff, 8000, 0x2000|r.offset()/8, r.offset()/8)
		if word&0x2000 != 0 && r.chance(80) {
			body = body[:len(body)/8*8]
		}
	}
	binary.BigEndian.PutUint16(b[6:], word)
	b[8], b[9] = r.ttl(), proto
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	b = append(append(b, options...), body...)
	binary.BigEndian.PutUint16(b[2:], uint16(min(len(b), 65535)))
	r.spoil(b[2:4], 3)
	r.spoil(b[:1], 2)
	header := min(len(b), int(b[0]&15)*4)
	binary.BigEndian.PutUint16(b[10:], ^add16(b[:header]))
	r.spoil(b[10:12], 2)
	return b
}

func (r maker) offset() uint16 { return uint16(r.Uint32()) &^ 7 }

func (r maker) ipv6(proto byte, src, dst netip.Addr, body []byte) []byte {
	next := proto
	var chain []byte
	if r.chance(25) {
		// From the last extension header to the first.
		for range 1 + r.IntN(3) {
			kind := pick[byte](r, 0, 43, 44, 44, 44, 60, 60, 51)
			if r.chance(1) {
				kind = 60
				for range 16 {
					chain = append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, chain...)
					next = kind
				}
			}
			e := append([]byte{next, byte(r.IntN(3))}, make([]byte, 6)...)
			switch kind {
			case 44:
				copy(e[1:], r.some(7))
				binary.BigEndian.PutUint16(e[2:], pick(r, 0, 0, 1, 8, 9, 1480, 1481, r.offset(), r.offset()|1))
				if e[3]&1 != 0 && r.chance(80) {
					body = body[:len(body)/8*8]
				}
			case 51:
				e = append(e, make([]byte, int(e[1])*4)...)
			default:
				if kind == 43 && r.chance(30) {
					e[3] = 1
				}
				e = append(e, r.some(int(e[1])*8)...)
			}
			chain = append(e, chain...)
			next = kind
		}
	}
	b := make([]byte, 40, 40+len(chain)+len(body))
	binary.BigEndian.PutUint32(b, 6<<28|r.Uint32()>>4)
	b[6], b[7] = next, r.ttl()
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	b = append(append(b, chain...), body...)
	binary.BigEndian.PutUint16(b[4:], uint16(min(len(b)-40, 65535)))
	r.spoil(b[4:6], 3)
	return b
}

// spoil changes a field in percent of the cases.
func (r maker) spoil(field []byte, percent int) {
	if r.chance(percent) {
		field[r.IntN(len(field))] ^= byte(1 << r.IntN(8))
	}
}

// any makes a packet for the pair's configuration, with everything that can
// happen to one on its way.
func (r maker) any() []byte {
	var p []byte
	if r.chance(50) {
		src := r.addr6()
		if r.chance(50) {
			src = netip.MustParseAddr(pick(r, "2001:db8:aaaa::1", "2001:db8:bbbb::2", "2001:4860::c800:0:0:1"))
		}
		dst := r.addr6()
		if r.chance(80) && len(r.config.Pool6) > 0 {
			dst = twin.Embed(pick(r, r.config.Pool6...), r.addr4())
		}
		p = r.packet(true, src, dst, 2)
	} else {
		dst := r.addr4()
		if r.chance(60) {
			dst = netip.MustParseAddr(pick(r, "198.18.4.1", "192.0.2.7"))
		}
		p = r.packet(false, r.addr4(), dst, 2)
	}
	if r.chance(5) { // somewhere, anything
		for range 1 + r.IntN(3) {
			p[r.IntN(min(len(p), 80))] = byte(r.Uint32())
		}
	}
	p = p[:r.cut(len(p), 3)]
	if r.chance(10) { // Ethernet padding
		p = append(p, r.some(r.IntN(46))...)
	}
	return p
}

func (r maker) meta() (m translate.Meta) {
	if r.chance(15) {
		m.PartialChecksum = true
	}
	if r.chance(12) {
		m.SegmentSize = pick[uint16](r, 100, 1200, 1220, 1240, 1400, 1440, 1460, 65535)
	}
	return m
}
