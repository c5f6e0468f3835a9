package translate_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"aarch64.com/isthmus/translate"
)

// plainPairs are two configurations under which addresses translate there and
// back: single mappings under the well-known prefix, and prefixes of both kinds.
func plainPairs(f *testing.F) (ps []*pair) {
	for _, c := range []translate.Config{
		{Pool6: prefixes("64:ff9b::/96"), EAM: eams("2001:db8:aaaa::1/128", "198.18.4.1/32"), LowestIPv6MTU: 65535},
		{Pool6: prefixes("2001:db8:122:300::/56"), EAM: eams("2001:4860::/64", "198.51.100.0/24"), LowestIPv6MTU: 65535},
	} {
		tr, err := translate.New(c)
		if err != nil {
			f.Fatal(err)
		}
		ps = append(ps, &pair{config: c, tr: tr, state: translate.NewState(3)})
	}
	return ps
}

// ends are the mapped node's and the server's addresses for a pair of plainPairs.
func ends(i int, v6 bool) (node, server netip.Addr) {
	list := [][2]string{{"198.18.4.1", "203.0.113.5"}, {"198.51.100.7", "203.0.113.5"}}
	if v6 {
		list = [][2]string{{"2001:db8:aaaa::1", "64:ff9b::203.0.113.5"}, {"2001:4860:0:0:700::", "2001:db8:122:3cb:0:7105::"}}
	}
	return netip.MustParseAddr(list[i][0]), netip.MustParseAddr(list[i][1])
}

// plain makes a packet that translation loses nothing of. word is an IPv4 fragment
// word; a single fragment of its own (an atomic one) is not made.
func plain(v6 bool, proto byte, src, dst netip.Addr, word uint16, body []byte) []byte {
	word &= 0x3fff
	if v6 && proto == 58 {
		proto = 1
	}
	l4 := bytes.Clone(body)
	if word == 0 || word&0x1fff == 0 {
		l4 = transportOf(v6, proto, src, dst, body)
	}
	if word&0x2000 != 0 {
		l4 = l4[:len(l4)/8*8]
	}
	if v6 && proto == 1 {
		proto = 58
	}
	if v6 {
		b := []byte{0x61, 0x20, 0, 0, 0, 0, proto, 64}
		b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
		if word != 0 {
			b[6] = 44
			b = append(b, proto, 0)
			b = binary.BigEndian.AppendUint16(b, word<<3|word>>13)
			b = append(b, 0, 0, 0x12, 0x34)
		}
		b = append(b, l4...)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		return b
	}
	b := []byte{0x45, 0x12, 0, 0, 0x12, 0x34, 0, 0, 64, proto, 0, 0}
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	b = append(b, l4...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], word)
	binary.BigEndian.PutUint16(b[10:], ^add16(b[:20]))
	return b
}

// transportOf puts a transport header with the right checksum before body; for ICMP
// an echo.
func transportOf(v6 bool, proto byte, src, dst netip.Addr, body []byte) []byte {
	var b []byte
	at := -1
	switch proto {
	case 6:
		b, at = append(make([]byte, 12), 0x50, 0x10, 0, 0, 0, 0, 0, 0), 16
	case 17, 136:
		b, at = make([]byte, 8), 6
		binary.BigEndian.PutUint16(b[4:], uint16(8+len(body)))
	case 33:
		b, at = make([]byte, 12), 6
	case 1:
		b, at = make([]byte, 8), 2
		if len(body)%2 == 0 {
			b[0] = 8
		}
		if v6 {
			b[0], proto = 129-b[0]/8, 58
		}
	}
	b = append(b, body...)
	if at < 0 {
		return b
	}
	var pseudo []byte
	if proto != 1 {
		pseudo = append(append(pseudo, src.AsSlice()...), dst.AsSlice()...)
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)))
		pseudo = append(pseudo, 0, 0, 0, proto)
	}
	c := ^add16(pseudo, b)
	if c == 0 && (proto == 17 || proto == 136) {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], c)
	return b
}

// through is one translation without limits of size; nil if the packet is not
// forwarded.
func through(t *testing.T, pr *pair, p []byte) []byte {
	t.Helper()
	o, err := pr.run(p, translate.Meta{}, 0, 0, twinSources)
	if err != nil {
		t.Fatal(err)
	}
	if o.verdict != translate.Forward {
		return nil
	}
	return o.whole
}

// turned exchanges source and destination, which changes no sum.
func turned(p []byte) []byte {
	p = bytes.Clone(p)
	at, n := 12, 4
	if p[0]>>4 == 6 {
		at, n = 8, 16
	}
	a := bytes.Clone(p[at : at+n])
	copy(p[at:], p[at+n:at+2*n])
	copy(p[at+n:], a)
	return p
}

// settled brings to one value what the RFCs let a way through IPv6 change in an
// IPv4 header: the identification of a packet that is no fragment, and DF, which
// then depends on the size (RFC 7915 5.1). Hop limits grow by hops.
func settled(p []byte, hops byte) []byte {
	p = bytes.Clone(p)
	if p[0]>>4 == 6 {
		p[7] += hops
		return p
	}
	p[8] += hops
	if binary.BigEndian.Uint16(p[6:])&0x3fff == 0 {
		copy(p[4:8], []byte{0, 0, 0, 0})
	}
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^add16(p[:20]))
	return p
}

// oneWay tells the numbers that are extension headers in IPv6, which IPv4 loses,
// IGMP, which only has a meaning in IPv4, and the Authentication Header behind a
// Fragment Header, which RFC 7915 5.1.1 drops.
func oneWay(proto byte, word uint16) bool {
	switch proto {
	case 51:
		return word&0x3fff != 0
	case 0, 2, 43, 44, 60:
		return true
	}
	return false
}

// FuzzTwinRoundTrip: a packet that is translated and comes back is the packet it
// was, where the RFCs allow that.
//
// They do not for IPv4 options, extension headers, flow label, the upper half of
// a fragment's identification, the Fragment Header of a single fragment, a suffix
// behind an address (RFC 6052 2.2, RFC 7757 3.1), a missing UDP checksum, a
// checksum written as the other zero, identification and DF of an IPv4 packet that
// is no fragment, and in ICMP errors for codes and pointers that share a
// counterpart, unused words, and whatever does not fit 576 bytes.
func FuzzTwinRoundTrip(f *testing.F) {
	f.Add(uint8(6), uint8(0), uint16(0), []byte("round and round"))
	f.Add(uint8(17), uint8(3), uint16(0x2001), []byte("twelve bytes"))
	f.Add(uint8(1), uint8(1), uint16(0), []byte{})
	f.Add(uint8(1), uint8(0), uint16(0), make([]byte, 31))
	f.Add(uint8(99), uint8(2), uint16(0xb9), make([]byte, 1400))
	f.Add(uint8(33), uint8(1), uint16(0x2000), make([]byte, 44))
	f.Add(uint8(136), uint8(2), uint16(0), make([]byte, 1300))
	pairs := plainPairs(f)
	f.Fuzz(func(t *testing.T, proto, how uint8, word uint16, body []byte) {
		if len(body) > 9000 || oneWay(proto, word) {
			return
		}
		i, v6, toServer := int(how&1), how&2 != 0, how&4 != 0 || how&2 != 0
		node, server := ends(i, v6)
		p := plain(v6, proto, node, server, word, body)
		if !toServer || !v6 { // from IPv4 only the server's packets are ours
			p = turned(p)
		}
		there := through(t, pairs[i], p)
		if there == nil {
			return
		}
		back := through(t, pairs[i], turned(there))
		if back == nil {
			t.Fatalf("the way back is closed: %v\nin    %x\nthere %x", pairs[i].plan.Verdict, p, there)
		}
		if got, want := settled(turned(back), 2), settled(p, 0); !bytes.Equal(got, want) {
			t.Fatalf("in    %x\nthere %x\nback  %x\nwant  %x", p, there, got, want)
		}
	})
}

// FuzzTwinInner: the packet that an ICMP error quotes becomes what it becomes
// when it comes alone, but for its hop limit, which stays (RFC 7915 4.3, 5.3).
// Alone it comes with source and destination exchanged: it is the error that goes
// to the mapped node.
func FuzzTwinInner(f *testing.F) {
	f.Add(uint8(6), uint8(0), uint8(0), uint16(0), uint16(1500), []byte("quoted"))
	f.Add(uint8(17), uint8(1), uint8(1), uint16(0x2000), uint16(60), make([]byte, 64))
	f.Add(uint8(1), uint8(2), uint8(2), uint16(0), uint16(100), make([]byte, 80))
	f.Add(uint8(1), uint8(3), uint8(3), uint16(0), uint16(0xffff), []byte{})
	f.Add(uint8(47), uint8(2), uint8(0), uint16(0xb9), uint16(0xffff), make([]byte, 1400))
	pairs := plainPairs(f)
	f.Fuzz(func(t *testing.T, proto, how, kind uint8, word, cut uint16, body []byte) {
		if len(body) > 2000 || oneWay(proto, word) {
			return
		}
		i, v6 := int(how&1), how&2 != 0
		node, server := ends(i, v6)
		// The node's error, or one that goes to the node, is about what went the
		// other way.
		src, dst := server, node
		if v6 {
			src, dst = node, server
		}
		inner := plain(v6, proto, dst, src, word, body)
		alone := through(t, pairs[i], turned(inner))
		if alone == nil {
			return
		}
		alone = settled(turned(alone), 1)

		heads := [][2]byte{{3, 1}, {3, 3}, {11, 0}, {3, 13}}
		if v6 {
			heads = [][2]byte{{1, 0}, {1, 4}, {3, 0}, {1, 1}}
		}
		h := heads[kind&3]
		// Half a checksum can't be translated: up to TCP's, all is quoted.
		quote := inner[:min(len(inner), max(int(cut), 48+18))]
		message := append([]byte{h[0], h[1], 0, 0, 0, 0, 0, 0}, quote...)
		outerProto := byte(1)
		var pseudo []byte
		if v6 {
			outerProto = 58
			pseudo = append(append(pseudo, src.AsSlice()...), dst.AsSlice()...)
			pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(message)))
			pseudo = append(pseudo, 0, 0, 0, 58)
		}
		binary.BigEndian.PutUint16(message[2:], ^add16(pseudo, message))
		outer := plain(v6, 255, src, dst, 0, message)
		if v6 {
			outer[6] = outerProto
		} else {
			outer[9], outer[10], outer[11] = outerProto, 0, 0
			binary.BigEndian.PutUint16(outer[10:], ^add16(outer[:20]))
		}

		out := through(t, pairs[i], outer)
		if out == nil {
			t.Fatalf("an error about a packet that can be translated was dropped: %v\n%x", pairs[i].plan.Verdict, outer)
		}
		got := out[28:]
		if !v6 {
			got = out[48:]
		}
		got = settled(got, 0)
		if len(got) > len(alone) || !bytes.Equal(got, alone[:len(got)]) {
			t.Fatalf("outer %x\nalone %x\nquote %x", outer, alone, got)
		}
		if whole := len(quote) == len(inner) && len(out) < map[bool]int{true: 576, false: 1280}[v6]; whole && len(got) != len(alone) {
			t.Fatalf("%d bytes were quoted, %d are left of %d", len(quote), len(got), len(alone))
		}
	})
}
