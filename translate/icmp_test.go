package translate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

var (
	quoted4 = v4(vmA4, server, 6, tcp(40), ttl(7))  // what a router saw of vmA's packet
	quoted6 = v6(vmA6, server6, 6, tcp(40), ttl(7)) // and what vmA must be shown
	back6   = v6(server6, vmA6, 6, tcp(40), ttl(7)) // a server's packet, as seen behind us
	back4   = v4(server, vmA4, 6, tcp(40), ttl(7))
)

// TestICMP4Types goes through all types and codes (RFC 7915 4.2).
func TestICMP4Types(t *testing.T) {
	type head struct{ typ, code byte }
	unreachable := map[byte]head{
		0: {1, 0}, 1: {1, 0}, 2: {4, 1}, 3: {1, 4}, 4: {2, 0}, 5: {1, 0}, 6: {1, 0}, 7: {1, 0}, 8: {1, 0},
		9: {1, 1}, 10: {1, 1}, 11: {1, 0}, 12: {1, 0}, 13: {1, 1}, 15: {1, 1},
	}
	tr := mustNew(t, usual())
	for typ := range 256 {
		for code := range 256 {
			in := v4(server, vmA4, 1, icmpMessage(byte(typ), byte(code), 0, quoted4))
			want, verdict := head{}, Forward
			switch typ {
			case 0:
				want = head{129, byte(code)}
			case 8:
				want = head{128, byte(code)}
			case 3:
				var ok bool
				if want, ok = unreachable[byte(code)]; !ok {
					verdict = ICMP4Code
				}
			case 11:
				want = head{3, byte(code)}
			case 12:
				want = head{4, 0}
				if code != 0 && code != 2 {
					verdict = ICMP4Code
				}
			case 5, 9, 10:
				verdict = ICMP4SingleHop
			case 4, 13, 14, 15, 16, 17, 18:
				verdict = ICMP4Obsolete
			default:
				verdict = ICMP4Unknown
			}
			r := run(t, tr, in, Meta{}, 1500, 1500)
			if r.verdict != verdict {
				t.Fatalf("%d/%d: %v, want %v", typ, code, r.verdict, verdict)
			}
			if verdict != Forward {
				continue
			}
			verify(t, in, Meta{}, r, 1500)
			if got := (head{r.out[40], r.out[41]}); got != want {
				t.Fatalf("%d/%d became %v, want %v", typ, code, got, want)
			}
		}
	}
}

// TestICMP6Types goes through all types and codes (RFC 7915 5.2).
func TestICMP6Types(t *testing.T) {
	type head struct{ typ, code byte }
	tr := mustNew(t, usual())
	for typ := range 256 {
		for code := range 256 {
			in := v6(vmA6, server6, 58, icmpMessage(byte(typ), byte(code), 0, back6))
			want, verdict := head{}, Forward
			switch {
			case typ == 128:
				want = head{8, byte(code)}
			case typ == 129:
				want = head{0, byte(code)}
			case typ == 1:
				switch code {
				case 0, 2, 3:
					want = head{3, 1}
				case 1:
					want = head{3, 10}
				case 4:
					want = head{3, 3}
				default:
					verdict = ICMP6Code
				}
			case typ == 2:
				want = head{3, 4}
			case typ == 3:
				want = head{11, byte(code)}
			case typ == 4 && code == 0:
				want = head{12, 0}
			case typ == 4 && code == 1:
				want = head{3, 2}
			case typ == 4:
				verdict = ICMP6Code
			case typ >= 130 && typ <= 132, typ == 143:
				verdict = ICMP6Multicast
			case typ >= 133 && typ <= 137:
				verdict = ICMP6Neighbour
			default:
				verdict = ICMP6Unknown
			}
			r := run(t, tr, in, Meta{}, 1500, 1500)
			if r.verdict != verdict {
				t.Fatalf("%d/%d: %v, want %v", typ, code, r.verdict, verdict)
			}
			if verdict != Forward {
				continue
			}
			verify(t, in, Meta{}, r, 1500)
			if got := (head{r.out[20], r.out[21]}); got != want {
				t.Fatalf("%d/%d became %v, want %v", typ, code, got, want)
			}
		}
	}
}

// TestPointers goes through all pointers of parameter problems.
func TestPointers(t *testing.T) {
	four := map[int]uint32{0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, 12: 8, 13: 8, 14: 8, 15: 8, 16: 24, 17: 24, 18: 24, 19: 24}
	six := map[int]byte{0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8}
	for i := 8; i < 24; i++ {
		six[i], six[i+16] = 12, 16
	}
	tr := mustNew(t, usual())
	for p := range 256 {
		r := run(t, tr, v4(server, vmA4, 1, icmpMessage(12, 0, uint32(p)<<24, quoted4)), Meta{}, 1500, 1500)
		if want, ok := four[p]; !ok && r.verdict != ICMP4Pointer || ok && (r.verdict != Forward || binary.BigEndian.Uint32(r.out[44:]) != want) {
			t.Errorf("4.2 pointer %d: %v", p, r.verdict)
		}
		r = run(t, tr, v6(vmA6, server6, 58, icmpMessage(4, 0, uint32(p), back6)), Meta{}, 1500, 1500)
		if want, ok := six[p]; !ok && r.verdict != ICMP6Pointer || ok && (r.verdict != Forward || binary.BigEndian.Uint32(r.out[24:]) != uint32(want)<<24) {
			t.Errorf("5.2 pointer %d: %v", p, r.verdict)
		}
	}
	for _, p := range []uint32{256, 1 << 24, 0xffffffff} {
		if r := run(t, tr, v6(vmA6, server6, 58, icmpMessage(4, 0, p, back6)), Meta{}, 1500, 1500); r.verdict != ICMP6Pointer {
			t.Errorf("5.2 pointer %d: %v", p, r.verdict)
		}
	}
}

func TestPathMTU(t *testing.T) {
	tr := mustNew(t, usual())
	big := bytes.Clone(quoted4)
	for _, c := range []struct {
		said          uint32
		total         uint16 // of the quoted packet
		mtuIn, mtuOut int
		want          uint32
	}{
		{said: 1400, mtuIn: 1500, mtuOut: 1500, want: 1420},
		{said: 1500, mtuIn: 1500, mtuOut: 1500, want: 1500},
		{said: 9000, mtuIn: 1400, mtuOut: 9000, want: 1420},
		{said: 576, mtuIn: 1500, mtuOut: 1500, want: 1280},
		{said: 65535, mtuIn: 0, mtuOut: 0, want: 65555},
		{said: 0, total: 1500, mtuIn: 1500, mtuOut: 1500, want: 1492 + 20 - 12}, // next-hop MTU is 1500
		{said: 0, total: 1500, mtuIn: 9000, mtuOut: 9000, want: 1512},
		{said: 0, total: 1492, mtuIn: 9000, mtuOut: 9000, want: 1280}, // plateau 1006
		{said: 0, total: 2003, mtuIn: 9000, mtuOut: 9000, want: 2022},
		{said: 0, total: 4353, mtuIn: 9000, mtuOut: 9000, want: 4372},
		{said: 0, total: 65535, mtuIn: 0, mtuOut: 0, want: 32020},
	} {
		if c.total != 0 {
			binary.BigEndian.PutUint16(big[2:], c.total)
		}
		r := run(t, tr, v4(server, vmA4, 1, icmpMessage(3, 4, c.said, big)), Meta{}, c.mtuIn, c.mtuOut)
		if r.verdict != Forward {
			t.Fatalf("%+v: %v", c, r.verdict)
		}
		if got := binary.BigEndian.Uint32(r.out[44:]); got != c.want {
			t.Errorf("4.2 %+v: MTU %d", c, got)
		}
		verify(t, v4(server, vmA4, 1, icmpMessage(3, 4, c.said, big)), Meta{}, r, 1<<20)
	}
	for _, c := range []struct {
		said          uint32
		mtuIn, mtuOut int
		want          uint32
	}{
		{1400, 1500, 1500, 1380},
		{1500, 1500, 1500, 1480},
		{9000, 9000, 1500, 1500},
		{9000, 1500, 9000, 1480},
		{1280, 1500, 1500, 1260},
		{20, 1500, 1500, 68},
		{0, 1500, 1500, 68},
		{19, 1500, 1500, 68},
		{0xffffffff, 1500, 1500, 1480},
		{0xffffffff, 0, 0, 65555},
		{0x80000000, 1500, 1400, 1400},
	} {
		in := v6(vmA6, server6, 58, icmpMessage(2, 0, c.said, back6))
		r := run(t, tr, in, Meta{}, c.mtuIn, c.mtuOut)
		if r.verdict != Forward {
			t.Fatalf("%+v: %v", c, r.verdict)
		}
		if got := binary.BigEndian.Uint32(r.out[24:]); got != min(c.want, 65535) {
			t.Errorf("5.2 %+v: MTU %d", c, got)
		}
		verify(t, in, Meta{}, r, 1<<20)
	}
}

func TestInner(t *testing.T) {
	timeExceeded := func(quote []byte) []byte { return v4(server, vmA4, 1, icmpMessage(11, 0, 0, quote)) }
	toA := func(quote []byte) []byte {
		return v6(server6, vmA6, 58, icmpMessage(3, 0, 0, quote), ttl(63))
	}
	timeExceeded6 := func(quote []byte) []byte { return v6(vmA6, server6, 58, icmpMessage(3, 0, 0, quote)) }
	toServer := func(quote []byte) []byte {
		return v4(vmA4, server, 1, icmpMessage(11, 0, 0, quote), ttl(63))
	}
	echo4 := v4(vmA4, server, 1, icmpMessage(8, 0, 5, bytesOf(20)))
	echo6 := v6(vmA6, server6, 58, icmpMessage(128, 0, 5, bytesOf(20)))
	frag4 := v4(vmA4, server, 17, bytesOf(64), frag(flagMF|8), id(77))
	frag6 := v6ext(vmA6, server6, 44, fragmentHeader(17, 64, true, 77), bytesOf(64))
	long4, long6 := v4(vmA4, server, 17, udp(1300), df), v6(vmA6, server6, 17, udp(1300))
	runAll(t, []expect{
		{name: "4.3_TCP_ttl_untouched", in: timeExceeded(quoted4), verdict: Forward, out: toA(quoted6)},
		{name: "4.3_truncated_8_bytes", in: timeExceeded(quoted4[:28]), verdict: Forward, out: toA(quoted6[:48])},
		{name: "4.3_truncated_no_transport", in: timeExceeded(quoted4[:20]), verdict: Forward, out: toA(quoted6[:40])},
		{name: "4.3_truncated_echo_type_only", in: timeExceeded(echo4[:21]), verdict: Forward, out: toA(echo6[:41])},
		{name: "4.3_echo", in: timeExceeded(echo4), verdict: Forward, out: toA(echo6)},
		{name: "4.3_later_fragment", in: timeExceeded(frag4), verdict: Forward, out: toA(frag6)},
		{name: "4.3_options", in: timeExceeded(v4options(vmA4, server, 6, []byte{131, 3, 4, 0}, tcp(40), ttl(7))), verdict: Forward, out: toA(quoted6)},
		{name: "4.3_header_checksum_is_the_routers", in: timeExceeded(broken(quoted4, 10, 0x12)), verdict: Forward, out: toA(quoted6)},
		{name: "4.3_traffic_class_set", config: func(c *Config) { c.TOS = TOS{true, 0} }, in: timeExceeded(v4(vmA4, server, 6, tcp(40), ttl(7), tos(9))), verdict: Forward, out: toA(quoted6)},
		{name: "4.3_cut_to_1280", in: timeExceeded(long4), verdict: Forward, out: toA(long6[:1280-48])},
		{name: "4.3_cut_by_the_router", in: timeExceeded(long4[:548]), verdict: Forward, out: toA(long6[:568])},
		{name: "4.3_short", in: timeExceeded(quoted4[:19]), verdict: InnerShort},
		{name: "4.3_empty", in: timeExceeded(nil), verdict: InnerShort},
		{name: "4.3_short_options", in: timeExceeded(v4options(vmA4, server, 6, []byte{1, 1, 1, 1}, tcp(40))[:22]), verdict: InnerShort},
		{name: "4.3_version", in: timeExceeded(quoted6), verdict: InnerVersion},
		{name: "4.3_length", in: timeExceeded(broken(quoted4, 2, 0, 3, 10)), verdict: InnerLength},
		{name: "4.3_error_in_error", in: timeExceeded(v4(vmA4, server, 1, icmpMessage(3, 1, 0, quoted4))), verdict: InnerError},
		{name: "4.3_timestamp_in_error", in: timeExceeded(v4(vmA4, server, 1, icmpMessage(13, 0, 0, nil))), verdict: InnerICMP},
		{name: "4.3_fragmented_ICMP", in: timeExceeded(v4(vmA4, server, 1, bytesOf(32), frag(flagMF))), verdict: InnerICMP},
		{name: "4.3_protocol", in: timeExceeded(v4(vmA4, server, 44, bytesOf(32))), verdict: InnerProtocol},
		{name: "4.3_ICMPv6_in_IPv4", in: timeExceeded(v4(vmA4, server, 58, bytesOf(32))), verdict: InnerProtocol},
		{name: "RFC6052_3.1_inner_private", in: timeExceeded(v4(vmA4, "10.1.2.3", 6, tcp(40))), verdict: InnerPrivate},
		{name: "4.3_no_mapping", config: func(c *Config) { c.Pool6 = nil; c.ICMPSource6 = prefixes("2001:db8:6::1/128") }, in: timeExceeded(quoted4), verdict: InnerNoMapping},

		{name: "5.3_TCP_ttl_untouched", in: timeExceeded6(back6), verdict: Forward, out: toServer(innerID(bytes.Clone(back4)))},
		{name: "5.3_truncated", in: timeExceeded6(back6[:48]), verdict: Forward, out: toServer(innerID(bytes.Clone(back4))[:28])},
		{name: "5.3_large_inner_has_DF", in: timeExceeded6(v6(server6, vmA6, 17, udp(1300))[:600]), verdict: Forward, out: toServer(v4(server, vmA4, 17, udp(1300), df)[:548])},
		{name: "5.3_fragment", in: timeExceeded6(v6ext(server6, vmA6, 44, fragmentHeader(17, 64, true, 0xffff0004), bytesOf(64))), verdict: Forward,
			out: toServer(v4(server, vmA4, 17, bytesOf(64), frag(flagMF|8), id(4)))},
		{name: "5.3_extensions", in: timeExceeded6(v6ext(server6, vmA6, 43, []byte{6, 0, 0, 9, 0, 0, 0, 0}, tcp(40), ttl(7))), verdict: Forward, out: toServer(innerID(bytes.Clone(back4)))},
		{name: "5.3_extension_after_fragment", in: timeExceeded6(v6ext(server6, vmA6, 44, append(fragmentHeader(60, 0, true, 7), 6, 0, 0, 0, 0, 0, 0, 0), tcp(40))), verdict: InnerExtension},
		{name: "5.3_extension_truncated", in: timeExceeded6(v6ext(server6, vmA6, 60, []byte{6, 0, 0, 0, 0, 0, 0, 0}, tcp(40))[:44]), verdict: InnerShort},
		{name: "5.3_short", in: timeExceeded6(back6[:39]), verdict: InnerShort},
		{name: "5.3_version", in: timeExceeded6(broken(back6, 0, 0x40)), verdict: InnerVersion},
		{name: "5.3_error_in_error", in: timeExceeded6(v6(server6, vmA6, 58, icmpMessage(1, 0, 0, back6))), verdict: InnerError},
		{name: "5.3_redirect_in_error", in: timeExceeded6(v6(server6, vmA6, 58, icmpMessage(137, 0, 0, back6))), verdict: InnerError},
		{name: "5.3_MLD_in_error", in: timeExceeded6(v6(server6, vmA6, 58, icmpMessage(130, 0, 0, nil))), verdict: InnerICMP},
		{name: "5.3_no_mapping", in: timeExceeded6(v6("2001:db8:ffff::1", vmA6, 6, tcp(40))), verdict: InnerNoMapping},
		{name: "RFC6052_3.1_inner_private_6", in: timeExceeded6(v6("64:ff9b::10.1.2.3", vmA6, 6, tcp(40))), verdict: InnerPrivate},
		{name: "5.3_too_long_for_IPv4", in: timeExceeded6(broken(back6, 4, 0xff, 5, 0xff)), verdict: InnerLength},
	})
}

// TestExtensions is RFC 4884: a quote of at least 128 bytes, then extensions.
func TestExtensions(t *testing.T) {
	mpls := icmpMessage(0x20, 0, 0x00080101, bytesOf(4))
	// with gives an ICMP message with a quote cut to n bytes, or padded, and mpls.
	with := func(typ, code byte, quote []byte, n, word int) []byte {
		q := make([]byte, n)
		copy(q, quote)
		return icmpMessage(typ, code, uint32(word), append(q, mpls...))
	}
	long4, long6 := v4(vmA4, server, 17, udp(400)), v6(vmA6, server6, 17, udp(400))
	short4, short6 := v4(vmA4, server, 17, udp(20)), v6(vmA6, server6, 17, udp(20))
	longBack6, longBack4 := v6(server6, vmA6, 17, udp(400)), innerID(v4(server, vmA4, 17, udp(400)))
	shortBack6, shortBack4 := v6(server6, vmA6, 17, udp(20)), innerID(v4(server, vmA4, 17, udp(20)))
	in4 := func(msg []byte) []byte { return v4(server, vmA4, 1, msg) }
	out6 := func(msg []byte) []byte { return v6(server6, vmA6, 58, msg, ttl(63)) }
	in6 := func(msg []byte) []byte { return v6(vmA6, server6, 58, msg) }
	out4 := func(msg []byte) []byte { return v4(vmA4, server, 1, msg, ttl(63)) }
	plain := func(typ, code byte, word uint32, quote []byte) []byte { return icmpMessage(typ, code, word, quote) }
	pad := func(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n-len(b))...) }
	runAll(t, []expect{
		{name: "4_to_6_128", in: in4(with(11, 0, long4, 128, 32<<16)), verdict: Forward, out: out6(with(3, 0, long6, 144, 18<<24))},
		{name: "4_to_6_132", in: in4(with(3, 3, long4, 132, 33<<16)), verdict: Forward, out: out6(with(1, 4, long6, 152, 19<<24))},
		{name: "4_to_6_padded", in: in4(with(11, 0, short4, 128, 32<<16)), verdict: Forward, out: out6(with(3, 0, short6, 144, 18<<24))},
		{name: "4_to_6_MTU_has_no_length", in: in4(with(3, 4, long4, 128, 32<<16|1400)), verdict: Forward, out: out6(plain(2, 0, 1420, long6[:148]))},
		{name: "4_to_6_pointer_has_no_length", in: in4(with(12, 0, long4, 128, 8<<24|32<<16)), verdict: Forward, out: out6(plain(4, 0, 7, long6[:148]))},
		{name: "4_to_6_length_under_128", in: in4(with(11, 0, long4, 64, 16<<16)), verdict: Forward, out: out6(plain(3, 0, 0, long6[:84]))},
		{name: "4_to_6_length_beyond_message", in: in4(plain(11, 0, 200<<16, long4[:128])), verdict: Forward, out: out6(plain(3, 0, 0, long6[:148]))},
		{name: "4_to_6_no_length", in: in4(plain(11, 0, 0, long4[:128])), verdict: Forward, out: out6(plain(3, 0, 0, long6[:148]))},

		{name: "6_to_4_136", in: in6(with(3, 0, longBack6, 168, 21<<24)), verdict: Forward, out: out4(with(11, 0, longBack4, 148, 37<<16))},
		{name: "6_to_4_padded_to_128", in: in6(with(3, 0, longBack6, 128, 16<<24)), verdict: Forward, out: out4(with(11, 0, longBack4[:108], 128, 32<<16))},
		{name: "6_to_4_short", in: in6(with(1, 4, shortBack6, 128, 16<<24)), verdict: Forward, out: out4(with(3, 3, shortBack4, 128, 32<<16))},
		{name: "6_to_4_no_length", in: in6(plain(3, 0, 0, pad(longBack6, 500))), verdict: Forward, out: out4(plain(11, 0, 0, pad(longBack4, 480)))},
	})
	// Results stay within the limits, the extensions whole or gone.
	for _, n := range []int{128, 256, 512, 536, 540, 548, 800, 1016} {
		for _, extra := range []int{8, 400, 800, 1104} {
			quote := make([]byte, n)
			copy(quote, v4(vmA4, server, 17, udp(1300), df))
			ext := bytes.Repeat([]byte{0xee}, extra)
			in := in4(icmpMessage(11, 0, uint32(n/4)<<16, append(quote, ext...)))
			r := run(t, mustNew(t, usual()), in, Meta{}, 1500, 1500)
			checkLimit(t, fmt.Sprintf("4 to 6, %d+%d", n, extra), in, r, ext)
			n8 := n / 8 * 8
			quote6 := make([]byte, n8)
			copy(quote6, v6(server6, vmA6, 17, udp(1300)))
			in = in6(icmpMessage(3, 0, uint32(n8/8)<<24, append(quote6, ext...)))
			r = run(t, mustNew(t, usual()), in, Meta{}, 1500, 1500)
			checkLimit(t, fmt.Sprintf("6 to 4, %d+%d", n8, extra), in, r, ext)
		}
	}
}

func checkLimit(t *testing.T, name string, in []byte, r result, ext []byte) {
	t.Helper()
	if r.verdict != Forward {
		t.Fatalf("%s: %v", name, r.verdict)
	}
	verify(t, in, Meta{}, r, 1500)
	length, msg := int(r.out[20+5])*4, r.out[28:]
	if r.out[0]>>4 == 6 {
		length, msg = int(r.out[44])*8, r.out[48:]
	}
	if length > 0 && !bytes.Equal(msg[length:], ext) {
		t.Errorf("%s: extensions became %x", name, msg[length:])
	}
	if length == 0 && bytes.Contains(msg, []byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee}) {
		t.Errorf("%s: extensions without a length", name)
	}
}
