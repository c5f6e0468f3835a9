package sniff

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// oracle is what crypto/tls makes of the bytes a client sent before it closed.
type oracle struct {
	named    bool // GetConfigForClient was called
	name     string
	alpn     string
	answered bool // it had an alert to send
	ended    bool // it waited for more
	err      error
}

var errSeen = errors.New("seen")

func ask(b []byte) (o oracle) {
	c := &said{Reader: bytes.NewReader(b)}
	o.err = tls.Server(c, &tls.Config{
		MinVersion: tls.VersionTLS10,
		GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
			o.named, o.name, o.alpn = true, i.ServerName, strings.Join(i.SupportedProtos, ",")
			return nil, errSeen
		},
	}).Handshake()
	o.answered = c.written > 0
	o.ended = errors.Is(o.err, io.EOF) || errors.Is(o.err, io.ErrUnexpectedEOF)
	return o
}

// said is a connection on which everything was said.
type said struct {
	io.Reader
	written int
}

func (c *said) Write(b []byte) (int, error)      { c.written += len(b); return len(b), nil }
func (c *said) Close() error                     { return nil }
func (c *said) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *said) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *said) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *said) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *said) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// FuzzClientHello compares with crypto/tls. Where both read a hello they read
// the same. These differences are meant, and each is checked for:
//
//   - crypto/tls also judges extensions that are none of ours. With their
//     types made unknown to it, it must agree.
//   - It takes any bytes as a name, but not with a dot at the end.
//   - It passes over alerts of level warning, and takes any record version
//     below 16. It takes hellos of four bytes more, in records as small as may be.
//   - It waits for the end of the record that the hello ends in.
func FuzzClientHello(f *testing.F) {
	m := hello(ext{0x0a0a, nil}, sni("example.com"), alpn("h2", "http/1.1"), ext{43, []byte{2, 3, 4}})
	f.Add(records(m, 1<<14))
	f.Add(records(m, 1))
	f.Add(records(m, 3, 50))
	f.Add(records(m, 1<<14)[:70])
	f.Add(records(append(bytes.Clone(m), 9, 9), 1<<14)[:5+len(m)])
	f.Add(records(hello(sni("Example.COM."), ext{5, []byte{1}}), 1<<14))
	f.Add(records(hello(sni("a", "b")), 1<<14))
	f.Add(records(hello(ext{9, nil}, ext{9, nil}), 1<<14))
	f.Add(records(message(nil), 1<<14))
	f.Add(append([]byte{21, 3, 1, 0, 2, 1, 90}, records(m, 1<<14)...))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte{0x80, 46, 1, 3, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		h, err := ClientHello(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the bytes have changed")
		}
		bytewise(t, b, h, err)
		o := ask(b)
		reason, refused := err.(Reason)
		switch {
		case err == nil && o.named:
			agree(t, &h, o)
		case err == nil:
			m := theMessage(b)
			if o.ended && wireLength(b) > len(b) {
				o = ask(records(m, 1<<14))
			}
			if !o.named {
				o = ask(records(unknownExtensions(m), 1<<14))
			}
			if !o.named && dotAtEnd(m) {
				return
			}
			if !o.named {
				t.Fatalf("%q; crypto/tls: %v", h.Host, o.err)
			}
			agree(t, &h, o)
		case err == ErrIncomplete:
			if o.named || o.answered || !o.ended && b[0] == recordHandshake {
				t.Fatalf("incomplete; crypto/tls: %q, %v", o.name, o.err)
			}
		case !refused:
			t.Fatal(err)
		case o.named:
			switch reason {
			case BadName, AddressName:
				if _, err := Host(o.name); err != reason {
					t.Fatalf("%v, but of the name crypto/tls reads, %q: %v", reason, o.name, err)
				}
			case RecordType:
				if !bytes.Contains(b, []byte{recordAlert}) {
					t.Fatalf("%v; crypto/tls: %q", reason, o.name)
				}
			case RecordVersion: // any
			case TooLong:
				if len(b) < MaxHello {
					t.Fatalf("%v: %d bytes; crypto/tls: %q", reason, len(b), o.name)
				}
			default:
				t.Fatalf("%v; crypto/tls: %q", reason, o.name)
			}
		}
	})
}

// bytewise hands the bytes over one at a time: the outcome is the same.
func bytewise(t *testing.T, b []byte, h Hello, err error) {
	t.Helper()
	var s TLS
	for n := range len(b) + 1 {
		got, e := s.ClientHello(b[:n])
		if e == ErrIncomplete && n < len(b) {
			continue
		}
		if e != err || got.Host != h.Host || list(&got) != list(&h) {
			t.Fatalf("at once: %q, %v; bytewise after %d of %d: %q, %v", h.Host, err, n, len(b), got.Host, e)
		}
		return
	}
}

func agree(t *testing.T, h *Hello, o oracle) {
	t.Helper()
	name, err := o.name, error(nil)
	if name != "" {
		name, err = Host(o.name)
	}
	if err != nil || h.Host != name || list(h) != o.alpn {
		t.Fatalf("%q, %q; crypto/tls: %q, %q", h.Host, list(h), o.name, o.alpn)
	}
}

// theMessage takes the ClientHello out of records that hold one.
func theMessage(b []byte) []byte {
	var m []byte
	for len(b) >= recordHeader {
		n := min(int(binary.BigEndian.Uint16(b[3:])), len(b)-recordHeader)
		m, b = append(m, b[recordHeader:recordHeader+n]...), b[recordHeader+n:]
		if len(m) >= 4 && len(m) >= 4+int(m[1])<<16+int(m[2])<<8+int(m[3]) {
			break
		}
	}
	return m[:4+int(m[1])<<16+int(m[2])<<8+int(m[3])]
}

// wireLength is how long b would have to be for its last record to be whole.
func wireLength(b []byte) int {
	at := 0
	for at+recordHeader <= len(b) {
		at += recordHeader + int(binary.BigEndian.Uint16(b[at+3:]))
	}
	return at
}

// eachExtension calls f for the extensions of a hello that is known to be good.
func eachExtension(m []byte, f func(kind, data []byte)) {
	at := 4 + 34
	at += 1 + int(m[at])
	at += 2 + int(binary.BigEndian.Uint16(m[at:]))
	at += 1 + int(m[at])
	for at += 2; at < len(m); {
		n := int(binary.BigEndian.Uint16(m[at+2:]))
		f(m[at:at+2], m[at+4:at+4+n])
		at += 4 + n
	}
}

// unknownExtensions gives the hello with only those extensions known that are
// ours to judge.
func unknownExtensions(m []byte) []byte {
	m = bytes.Clone(m)
	next := uint16(0x4000) // up to 0x7fff, nobody's
	eachExtension(m, func(kind, _ []byte) {
		if k := binary.BigEndian.Uint16(kind); k != extServerName && k != extALPN {
			binary.BigEndian.PutUint16(kind, next)
			next++
		}
	})
	return m
}

func dotAtEnd(m []byte) (found bool) {
	eachExtension(m, func(kind, data []byte) {
		if binary.BigEndian.Uint16(kind) != extServerName {
			return
		}
		for data = data[2:]; len(data) > 0; {
			n := int(binary.BigEndian.Uint16(data[1:]))
			found = found || data[0] == 0 && data[3+n-1] == '.'
			data = data[3+n:]
		}
	})
	return found
}

// FuzzHost checks that a canonical name is one: it stays as it is, and is what
// the rules say.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"example.com", "EXAMPLE.com.", "*.example.com", "192.0.2.1", "127.1", "a.0x", "[2001:db8::1]:80", "example.com:443", "xn--bcher-kva.example", "-a.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := Host(s)
		if b, e := Host([]byte(s)); b != host || e != err {
			t.Fatalf("%q: %q, %v as string; %q, %v as bytes", s, host, err, b, e)
		}
		p, _, perr := HostPort(s)
		if err == nil && (perr != nil || p != host) {
			t.Fatalf("%q: %q; with port: %q, %v", s, host, p, perr)
		}
		if perr == nil {
			host, s, _ = p, s[:len(p)], err
		} else if err != nil {
			return
		}
		if again, err := Host(host); again != host || err != nil {
			t.Fatalf("%q, and of that: %q, %v", host, again, err)
		}
		if host != strings.ToLower(s[:len(host)]) || len(host) > 253 || net.ParseIP(host) != nil {
			t.Fatalf("%q of %q", host, s)
		}
		for _, l := range strings.Split(host, ".") {
			if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") {
				t.Fatalf("%q with label %q", host, l)
			}
		}
	})
}

// FuzzInitial hands frames over under a good seal, in two packets, and the same
// bytes as datagrams of their own.
func FuzzInitial(f *testing.F) {
	m := hello(sni("example.com"), alpn("h3"))
	f.Add(cryptoFrame(0, m), []byte{1})
	f.Add(cryptoFrame(40, m[40:]), cryptoFrame(0, m[:50]))
	f.Add([]byte{2, 5, 0, 1, 0, 1, 0}, []byte{3, 5, 0, 0, 0, 1, 1, 1})
	f.Add([]byte{0x1c, 0, 0, 0}, []byte{8})
	f.Add(initial{frames: cryptoFrame(0, m)}.seal(f), initial{version: QUICv2, frames: cryptoFrame(0, m)}.seal(f))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if max(len(one), len(two)) > 1<<13 {
			return // a packet's length in two bytes, as the sealer writes it
		}
		var raw QUIC
		for _, b := range [][]byte{one, two} {
			before := bytes.Clone(b)
			h, err := raw.Datagram(b)
			outcome(t, h, err)
			if !bytes.Equal(b, before) {
				t.Fatal("the datagram has changed")
			}
			if head, ok := ParseLongHeader(b); ok {
				if v, ok := ParseLongHeader(VersionNegotiation(head)); !ok || !bytes.Equal(v.DCID, head.SCID) || !bytes.Equal(v.SCID, head.DCID) {
					t.Fatalf("answer to %x", b)
				}
			}
		}

		var q QUIC
		var model []byte // what was said first at each place
		known := map[int]bool{}
		for i, frames := range [][]byte{one, two} {
			size := max(minDatagram, 100+len(frames))
			h, err := q.Datagram(initial{number: uint64(i), frames: frames, size: size}.seal(t))
			outcome(t, h, err)
			if err != nil && err != ErrIncomplete {
				return
			}
			// A frame may end in the padding that the sealer puts behind.
			readCrypto(append(frames[:len(frames):len(frames)], make([]byte, size)...), func(offset int, data []byte) {
				for j, c := range data {
					for len(model) <= offset+j {
						model = append(model, 0)
					}
					model[offset+j] = c
					known[offset+j] = true
				}
			})
			n := 0
			for known[n] {
				n++
			}
			if q.stream.next != n || !bytes.Equal(q.stream.data[:n], model[:n]) {
				t.Fatalf("%x, want %x", q.stream.data[:q.stream.next], model[:n])
			}
			// The same hello over TCP is the same hello.
			if n > 0 {
				want, werr := ClientHello(records(model[:n], 1<<14))
				if werr != err || want.Host != h.Host || list(&want) != list(&h) {
					t.Fatalf("%q, %v; over TCP: %q, %v", h.Host, err, want.Host, werr)
				}
			}
			if err == nil {
				return
			}
		}
	})
}

func outcome(t *testing.T, h Hello, err error) {
	t.Helper()
	if _, ok := err.(Reason); err != nil && (err != ErrIncomplete && !ok || h.Host != "") {
		t.Fatalf("%q, %v", h.Host, err)
	}
}

// readCrypto finds the CRYPTO frames among those that the parser took.
func readCrypto(b []byte, f func(offset int, data []byte)) {
	number := func() int {
		n := 1 << (b[0] >> 6)
		v := int(b[0] & 0x3f)
		for _, c := range b[1:n] {
			v = v<<8 | int(c)
		}
		b = b[n:]
		return v
	}
	for len(b) > 0 {
		kind := b[0]
		b = b[1:]
		switch kind {
		case 2, 3:
			number()
			number()
			ranges := number()
			for range 1 + 2*ranges + 3*int(kind-2) {
				number()
			}
		case 6:
			offset, length := number(), number()
			f(offset, b[:length])
			b = b[length:]
		}
	}
}
