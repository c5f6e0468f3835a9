package proxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/sniff"
)

func field16(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func extension(kind uint16, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), field16(b)...)
}

// serverName is the extension of RFC 6066 section 3 with these names.
func serverName(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(append(list, 0), field16([]byte(n))...)
	}
	return extension(0, field16(list))
}

// helloWith is one of TLS 1.2 (RFC 8446 section 4.1.2), in records of so many bytes.
func helloWith(record int, extensions ...[]byte) string {
	body := append([]byte{3, 3}, make([]byte, 32)...) // version, random
	body = append(body, 0)                            // session id
	body = append(body, field16([]byte{0x13, 1})...)
	body = append(body, 1, 0) // compression
	body = append(body, field16(bytes.Join(extensions, nil))...)
	message := append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	var out []byte
	for len(message) > 0 {
		n := min(record, len(message))
		out = append(append(out, 22, 3, 1), field16(message[:n])...)
		message = message[n:]
	}
	return string(out)
}

// What is no good hello is answered by an alert (RFC 8446 section 6.2), and gets to
// no VM, although its name, where it has one, has a route.
func TestTLSBadHellos(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	w := newWorld(t, nil, route("www.example.com", port), route("*.example.com", port))
	counted := map[string]uint64{}
	const (
		unexpectedMessage = 10
		recordOverflow    = 22
		illegalParameter  = 47
		decodeError       = 50
		protocolVersion   = 70
		internalError     = 80
		unrecognizedName  = 112
	)
	name := serverName("www.example.com")
	long := strings.Repeat("a.", 121) + "example.com" // 253 bytes
	for _, c := range []struct {
		name, say string
		alert     byte
		result    Result
		why       string
	}{
		{"unknown name", helloWith(1<<14, serverName("www.example.net")), unrecognizedName, UnknownHost, ""},
		{"name below a wildcard's", helloWith(1<<14, serverName("a.b.example.com")), unrecognizedName, UnknownHost, ""},
		{"no name", helloWith(1<<14, extension(10, []byte{0, 2, 0, 29})), unrecognizedName, NoName, ""},
		{"no extensions", helloWith(1 << 14), unrecognizedName, NoName, ""},
		{"empty name", helloWith(1<<14, serverName("")), decodeError, BadRequest, "malformed"},
		{"253 bytes, which no route has", helloWith(1<<14, serverName(long)), unrecognizedName, UnknownHost, ""},
		{"254 bytes", helloWith(1<<14, serverName("b"+long)), unrecognizedName, BadRequest, "bad_name"},
		{"NUL", helloWith(1<<14, serverName("www.example.com\x00.example.net")), unrecognizedName, BadRequest, "bad_name"},
		{"non-ASCII", helloWith(1<<14, serverName("b\u00fccher.example.com")), unrecognizedName, BadRequest, "bad_name"},
		{"IPv4", helloWith(1<<14, serverName("192.0.2.1")), unrecognizedName, BadRequest, "address_name"},
		{"IPv6", helloWith(1<<14, serverName("2001:db8::1")), unrecognizedName, BadRequest, "address_name"},
		{"wildcard", helloWith(1<<14, serverName("*.example.com")), unrecognizedName, BadRequest, "bad_name"},
		{"two host names", helloWith(1<<14, serverName("www.example.com", "a.example.com")), illegalParameter, BadRequest, "several_names"},
		{"the same name twice", helloWith(1<<14, serverName("www.example.com", "www.example.com")), illegalParameter, BadRequest, "several_names"},
		{"server_name twice", helloWith(1<<14, name, name), illegalParameter, BadRequest, "duplicate_extension"},
		{"another extension twice", helloWith(1<<14, name, extension(23, nil), extension(23, nil)), illegalParameter, BadRequest, "duplicate_extension"},
		{"extension longer than the hello", helloWith(1<<14, name, []byte{0, 23, 0, 9}), decodeError, BadRequest, "malformed"},
		{"more than 64 KB", helloWith(1<<14, name, extension(21, make([]byte, 0xfff0-len(name)))), internalError, BadRequest, "too_long"},
		{"64 KB in records of one byte", helloWith(1, name, extension(21, make([]byte, 60000))), internalError, BadRequest, "too_long"},
		{"empty record", "\x16\x03\x01\x00\x00", unexpectedMessage, BadRequest, "record_empty"},
		{"record of 2^14 + 1 bytes", "\x16\x03\x01\x40\x01", recordOverflow, BadRequest, "record_overflow"},
		{"major version 2", "\x16\x02\x00\x00\x05", protocolVersion, BadRequest, "record_version"},
		{"SSLv2 hello", "\x80\x2e\x01\x00\x02", protocolVersion, BadRequest, "sslv2"},
		{"an alert", "\x15\x03\x01\x00\x02\x02\x28", unexpectedMessage, BadRequest, "record_type"},
		{"ServerHello", "\x16\x03\x01\x00\x04\x02\x00\x00\x00", unexpectedMessage, BadRequest, "not_client_hello"},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", unexpectedMessage, BadRequest, "not_tls"},
		{"PROXY protocol", "PROXY TCP4 192.0.2.9 192.0.2.1 1 443\r\n", unexpectedMessage, BadRequest, "not_tls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			if got, want := w.answer(c.say), string([]byte{21, 3, 3, 0, 2, 2, c.alert}); got != want {
				t.Errorf("answer % x, want % x", got, want)
			}
			r := w.record()
			counted[r.Why]++
			if r.Result != c.result || r.Why != c.why || r.Backend.IsValid() {
				t.Errorf("record: %v (%s), VM %v; want %v (%s)", r.Result, r.Why, r.Backend, c.result, c.why)
			}
		})
	}
	const page = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 84\r\nConnection: close\r\n\r\n" +
		"This port speaks HTTPS, and you sent HTTP. Use an address that begins with https://\n"
	for _, say := range []string{"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		if got := w.answer(say); got != page {
			t.Errorf("%q: answer %q", say, got)
		}
		r := w.record()
		counted[r.Why]++
		if r.Result != BadRequest || r.Why != "plain_http" {
			t.Errorf("%q: record %v (%s)", say, r.Result, r.Why)
		}
	}
	w.t = t
	for reason, n := range w.Stats().Refused[TLS] {
		if label := sniff.Reason(reason).Label(); n != counted[label] {
			t.Errorf("%s: counted %d times instead of %d", label, n, counted[label])
		}
	}
	// Nobody was let through.
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("the VM was connected to")
	}
}

// answer is all that the server says to these bytes. Who says too much may see the
// connection break behind the answer.
func (w *world) answer(say string) string {
	w.t.Helper()
	c, err := net.Dial("tcp", w.at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = io.WriteString(c, say) }()
	b, _ := io.ReadAll(c)
	return string(b)
}
