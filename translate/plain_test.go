package translate

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

const (
	vmA6, vmA4 = "2001:db8::a", "192.0.2.10"
	vmB6, vmB4 = "2001:db8::b", "192.0.2.11"
	server     = "203.0.113.7"
	server6    = "64:ff9b::203.0.113.7"
)

func eam(six, four string) EAM {
	return EAM{netip.MustParsePrefix(six), netip.MustParsePrefix(four)}
}

func prefixes(s ...string) (p []netip.Prefix) {
	for _, x := range s {
		p = append(p, netip.MustParsePrefix(x))
	}
	return p
}

// usual is the configuration of most tests.
func usual() Config {
	return Config{
		Pool6: prefixes("64:ff9b::/96"),
		EAM: []EAM{
			eam(vmA6+"/128", vmA4+"/32"),
			eam(vmB6+"/128", vmB4+"/32"),
		},
	}
}

func mustNew(t testing.TB, c Config) *Translator {
	t.Helper()
	tr, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// slowly is the same translator without its fast path.
func slowly(t testing.TB, c Config) *Translator {
	tr := mustNew(t, c)
	tr.host4, tr.host6 = hosts{}, hosts{}
	return tr
}

// TestPlain sends packets through and back: each must verify, and come back as
// it was but for the hop limit.
func TestPlain(t *testing.T) {
	for _, c := range []struct {
		name      string
		six, four []byte // the same packet on both sides, hop limits 64 and 63
	}{
		{"4.1_TCP", v6(vmA6, server6, 6, tcp(30)), v4(vmA4, server, 6, tcp(30), ttl(63))},
		{"4.1_UDP", v6(vmA6, server6, 17, udp(31)), v4(vmA4, server, 17, udp(31), ttl(63))},
		{"4.2_echo", v6(vmA6, server6, 58, icmpMessage(128, 0, 0x12345678, bytesOf(20))),
			v4(vmA4, server, 1, icmpMessage(8, 0, 0x12345678, bytesOf(20)), ttl(63))},
		{"4.2_echo_reply", v6(vmA6, server6, 58, icmpMessage(129, 0, 0x12345678, bytesOf(21))),
			v4(vmA4, server, 1, icmpMessage(0, 0, 0x12345678, bytesOf(21)), ttl(63))},
		{"4.5_unknown_protocol", v6(vmA6, server6, 99, bytesOf(5)), v4(vmA4, server, 99, bytesOf(5), ttl(63))},
		{"4.5_no_next_header", v6(vmA6, server6, 59, nil), v4(vmA4, server, 59, nil, ttl(63))},
		{"4.5_DCCP", v6(vmA6, server6, 33, bytesOf(24)), v4(vmA4, server, 33, bytesOf(24), ttl(63))},
		{"4.5_ESP", v6(vmA6, server6, 50, bytesOf(24)), v4(vmA4, server, 50, bytesOf(24), ttl(63))},
		{"4.1_traffic_class", v6(vmA6, server6, 17, udp(31), tos(0xb9)), v4(vmA4, server, 17, udp(31), ttl(63), tos(0xb9))},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, tr := range []*Translator{mustNew(t, usual()), slowly(t, usual())} {
				r := run(t, tr, c.six, Meta{}, 1500, 1500)
				if r.verdict != Forward {
					t.Fatalf("verdict %v", r.verdict)
				}
				if want := withID(c.four, r.out); !bytes.Equal(r.out, want) {
					t.Fatalf("6 to 4\n got %x\nwant %x", r.out, want)
				}
				// Back again: source and destination change roles.
				back4, back6 := swap(c.four), swap(c.six)
				back6[7] = back4[8] - 1
				r = run(t, tr, back4, Meta{}, 1500, 1500)
				if r.verdict != Forward {
					t.Fatalf("verdict back %v", r.verdict)
				}
				if !bytes.Equal(r.out, back6) {
					t.Fatalf("4 to 6\n got %x\nwant %x", r.out, back6)
				}
			}
		})
	}
}

// withID gives want the identification of got, which is generated.
func withID(want, got []byte) []byte {
	w := bytes.Clone(want)
	copy(w[4:6], got[4:6])
	w[10], w[11] = 0, 0
	binary.BigEndian.PutUint16(w[10:], ^slowSum(w[:20]))
	return w
}

// swap exchanges source and destination, which changes no checksum.
func swap(ip []byte) []byte {
	w := bytes.Clone(ip)
	if ip[0]>>4 == 4 {
		copy(w[12:16], ip[16:20])
		copy(w[16:20], ip[12:16])
		return w
	}
	copy(w[8:24], ip[24:40])
	copy(w[24:40], ip[8:24])
	return w
}
