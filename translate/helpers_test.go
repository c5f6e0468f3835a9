package translate

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

// The tests' own, slow and literal, view of packets. Nothing here uses the
// code under test.

// slowSum adds 16-bit words one by one (RFC 1071).
func slowSum(parts ...[]byte) uint16 {
	var s uint32
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			w := uint32(b[i]) << 8
			if i+1 < len(b) {
				w |= uint32(b[i+1])
			}
			if s += w; s > 0xffff {
				s -= 0xffff
			}
		}
	}
	return uint16(s)
}

// pseudoHeader is RFC 8200 8.1 or RFC 793 3.1.
func pseudoHeader(ip []byte, proto byte, n int) []byte {
	if ip[0]>>4 == 4 {
		return append(append([]byte{}, ip[12:20]...), 0, proto, byte(n>>8), byte(n))
	}
	return append(append([]byte{}, ip[8:40]...), 0, 0, byte(n>>8), byte(n), 0, 0, 0, proto)
}

// view is a packet taken apart by walking it.
type view struct {
	v6       bool
	ip       []byte // the whole packet
	l4       int
	proto    byte
	fragment bool
	offset   int
	more     bool
	id       uint32
	df       bool
}

func look(ip []byte) (view, error) {
	if len(ip) < 20 {
		return view{}, fmt.Errorf("%d bytes", len(ip))
	}
	if ip[0]>>4 == 4 {
		v := view{ip: ip, l4: int(ip[0]&15) * 4, proto: ip[9]}
		if n := int(binary.BigEndian.Uint16(ip[2:])); n != len(ip) {
			return v, fmt.Errorf("IPv4 total length %d, packet %d", n, len(ip))
		}
		if v.l4 < 20 || v.l4 > len(ip) {
			return v, fmt.Errorf("header length %d", v.l4)
		}
		if s := slowSum(ip[:v.l4]); s != 0xffff {
			return v, fmt.Errorf("IPv4 header checksum: sum is %04x", s)
		}
		f := binary.BigEndian.Uint16(ip[6:])
		v.offset, v.more, v.df = int(f&0x1fff)*8, f&0x2000 != 0, f&0x4000 != 0
		v.fragment = v.offset > 0 || v.more
		v.id = uint32(binary.BigEndian.Uint16(ip[4:]))
		return v, nil
	}
	if len(ip) < 40 || ip[0]>>4 != 6 {
		return view{}, fmt.Errorf("not IPv6: %x", ip[:20])
	}
	v := view{v6: true, ip: ip, l4: 40, proto: ip[6]}
	if n := 40 + int(binary.BigEndian.Uint16(ip[4:])); n != len(ip) {
		return v, fmt.Errorf("IPv6 length %d, packet %d", n, len(ip))
	}
	for {
		switch v.proto {
		case 0, 43, 60:
			if v.l4+8 > len(ip) || v.l4+8+int(ip[v.l4+1])*8 > len(ip) {
				return v, fmt.Errorf("extension header beyond the end")
			}
			v.proto, v.l4 = ip[v.l4], v.l4+8+int(ip[v.l4+1])*8
		case 44:
			if v.l4+8 > len(ip) {
				return v, fmt.Errorf("fragment header beyond the end")
			}
			f := binary.BigEndian.Uint16(ip[v.l4+2:])
			v.fragment, v.offset, v.more = true, int(f&^7), f&1 != 0
			v.id = binary.BigEndian.Uint32(ip[v.l4+4:])
			v.proto, v.l4 = ip[v.l4], v.l4+8
			if v.offset > 0 {
				return v, nil
			}
		default:
			return v, nil
		}
	}
}

// checksumField gives the offset of the transport checksum, 0 if there is none
// to judge: unknown protocol, fragment, UDP without one.
func (v view) checksumField() int {
	n := len(v.ip) - v.l4
	if v.offset > 0 || v.more {
		return 0
	}
	switch {
	case v.proto == 6 && n >= 20:
		return v.l4 + 16
	case (v.proto == 17 || v.proto == 136) && n >= 8:
		return v.l4 + 6
	case v.proto == 33 && n >= 12:
		return v.l4 + 6
	case (v.proto == 1 || v.proto == 58) && n >= 8:
		return v.l4 + 2
	}
	return 0
}

// transportSum is 0xffff if the transport checksum is right; how far it is from
// that says by how much it is wrong.
func (v view) transportSum() uint16 {
	l4 := v.ip[v.l4:]
	switch v.proto {
	case 1:
		return slowSum(l4)
	case 17: // the datagram may be shorter than the packet
		if n := int(binary.BigEndian.Uint16(l4[4:])); n >= 8 && n < len(l4) && binary.BigEndian.Uint16(l4[6:]) != 0 {
			return slowSum(l4, pseudoHeader(v.ip, v.proto, len(l4)))
		}
	}
	return slowSum(l4, pseudoHeader(v.ip, v.proto, len(l4)))
}

// fix puts the right checksums into a packet that has zeros or nonsense there.
func fix(ip []byte) []byte {
	if n := int(ip[0]&15) * 4; ip[0]>>4 == 4 && n <= len(ip) {
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^slowSum(ip[:n]))
	}
	v, err := look(ip)
	if err != nil {
		return ip // made wrong on purpose
	}
	if at := v.checksumField(); at > 0 {
		ip[at], ip[at+1] = 0, 0
		c := ^v.transportSum()
		if c == 0 && v.proto == 17 {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(ip[at:], c)
	}
	return ip
}

func bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + 3)
	}
	return b
}

func tcp(n int) []byte {
	b := bytesOf(max(n, 20))
	b[12] = 5 << 4
	return b[:n]
}

func udp(n int) []byte {
	b := bytesOf(max(n, 8))
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	return b[:n]
}

func icmpMessage(typ, code byte, word uint32, body []byte) []byte {
	b := make([]byte, 8, 8+len(body))
	b[0], b[1] = typ, code
	binary.BigEndian.PutUint32(b[4:], word)
	return append(b, body...)
}

type opt func(ip []byte)

func tos(x byte) opt {
	return func(ip []byte) {
		if ip[0]>>4 == 4 {
			ip[1] = x
		} else {
			ip[0], ip[1] = 6<<4|x>>4, x<<4|ip[1]&15
		}
	}
}

func ttl(x byte) opt {
	return func(ip []byte) {
		if ip[0]>>4 == 4 {
			ip[8] = x
		} else {
			ip[7] = x
		}
	}
}

// df sets the IPv4 fragment word, id the identification.
func frag(word uint16) opt { return func(ip []byte) { binary.BigEndian.PutUint16(ip[6:], word) } }
func id(x uint16) opt      { return func(ip []byte) { binary.BigEndian.PutUint16(ip[4:], x) } }

func v4(src, dst string, proto byte, l4 []byte, opts ...opt) []byte {
	return v4options(src, dst, proto, nil, l4, opts...)
}

func v4options(src, dst string, proto byte, options, l4 []byte, opts ...opt) []byte {
	b := make([]byte, 20, 20+len(options)+len(l4))
	b[0] = 0x45 + byte(len(options)/4)
	b[8], b[9] = 64, proto
	copy(b[12:], netip.MustParseAddr(src).AsSlice())
	copy(b[16:], netip.MustParseAddr(dst).AsSlice())
	b = append(append(b, options...), l4...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	for _, o := range opts {
		o(b)
	}
	return fix(b)
}

// v6 takes the next header of the IPv6 header; ext are whole extension headers.
func v6(src, dst string, next byte, l4 []byte, opts ...opt) []byte {
	return v6ext(src, dst, next, nil, l4, opts...)
}

func v6ext(src, dst string, next byte, ext, l4 []byte, opts ...opt) []byte {
	b := make([]byte, 40, 40+len(ext)+len(l4))
	b[0], b[6], b[7] = 6<<4, next, 64
	copy(b[8:], netip.MustParseAddr(src).AsSlice())
	copy(b[24:], netip.MustParseAddr(dst).AsSlice())
	b = append(append(b, ext...), l4...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	for _, o := range opts {
		o(b)
	}
	return fix(b)
}

func fragmentHeader(next byte, offset int, more bool, id uint32) []byte {
	b := make([]byte, 8)
	b[0] = next
	f := uint16(offset)
	if more {
		f |= 1
	}
	binary.BigEndian.PutUint16(b[2:], f)
	binary.BigEndian.PutUint32(b[4:], id)
	return b
}

// run is what the data plane does with a packet, with a guard of known bytes
// around what may be written.
type result struct {
	verdict Verdict
	plan    Plan
	out     []byte
	frags   [][]byte
}

const guard = 32

func run(t testing.TB, tr *Translator, p []byte, m Meta, mtuIn, mtuOut int) result {
	t.Helper()
	start := guard + Headroom
	buf := make([]byte, start+len(p)+guard)
	for i := range buf {
		buf[i] = 0xa5
	}
	copy(buf[start:], p)
	var r result
	pl := &r.plan
	*pl = Plan{cut: 7, at: 9, param: 11, out: header{offset: 3, id: 5, flags: 0xff}} // what an earlier packet left
	r.verdict = tr.Decide(pl, buf[start:start+len(p)], m)
	if r.verdict.Action() == Emit {
		r.verdict = tr.Fit(pl, mtuIn, mtuOut)
	}
	if r.verdict != pl.Verdict {
		t.Fatalf("verdict %v returned, %v in the plan", r.verdict, pl.Verdict)
	}
	if string(buf[start:start+len(p)]) != string(p) {
		t.Fatalf("%v changed the packet", r.verdict)
	}
	if a := r.verdict.Action(); a != Emit && a != Cut {
		return r
	}
	at, n := tr.Rewrite(pl, NewState(1), buf, start)
	if n != pl.OutLen {
		t.Fatalf("Rewrite made %d bytes, the plan says %d", n, pl.OutLen)
	}
	if at < start-Headroom || at+n > start+pl.Len {
		t.Fatalf("result [%d,%d) outside of [%d,%d)", at, at+n, start-Headroom, start+pl.Len)
	}
	for i, b := range buf {
		if i >= start-Headroom && i < start+pl.Len {
			continue
		}
		if want := byte(0xa5); i < start || i >= start+len(p) {
			if b != want {
				t.Fatalf("byte %d outside of packet and headroom was written", i-start)
			}
		} else if b != p[i-start] {
			t.Fatalf("padding byte %d was written", i-start)
		}
	}
	r.out = append([]byte{}, buf[at:at+n]...)
	if r.verdict == Split {
		for more := true; more; {
			dst := make([]byte, pl.cut)
			var k int
			k, more = pl.Split(r.out, dst)
			r.frags = append(r.frags, dst[:k])
		}
	}
	return r
}
