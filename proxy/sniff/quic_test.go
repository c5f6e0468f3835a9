package sniff

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var dcid = []byte{0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08} // that of the RFCs' samples

func appendVarint(b []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint64(b, v|3<<62)
}

func cryptoFrame(offset int, data []byte) []byte {
	b := appendVarint([]byte{6}, uint64(offset))
	return append(appendVarint(b, uint64(len(data))), data...)
}

// initial is an Initial packet as a client sends it.
type initial struct {
	version    uint32
	dcid, scid []byte
	token      []byte
	number     uint64
	bytes      int // of the packet number; 0: 4
	frames     []byte
	size       int // padded to this; 0: 1200
	greased    bool
}

func (p initial) seal(t testing.TB) []byte {
	t.Helper()
	if p.version == 0 {
		p.version = QUICv1
	}
	if p.dcid == nil {
		p.dcid = dcid
	}
	if p.bytes == 0 {
		p.bytes = 4
	}
	if p.size == 0 {
		p.size = minDatagram
	}
	var k keys
	if err := k.derive(p.version, p.dcid, "client in"); err != nil {
		t.Fatal(err)
	}
	b := []byte{0xc0 | suiteOf(p.version).initial<<4 | byte(p.bytes-1)}
	if p.greased {
		b[0] &^= 0x40
	}
	b = binary.BigEndian.AppendUint32(b, p.version)
	b = append(append(b, vec8(p.dcid)...), vec8(p.scid)...)
	b = append(appendVarint(b, uint64(len(p.token))), p.token...)
	length := p.size - len(b) - 2
	b = binary.BigEndian.AppendUint16(b, uint16(length)|1<<14)
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], p.number)
	b = append(b, number[8-p.bytes:]...)
	frames := append([]byte(nil), p.frames...)
	if n := p.size - len(b) - tagLength - len(frames); n > 0 {
		frames = append(frames, make([]byte, n)...)
	}
	return k.seal(b, p.bytes, p.number, frames)
}

// The samples of RFC 9001 appendix A.2 and RFC 9369 appendix A.2: the same
// CRYPTO frame, sealed with each version's keys. Header and tag, the first and
// the last bytes, are the RFCs'.
func TestSamples(t *testing.T) {
	frame := unhex(t, `
		060040f1010000ed0303ebf8fa56f129 39b9584a3896472ec40bb863cfd3e868
		04fe3a47f06a2b69484c000004130113 02010000c000000010000e00000b6578
		616d706c652e636f6dff01000100000a 00080006001d00170018001000070005
		04616c706e0005000501000000000033 00260024001d00209370b2c9caa47fba
		baf4559fedba753de171fa71f50f1ce1 5d43e994ec74d748002b000302030400
		0d0010000e0403050306030203080408 050806002d00020101001c0002400100
		3900320408ffffffffffffffff050480 00ffff07048000ffff08011001048000
		75300901100f088394c8f03e51570806 048000ffff`)
	for _, tt := range []struct {
		name            string
		version         uint32
		header          string
		key, iv         string
		protected, tail string
	}{
		{
			"RFC 9001 A.2", QUICv1, "c300000001088394c8f03e5157080000449e00000002",
			"1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c",
			"c000000001088394c8f03e5157080000449e7b9aec34 d1b1c98dd7689fb8ec11d242b123dc9b", "e221af44860018ab0856972e194cd934",
		},
		{
			"RFC 9369 A.2", QUICv2, "d36b3343cf088394c8f03e5157080000449e00000002",
			"8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f",
			"d76b3343cf088394c8f03e5157080000449ea0c95e82 ffe67b6abcdb4298b485dd04de806071", "a18b2faa745b6fe189cf772a9f84cbfc",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var k keys
			if err := k.derive(tt.version, dcid, "client in"); err != nil {
				t.Fatal(err)
			}
			if iv := unhex(t, tt.iv); !bytes.Equal(k.iv[:], iv) {
				t.Errorf("iv %x, want %x", k.iv, iv)
			}
			b := k.seal(unhex(t, tt.header), 4, 2, append(frame, make([]byte, 1162-len(frame))...))
			if want := unhex(t, tt.protected); !bytes.HasPrefix(b, want) {
				t.Errorf("begins with %x, want %x", b[:len(want)], want)
			}
			if want := unhex(t, tt.tail); !bytes.HasSuffix(b, want) {
				t.Errorf("ends in %x, want %x", b[len(b)-len(want):], want)
			}
			before := bytes.Clone(b)
			var q QUIC
			h, err := q.Datagram(b)
			if err != nil || h.Host != "example.com" || !h.Offers("alpn") {
				t.Errorf("%q, %v", h.Host, err)
			}
			if !bytes.Equal(b, before) {
				t.Error("the datagram has changed")
			}
		})
	}
}

func TestQUIC(t *testing.T) {
	m := hello(ext{51, make([]byte, 1300)}, sni("example.com"), alpn("h3"))
	half := len(m) / 2
	one, two := cryptoFrame(0, m[:half]), cryptoFrame(half, m[half:])
	small := hello(sni("example.com"))
	whole := cryptoFrame(0, small)
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	seal := func(p initial) []byte { return p.seal(t) }
	// A packet of another type, with a length and nothing that could be read.
	zeroRTT := join([]byte{0xd0, 0, 0, 0, 1}, vec8(dcid), vec8(nil), []byte{0x40, 30}, make([]byte, 30))
	bad := seal(initial{frames: whole})
	bad[len(bad)-1]++
	other := bytes.Repeat([]byte{9}, 8)
	ack := []byte{2, 5, 0, 1, 0, 1, 0}
	ackECN := []byte{3, 5, 0, 0, 0, 1, 1, 1}
	changed := bytes.Clone(m[:half])
	changed[half-1]++
	short := seal(initial{frames: whole})

	for _, tt := range []struct {
		name string
		in   [][]byte
		host string
		errs []error // of the datagrams before the last, ErrIncomplete where there is none
		err  error
	}{
		{"RFC 9000 17.2.2", [][]byte{seal(initial{frames: whole})}, "example.com", nil, nil},
		{"RFC 9369 3.2", [][]byte{seal(initial{version: QUICv2, frames: whole})}, "example.com", nil, nil},
		{"RFC 9000 17.2.2 token", [][]byte{seal(initial{frames: whole, token: make([]byte, 90)})}, "example.com", nil, nil},
		{"RFC 9000 7.2 short connection id after Retry", [][]byte{seal(initial{dcid: []byte{1}, token: []byte{1}, frames: whole})}, "example.com", nil, nil},
		{"RFC 9000 7.2 short connection id", [][]byte{seal(initial{dcid: []byte{1}, frames: whole})}, "", nil, QUICHeader},
		{"RFC 9000 17.2 ids of 20 bytes", [][]byte{seal(initial{dcid: make([]byte, 20), scid: make([]byte, 20), frames: whole})}, "example.com", nil, nil},
		{"RFC 9000 17.2 id of 21 bytes", [][]byte{seal(initial{dcid: make([]byte, 21), frames: whole})}, "", nil, QUICHeader},
		{"RFC 9000 17.1 packet number of one byte", [][]byte{seal(initial{bytes: 1, number: 200, frames: whole})}, "example.com", nil, nil},
		{"RFC 9000 17.1 packet number of four bytes", [][]byte{seal(initial{number: 1<<32 - 1, frames: whole})}, "example.com", nil, nil},
		{"RFC 9287 fixed bit", [][]byte{seal(initial{greased: true, frames: whole})}, "example.com", nil, nil},
		{"RFC 9287 fixed bit, changed on the way", [][]byte{join([]byte{short[0] ^ 0x40}, short[1:])}, "", nil, QUICSealed},
		{"RFC 9000 14.1 1199 bytes", [][]byte{seal(initial{size: 1199, frames: whole})}, "", nil, QUICSmall},
		{"RFC 9000 14.1 padded behind the packet", [][]byte{join(seal(initial{size: 600, frames: whole}), make([]byte, 600))}, "example.com", nil, nil},
		{"RFC 9000 5.2.2 unknown version", [][]byte{join([]byte{0xc0, 0x1a, 0x2a, 0x3a, 0x4a}, short[5:])}, "", nil, QUICVersion},
		{"RFC 9000 5.2.2 unknown version, small", [][]byte{{0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 0, 0}}, "", nil, QUICSmall},
		{"RFC 9000 17.2.1 version negotiation", [][]byte{join([]byte{0xc0, 0, 0, 0, 0}, short[5:])}, "", nil, QUICNotInitial},
		{"RFC 9000 17.3 short header", [][]byte{join([]byte{0x40}, short[1:])}, "", nil, QUICNotInitial},
		{"RFC 9000 17.2.5 Retry", [][]byte{join([]byte{0xf0}, short[1:])}, "", nil, QUICNotInitial},
		{"RFC 9000 17.2.3 only 0-RTT", [][]byte{zeroRTT}, "", nil, QUICNotInitial},
		{"RFC 9000 17.2 ends in the header", [][]byte{short[:12]}, "", nil, QUICNotInitial},
		{"RFC 9000 17.2 ends in the token", [][]byte{short[:18]}, "", nil, QUICHeader},
		{"RFC 9000 17.2 ends in the packet", [][]byte{short[:1199]}, "", nil, QUICHeader},
		{"RFC 9001 5.4.2 too short to sample", [][]byte{join([]byte{0xc0, 0, 0, 0, 1}, vec8(dcid), vec8(nil), []byte{0, 19}, make([]byte, 1300))}, "", nil, QUICHeader},
		{"RFC 9001 5.2 wrong seal", [][]byte{bad}, "", nil, QUICSealed},
		{"RFC 9001 5.2 wrong seal, then a good one", [][]byte{bad, short}, "example.com", []error{QUICSealed}, nil},
		{"nothing", [][]byte{nil}, "", nil, QUICNotInitial},

		{"RFC 9000 12.2 behind 0-RTT", [][]byte{join(zeroRTT, seal(initial{frames: whole}))}, "example.com", nil, nil},
		{"RFC 9000 12.2 before 0-RTT", [][]byte{join(seal(initial{frames: whole}), zeroRTT)}, "example.com", nil, nil},
		{"RFC 9000 12.2 two Initials", [][]byte{join(seal(initial{frames: one}), seal(initial{number: 1, frames: two}))}, "example.com", nil, nil},
		{"RFC 9000 12.2 second Initial bad", [][]byte{join(seal(initial{frames: whole}), bad)}, "example.com", nil, nil},
		{"RFC 9000 12.2 second Initial of another connection", [][]byte{join(seal(initial{frames: one}), seal(initial{dcid: other, frames: two}))}, "", nil, ErrIncomplete},

		{"RFC 9000 19.6 two datagrams", [][]byte{seal(initial{frames: one}), seal(initial{number: 1, frames: two})}, "example.com", nil, nil},
		{"RFC 9000 19.6 the second first", [][]byte{seal(initial{number: 1, frames: two}), seal(initial{frames: one})}, "example.com", nil, nil},
		{"RFC 9000 19.6 repeated", [][]byte{seal(initial{frames: one}), seal(initial{number: 1, frames: one}), seal(initial{number: 2, frames: two})}, "example.com", nil, nil},
		{"RFC 9000 19.6 overlapping", [][]byte{seal(initial{frames: cryptoFrame(9, m[9:900])}), seal(initial{number: 1, frames: cryptoFrame(800, m[800:])}), seal(initial{number: 2, frames: one})}, "example.com", nil, nil},
		{"RFC 9000 19.6 empty frames", [][]byte{seal(initial{frames: join(cryptoFrame(0, nil), cryptoFrame(500, nil), whole)})}, "example.com", nil, nil},
		{"RFC 9000 19.6 beyond MaxCrypto", [][]byte{seal(initial{frames: cryptoFrame(MaxCrypto, []byte{1})})}, "", nil, TooLong},
		{"RFC 9000 19.6 as far as MaxCrypto", [][]byte{seal(initial{frames: cryptoFrame(MaxCrypto-1, []byte{1})})}, "", nil, ErrIncomplete},
		{"RFC 9000 19.6 offset of 2^62 - 1", [][]byte{seal(initial{frames: cryptoFrame(1<<62-1, []byte{1})})}, "", nil, TooLong},
		{"RFC 9000 2.2 other bytes", [][]byte{seal(initial{frames: one}), seal(initial{number: 1, frames: cryptoFrame(0, changed)})}, "", nil, QUICConflict},
		{"RFC 9000 7.2 another connection id", [][]byte{seal(initial{frames: one}), seal(initial{dcid: other, frames: two}), seal(initial{frames: two})}, "example.com", []error{ErrIncomplete, QUICOther}, nil},
		{"RFC 9000 7.2 another version", [][]byte{seal(initial{frames: one}), seal(initial{version: QUICv2, frames: two})}, "", nil, QUICOther},

		{"RFC 9000 12.4 all frames that may be", [][]byte{seal(initial{frames: join([]byte{1, 0, 0, 1}, ack, ackECN, whole, []byte{1})})}, "example.com", nil, nil},
		{"RFC 9000 12.4 STREAM", [][]byte{seal(initial{frames: join([]byte{8, 0}, whole)})}, "", nil, QUICFrame},
		{"RFC 9000 12.4 application's CONNECTION_CLOSE", [][]byte{seal(initial{frames: []byte{0x1d, 0, 0}})}, "", nil, QUICFrame},
		{"RFC 9000 12.4 type not in its shortest form", [][]byte{seal(initial{frames: []byte{0x40, 0x01}})}, "", nil, QUICFrame},
		{"RFC 9000 12.4 no frames", [][]byte{join(seal(initial{size: 45}), make([]byte, 1200))}, "", nil, QUICFrame},
		{"RFC 9000 19.3 ACK with too many ranges", [][]byte{seal(initial{frames: []byte{2, 5, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}})}, "", nil, QUICFrame},
		{"RFC 9000 19.3 ACK longer than the packet", [][]byte{seal(initial{frames: []byte{2, 5, 0, 0x48, 0}})}, "", nil, QUICFrame},
		{"RFC 9000 19.6 CRYPTO longer than the packet", [][]byte{seal(initial{frames: []byte{6, 0, 0x48, 0}})}, "", nil, QUICFrame},
		{"RFC 9000 19.19 CONNECTION_CLOSE", [][]byte{seal(initial{frames: one}), seal(initial{number: 1, frames: []byte{0x1c, 0, 0, 0}})}, "", nil, QUICClosed},
		{"a failed one stays so", [][]byte{seal(initial{frames: []byte{8}}), seal(initial{frames: whole})}, "", []error{QUICFrame}, QUICFrame},

		{"RFC 8446 4 no ClientHello", [][]byte{seal(initial{frames: cryptoFrame(0, []byte{2})})}, "", nil, NotClientHello},
		{"RFC 8446 4 too long", [][]byte{seal(initial{frames: cryptoFrame(0, []byte{1, 0, 0x40, 0})})}, "", nil, TooLong},
		{"RFC 6066 3 two names", [][]byte{seal(initial{frames: cryptoFrame(0, hello(sni("a", "b")))})}, "", nil, SeveralNames},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var q QUIC
			for i, b := range tt.in {
				h, err := q.Datagram(b)
				if i == len(tt.in)-1 {
					if h.Host != tt.host || err != tt.err {
						t.Errorf("%q, %v; want %q, %v", h.Host, err, tt.host, tt.err)
					}
					break
				}
				want := ErrIncomplete
				if i < len(tt.errs) {
					want = tt.errs[i]
				}
				if err != want {
					t.Errorf("datagram %d: %v, want %v", i, err, want)
				}
			}
		})
	}
}

// A hello cut into pieces anywhere, in any order, in any packets (as Chromium
// does it, between PING and PADDING): the name comes with the last piece.
func TestCryptoOrder(t *testing.T) {
	m := hello(ext{51, make([]byte, 1300)}, sni("example.com"), alpn("h3"))
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		var pieces [][]byte
		for at := 0; at < len(m); {
			n := min(1+r.IntN(200), len(m)-at)
			pieces = append(pieces, cryptoFrame(at, m[at:at+n]))
			at += n
		}
		r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		var q QUIC
		for n := uint64(0); len(pieces) > 0; n++ {
			k := min(1+r.IntN(5), len(pieces))
			h, err := q.Datagram(initial{number: n, frames: bytes.Join(pieces[:k], []byte{0, 1, 0})}.seal(t))
			if pieces = pieces[k:]; len(pieces) > 0 && err != ErrIncomplete || len(pieces) == 0 && (err != nil || h.Host != "example.com" || !h.Offers("h3")) {
				t.Fatalf("seed %d, %d pieces left: %q, %v", seed, len(pieces), h.Host, err)
			}
		}
	}
}

func TestMaxInitials(t *testing.T) {
	var q QUIC
	for n := range uint64(MaxInitials + 1) {
		_, err := q.Datagram(initial{number: n, frames: []byte{1}}.seal(t))
		if n < MaxInitials && err != ErrIncomplete || n == MaxInitials && err != TooLong {
			t.Fatalf("packet %d: %v", n, err)
		}
	}
}

// RFC 8999 section 6.
func TestVersionNegotiation(t *testing.T) {
	h, ok := ParseLongHeader([]byte{0xff, 0x1a, 0x2a, 0x3a, 0x4a, 2, 1, 2, 3, 3, 4, 5, 6})
	if !ok || h.Version != 0x1a2a3a4a {
		t.Fatal(h, ok)
	}
	want := unhex(t, "c0 00000000 03030405 020102 1a2a3a4a 00000001 6b3343cf")
	if got := VersionNegotiation(h); !bytes.Equal(got, want) {
		// The client's source is the answer's destination.
		t.Errorf("%x, want %x", got, want)
	}
}
