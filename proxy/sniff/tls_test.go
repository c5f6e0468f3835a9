package sniff

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestClientHello(t *testing.T) {
	name := sni("example.com")
	keyShare := ext{51, vec16(append([]byte{0x11, 0xec}, vec16(make([]byte, 1216))...))}
	var many []ext
	for k := range uint16(16000) {
		many = append(many, ext{k + 100, nil})
	}
	long := strings.Repeat("a.", 126) + "a"

	for _, tt := range []struct {
		name string
		in   []byte
		host string
		alpn string
		err  error
	}{
		{"RFC 8446 4.1.2", records(hello(name, alpn("h2", "http/1.1")), 1<<14), "example.com", "h2,http/1.1", nil},
		{"RFC 8446 4.1.2 no extensions", records(message(nil), 1<<14), "", "", nil},
		{"RFC 8446 4.1.2 empty extensions", records(message([]byte{0, 0}), 1<<14), "", "", nil},
		{"RFC 8446 4.1.2 no name", records(hello(alpn("h2")), 1<<14), "", "h2", nil},
		{"RFC 8446 4.1.2 bytes after the extensions", records(message([]byte{0, 0, 0}), 1<<14), "", "", Malformed},
		{"RFC 8446 4.1.2 extensions longer than the hello", records(message([]byte{0, 1}), 1<<14), "", "", Malformed},
		{"RFC 8446 4.1.2 half an extension header", records(message([]byte{0, 1, 0}), 1<<14), "", "", Malformed},
		{"RFC 8446 4.1.2 extension longer than the list", records(message([]byte{0, 4, 0, 9, 0, 1}), 1<<14), "", "", Malformed},
		{"RFC 8446 4.1.2 nothing in it", records(handshake(1, nil), 1<<14), "", "", Malformed},
		{"RFC 8446 4.1.2 ends after the random", records(handshake(1, make([]byte, 34)), 1<<14), "", "", Malformed},
		{"RFC 8446 4.1.2 ends in the suites", records(handshake(1, append(make([]byte, 36), 9)), 1<<14), "", "", Malformed},
		{"RFC 8446 4.1.2 odd suites", records(handshake(1, append(make([]byte, 35), 0, 1, 0, 1, 0)), 1<<14), "", "", Malformed},
		{"RFC 8446 4.1.2 ends in the compression methods", records(handshake(1, append(make([]byte, 35), 0, 0, 1)), 1<<14), "", "", Malformed},
		{"RFC 8446 4.2 extension twice", records(hello(name, ext{5, nil}, ext{5, nil}), 1<<14), "", "", DuplicateExtension},
		{"RFC 8446 4.2 name twice", records(hello(name, name), 1<<14), "", "", DuplicateExtension},
		{"RFC 8446 4.2 16,000 extensions", records(hello(append(many, name)...), 1<<14), "example.com", "", nil},
		{"RFC 8446 4.2.8 post-quantum key share", records(hello(keyShare, name), 1<<14), "example.com", "", nil},
		{"RFC 7685 padding, name last", records(hello(ext{21, make([]byte, 9000)}, name), 1<<14), "example.com", "", nil},
		{"RFC 5077 session ticket", records(hello(ext{35, make([]byte, 2000)}, name), 1<<14), "example.com", "", nil},
		{"RFC 8701 GREASE", records(hello(ext{0x0a0a, nil}, name, alpn("\x0a\x0a", "h2"), ext{0xfafa, []byte{0}}), 1<<14), "example.com", "\x0a\x0a,h2", nil},
		{"RFC 9849 ECH, the outer name", records(hello(sni("public.example"), ext{0xfe0d, make([]byte, 300)}), 1<<14), "public.example", "", nil},
		{"RFC 8737 ACME", records(hello(name, alpn("acme-tls/1")), 1<<14), "example.com", "acme-tls/1", nil},

		{"RFC 6066 3 case", records(hello(sni("Shop.EXAMPLE.com")), 1<<14), "shop.example.com", "", nil},
		{"RFC 6066 3 dot at the end", records(hello(sni("example.com.")), 1<<14), "example.com", "", nil},
		{"RFC 6066 3 A-labels", records(hello(sni("xn--bcher-kva.example")), 1<<14), "xn--bcher-kva.example", "", nil},
		{"RFC 6066 3 253 bytes", records(hello(sni(long)), 1<<14), long, "", nil},
		{"RFC 6066 3 254 bytes", records(hello(sni("b"+long)), 1<<14), "", "", BadName},
		{"RFC 6066 3 two names", records(hello(sni("example.com", "example.com")), 1<<14), "", "", SeveralNames},
		{"RFC 6066 3 other type of name", records(hello(ext{0, vec16([]byte{1, 0, 1, 0, 0, 0, 1, 'a'})}), 1<<14), "a", "", nil},
		{"RFC 6066 3 only another type", records(hello(ext{0, vec16([]byte{1, 0, 1, 0})}), 1<<14), "", "", nil},
		{"RFC 6066 3 no list", records(hello(ext{0, nil}), 1<<14), "", "", Malformed},
		{"RFC 6066 3 empty list", records(hello(ext{0, []byte{0, 0}}), 1<<14), "", "", Malformed},
		{"RFC 6066 3 empty name", records(hello(sni("")), 1<<14), "", "", Malformed},
		{"RFC 6066 3 name longer than the list", records(hello(ext{0, vec16([]byte{0, 0, 2, 'a'})}), 1<<14), "", "", Malformed},
		{"RFC 6066 3 bytes after the list", records(hello(ext{0, append(sni("a").data, 0)}), 1<<14), "", "", Malformed},
		{"RFC 6066 3 IPv4", records(hello(sni("192.0.2.1")), 1<<14), "", "", AddressName},
		{"RFC 6066 3 IPv6", records(hello(sni("2001:db8::1")), 1<<14), "", "", AddressName},
		{"RFC 6066 3 NUL", records(hello(sni("a\x00.example.com")), 1<<14), "", "", BadName},
		{"RFC 6066 3 UTF-8", records(hello(sni("bücher.example")), 1<<14), "", "", BadName},
		{"RFC 6066 3 wildcard", records(hello(sni("*.example.com")), 1<<14), "", "", BadName},
		{"RFC 6066 3 port", records(hello(sni("example.com:443")), 1<<14), "", "", BadName},

		{"RFC 7301 3.1 no list", records(hello(ext{16, nil}), 1<<14), "", "", Malformed},
		{"RFC 7301 3.1 empty list", records(hello(alpn()), 1<<14), "", "", Malformed},
		{"RFC 7301 3.1 empty protocol", records(hello(alpn("h2", "")), 1<<14), "", "", Malformed},
		{"RFC 7301 3.1 protocol longer than the list", records(hello(ext{16, vec16([]byte{3, 'h', '2'})}), 1<<14), "", "", Malformed},

		{"RFC 8446 5.1 alert", []byte{21}, "", "", RecordType},
		{"RFC 8446 5.1 change_cipher_spec", []byte{20}, "", "", RecordType},
		{"RFC 8446 5.1 alert within the hello", append(records(hello(name)[:9], 9), 21), "", "", RecordType},
		{"RFC 8446 5.1 version 2", []byte{22, 2}, "", "", RecordVersion},
		{"RFC 8446 5.1 version 3.9", append([]byte{22, 3, 9}, records(hello(name), 1<<14)[3:]...), "example.com", "", nil},
		{"RFC 8446 5.1 no bytes", []byte{22, 3, 1, 0, 0}, "", "", RecordEmpty},
		{"RFC 8446 5.1 no bytes within the hello", append(records(hello(name)[:9], 9), 22, 3, 1, 0, 0), "", "", RecordEmpty},
		{"RFC 8446 5.1 2^14 + 1 bytes", []byte{22, 3, 1, 0x40, 1}, "", "", RecordOverflow},
		{"RFC 8446 4 ServerHello", []byte{22, 3, 1, 0, 50, 2}, "", "", NotClientHello},
		{"RFC 8446 4 16 MB", []byte{22, 3, 1, 0, 50, 1, 0xff}, "", "", TooLong},
		{"RFC 8446 4 MaxHello", records(hello(ext{21, make([]byte, MaxHello-105)}, name), 1<<14), "example.com", "", nil},
		{"RFC 8446 4 MaxHello + 1", records(hello(ext{21, make([]byte, MaxHello-104)}, name), 1<<14)[:5+4], "", "", TooLong},
		{"MaxWire", records(hello(ext{21, make([]byte, MaxHello-105)}, name), 5), "example.com", "", nil},
		{"MaxWire exceeded", records(hello(ext{21, make([]byte, MaxHello-105)}, name), 4), "", "", TooLong},
		{"another message in the same record", records(append(hello(name), 11, 0, 0), 1<<14), "example.com", "", nil},
		{"another record behind", append(records(hello(name), 1<<14), 20, 3, 3, 0, 1, 1), "example.com", "", nil},

		{"RFC 5246 E.2", []byte{0x80, 46, 1, 3, 1}, "", "", SSLv2},
		{"nothing", nil, "", "", ErrIncomplete},
		{"HTTP/1.1", []byte("GET / HTTP/1.1\r\n"), "", "", PlainHTTP},
		{"HTTP/1.1 begins", []byte("OPTIONS"), "", "", ErrIncomplete},
		{"RFC 9113 3.4", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "", "", PlainHTTP},
		{"SSH", []byte("SSH-2.0-x"), "", "", NotTLS},
		{"PROXY protocol", []byte("PROXY "), "", "", NotTLS},
		{"PROXY protocol 2", []byte("\r\n\r\n"), "", "", NotTLS},
		{"top bit", []byte{0xff, 0, 0}, "", "", NotTLS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := ClientHello(tt.in)
			if h.Host != tt.host || err != tt.err || list(&h) != tt.alpn {
				t.Fatalf("%q, alpn %q, %v; want %q, alpn %q, %v", h.Host, list(&h), err, tt.host, tt.alpn, tt.err)
			}
			if err == nil && tt.host == "example.com" && len(tt.in) < 2000 {
				everySplit(t, tt.in, "example.com")
			}
		})
	}
}

// everySplit hands a hello over in two pieces split anywhere, and as one byte
// at a time: the name comes with the last byte of the message and not before.
func everySplit(t *testing.T, in []byte, host string) {
	t.Helper()
	var whole int
	var bytewise TLS
	for n := range len(in) + 1 {
		h, err := bytewise.ClientHello(in[:n])
		if err == nil {
			whole = n
			break
		}
		if err != ErrIncomplete {
			t.Fatalf("%d of %d bytes: %v", n, len(in), err)
		}
		if h.Host != "" {
			t.Fatalf("%d of %d bytes: a name and an error", n, len(in))
		}
	}
	if whole == 0 {
		t.Fatal("never complete")
	}
	for n := range whole {
		var s TLS
		if _, err := s.ClientHello(in[:n]); err != ErrIncomplete {
			t.Fatalf("%d of %d bytes: %v", n, len(in), err)
		}
		if h, err := s.ClientHello(in); err != nil || h.Host != host {
			t.Fatalf("in two pieces at %d: %q, %v", n, h.Host, err)
		}
	}
}

// RFC 8446 section 5.1: handshake messages may be split over records anywhere.
func TestRecordSplits(t *testing.T) {
	m := hello(ext{51, make([]byte, 60)}, sni("example.com"), alpn("h2"))
	for first := 1; first <= len(m); first++ {
		for _, rest := range []int{1, 2, 3, 1 << 14} {
			in := records(m, first, rest)
			h, err := ClientHello(in)
			if err != nil || h.Host != "example.com" || !h.Offers("h2") || h.Offers("h3") {
				t.Fatalf("records of %d, then %d: %q, %v", first, rest, h.Host, err)
			}
		}
		everySplit(t, records(m, first, 1<<14), "example.com")
	}
	everySplit(t, records(m, 1), "example.com")
}

// What can't become a hello any more is said at once, at the first byte that
// shows it.
func TestHopeless(t *testing.T) {
	long := hello(ext{21, make([]byte, MaxHello-105)}, sni("example.com"))
	for _, tt := range []struct {
		name string
		in   []byte
		at   int // how many bytes it takes
		err  error
	}{
		{"record type", []byte{23, 3, 1, 0, 9}, 1, RecordType},
		{"record version", []byte{22, 4, 1, 0, 9}, 2, RecordVersion},
		{"record length", []byte{22, 3, 1, 0xff, 0xff, 1}, 5, RecordOverflow},
		{"message type", []byte{22, 3, 1, 0, 9, 0, 0}, 6, NotClientHello},
		{"message length", []byte{22, 3, 1, 0, 9, 1, 0, 0xff, 0xff}, 9, TooLong},
		{"message length, high", []byte{22, 3, 1, 0, 9, 1, 2, 0, 0}, 7, TooLong},
		// After k records of 4 bytes, 9k bytes are there; the bytes of the hello
		// that the next one can hold are one too many.
		{"wire length", records(long, 4), MaxWire/9*9 + 5, TooLong},
	} {
		var s TLS
		for n := range tt.in {
			_, err := s.ClientHello(tt.in[:n+1])
			if n+1 < tt.at && err != ErrIncomplete || n+1 == tt.at && err != tt.err {
				t.Errorf("%s: %v after %d bytes, want %v after %d", tt.name, err, n+1, tt.err, tt.at)
				break
			}
			if n+1 == tt.at {
				break
			}
		}
	}
}

func TestAllocations(t *testing.T) {
	m := hello(sni("Shop.example.com"), alpn("h2", "http/1.1"))
	for _, tt := range []struct {
		name string
		in   []byte
		want float64
		err  error
	}{
		{"one record: the name", records(m, 1<<14), 1, nil},
		{"two records: the message, too", records(m, 90), 2, nil},
		{"not whole", records(m, 1)[:99], 0, ErrIncomplete},
		{"refused", records(hello(sni("a.example", "b.example")), 1<<14), 0, SeveralNames},
	} {
		n := testing.AllocsPerRun(100, func() {
			h, err := ClientHello(tt.in)
			if !errors.Is(err, tt.err) || err == nil && !h.Offers("http/1.1") {
				t.Fatal(tt.name, err)
			}
		})
		if n != tt.want {
			t.Errorf("%s: %v allocations, want %v", tt.name, n, tt.want)
		}
	}
}

// The host outlives the bytes it was read from.
func TestHostIsACopy(t *testing.T) {
	in := records(hello(sni("example.com")), 1<<14)
	h, err := ClientHello(in)
	clear(in)
	if err != nil || h.Host != "example.com" {
		t.Fatal(h.Host, err)
	}
}

func TestReasons(t *testing.T) {
	labels := map[string]bool{}
	for r := range NumReasons {
		if r.Error() == "" || r.Label() == "" || labels[r.Label()] || r.Alert() == 0 {
			t.Errorf("reason %d: %q, label %q, alert %d", r, r.Error(), r.Label(), r.Alert())
		}
		labels[r.Label()] = true
	}
	if got := UnrecognizedName.Record(); !bytes.Equal(got, []byte{21, 3, 3, 0, 2, 2, 112}) {
		t.Errorf("% x", got)
	}
}
