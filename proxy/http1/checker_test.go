package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"aarch64.com/isthmus/proxy/sniff"
)

const host = "Host: a.example\r\n"

// Each bad input and what it is answered with.
var faults = []struct {
	name, in string
	want     Fault
}{
	{"both lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Fault{400, "both Content-Length and Transfer-Encoding", false}},
	{"both lengths, the other way", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", Fault{400, "both Content-Length and Transfer-Encoding", false}},
	{"differing lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", Fault{400, "two Content-Length fields", false}},
	{"equal lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", Fault{400, "two Content-Length fields", false}},
	{"list of lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\n", Fault{400, "malformed Content-Length", false}},
	{"signed length", "POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\n", Fault{400, "malformed Content-Length", false}},
	{"negative length", "POST / HTTP/1.1\r\n" + host + "Content-Length: -3\r\n\r\n", Fault{400, "malformed Content-Length", false}},
	{"hexadecimal length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0x3\r\n\r\n", Fault{400, "malformed Content-Length", false}},
	{"empty length", "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", Fault{400, "malformed Content-Length", false}},
	{"huge length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 18446744073709551617\r\n\r\n", Fault{400, "malformed Content-Length", false}},
	{"xchunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n", Fault{400, "another transfer coding than chunked", false}},
	{"gzip, chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", Fault{400, "another transfer coding than chunked", false}},
	{"vertical tab before chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \vchunked\r\n\r\n", Fault{400, "control character", false}},
	{"two codings", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", Fault{400, "two Transfer-Encoding fields", false}},
	{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", Fault{400, "Transfer-Encoding in HTTP/1.0", false}},
	{"obs-fold", "GET / HTTP/1.1\r\n" + host + "X-A: b\r\n c\r\n\r\n", Fault{400, "line folding", false}},
	{"obs-fold before the first field", "GET / HTTP/1.1\r\n Host: b.example\r\n" + host + "\r\n", Fault{400, "line folding", false}},
	{"space before the colon", "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", Fault{400, "white space before a colon", false}},
	{"tab before the colon", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding\t: chunked\r\n\r\n", Fault{400, "white space before a colon", false}},
	{"no colon", "GET / HTTP/1.1\r\n" + host + "X-A\r\n\r\n", Fault{400, "field line without a colon", false}},
	{"no name", "GET / HTTP/1.1\r\n" + host + ": b\r\n\r\n", Fault{400, "malformed field name", false}},
	{"name in parentheses", "GET / HTTP/1.1\r\n" + host + "(X): b\r\n\r\n", Fault{400, "malformed field name", false}},
	{"no Host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n", Fault{400, "no Host field", false}},
	{"no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", Fault{400, "no Host field", false}},
	{"two Hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", Fault{400, "two Host fields", false}},
	{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Fault{400, "malformed Host", false}},
	{"Host with a user", "GET / HTTP/1.1\r\nHost: b@a.example\r\n\r\n", Fault{400, "malformed Host", false}},
	{"Host with a path", "GET / HTTP/1.1\r\nHost: a.example/b\r\n\r\n", Fault{400, "malformed Host", false}},
	{"Host with a comma", "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n", Fault{400, "malformed Host", false}},
	{"Host with a wrong port", "GET / HTTP/1.1\r\nHost: a.example:65536\r\n\r\n", Fault{400, "malformed Host", false}},
	{"address without brackets", "GET / HTTP/1.1\r\nHost: 2001:db8::1\r\n\r\n", Fault{400, "malformed Host", false}},
	{"one bracket", "GET / HTTP/1.1\r\nHost: [2001:db8::1\r\n\r\n", Fault{400, "malformed Host", false}},
	{"address with a zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", Fault{400, "malformed Host", false}},
	{"user in the target", "GET http://b@a.example/ HTTP/1.1\r\n" + host + "\r\n", Fault{400, "malformed host in the request target", false}},
	{"target and Host disagree", "GET http://b.example/ HTTP/1.1\r\n" + host + "\r\n", Fault{400, "request target and Host disagree", false}},
	{"their ports disagree", "GET http://a.example:81/ HTTP/1.1\r\n" + host + "\r\n", Fault{400, "request target and Host disagree", false}},
	{"target without a host", "GET http:///b HTTP/1.1\r\n" + host + "\r\n", Fault{400, "no host in the request target", false}},
	{"https", "GET https://a.example/ HTTP/1.1\r\n" + host + "\r\n", Fault{421, "https resource asked for without TLS", false}},
	{"another scheme", "GET ftp://a.example/ HTTP/1.1\r\n" + host + "\r\n", Fault{400, "malformed request target", false}},
	{"target without a slash", "GET a HTTP/1.1\r\n" + host + "\r\n", Fault{400, "malformed request target", false}},
	{"asterisk", "GET * HTTP/1.1\r\n" + host + "\r\n", Fault{400, "* as the target of another method than OPTIONS", false}},
	{"bad escape", "GET /%zz HTTP/1.1\r\n" + host + "\r\n", Fault{400, "malformed escape in the request target", false}},
	{"fragment", "GET /#a HTTP/1.1\r\n" + host + "\r\n", Fault{400, "fragment in the request target", false}},
	{"CONNECT", "CONNECT a.example:443 HTTP/1.1\r\n" + host + "\r\n", Fault{400, "CONNECT", false}},
	{"HTTP/0.9", "GET /\r\n", Fault{400, "HTTP/0.9, or no version", false}},
	{"HTTP/2.0 without its preface", "GET / HTTP/2.0\r\n" + host + "\r\n", Fault{505, "HTTP version", false}},
	{"HTTP/1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", Fault{505, "HTTP version", false}},
	{"http/1.1", "GET / http/1.1\r\n" + host + "\r\n", Fault{400, "malformed HTTP version", false}},
	{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", Fault{400, "malformed HTTP version", false}},
	{"space behind", "GET / HTTP/1.1 \r\n" + host + "\r\n", Fault{400, "malformed HTTP version", false}},
	{"tab in the target", "GET /\ta HTTP/1.1\r\n" + host + "\r\n", Fault{400, "white space in the request target", false}},
	{"NUL in a value", "GET / HTTP/1.1\r\n" + host + "X-A: b\x00\r\n\r\n", Fault{400, "control character", false}},
	{"NUL in the target", "GET /\x00 HTTP/1.1\r\n", Fault{400, "control character", false}},
	{"bare CR", "GET / HTTP/1.1\r\n" + host + "X-A: b\rX-B: c\r\n\r\n", Fault{400, "bare CR", false}},
	{"bare LF", "GET / HTTP/1.1\n" + host + "\r\n", Fault{400, "bare LF", false}},
	{"bare LF at the end", "GET / HTTP/1.1\r\n" + host + "\n", Fault{400, "bare LF", false}},
	{"TLS", "\x16\x03\x01\x02\x00\x01", Fault{400, "control character", false}},
	{"two empty lines", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", Fault{400, "malformed request line", false}},
	{"another expectation", "GET / HTTP/1.1\r\n" + host + "Expect: tea\r\n\r\n", Fault{417, "another expectation than 100-continue", false}},
	{"large head", "GET / HTTP/1.1\r\nX-A: " + strings.Repeat("b", maxHead), Fault{431, "head too large", false}},
	{"large target", "GET /" + strings.Repeat("b", maxHead), Fault{431, "head too large", false}},
	{"many fields", "GET / HTTP/1.1\r\n" + strings.Repeat("A:\r\n", maxFields+1), Fault{431, "too many fields", false}},

	{"bare LF behind a chunk's size", chunked + "3\nabc\r\n0\r\n\r\n", Fault{400, "bare LF after a chunk's size", true}},
	{"bare LF behind an extension", chunked + "3;a\nabc\r\n0\r\n\r\n", Fault{400, "bare LF after a chunk's size", true}},
	{"bare CR behind a chunk's size", chunked + "3\rabc\r\n0\r\n\r\n", Fault{400, "bare CR after a chunk's size", true}},
	{"bare LF behind a chunk", chunked + "3\r\nabc\n0\r\n\r\n", Fault{400, "chunk longer than its size", true}},
	{"bare CR behind a chunk", chunked + "3\r\nabc\r0\r\n\r\n", Fault{400, "bare CR after a chunk", true}},
	{"chunk too long", chunked + "3\r\nabcd\r\n0\r\n\r\n", Fault{400, "chunk longer than its size", true}},
	{"chunk size with 0x", chunked + "0x3\r\nabc\r\n0\r\n\r\n", Fault{400, "malformed chunk size", true}},
	{"chunk size with a space", chunked + "3 \r\nabc\r\n0\r\n\r\n", Fault{400, "malformed chunk size", true}},
	{"negative chunk size", chunked + "-3\r\nabc\r\n0\r\n\r\n", Fault{400, "chunk without a size", true}},
	{"huge chunk", chunked + "10000000000000003\r\nabc\r\n0\r\n\r\n", Fault{400, "chunk too large", true}},
	{"long extension", chunked + "3;" + strings.Repeat("a", maxChunkLine) + "\r\nabc\r\n0\r\n\r\n", Fault{400, "chunk extension too long", true}},
	{"bare LF in a trailer section", chunked + "0\r\nX-A: b\n\r\n", Fault{400, "bare LF", true}},
	{"bare LF for a trailer section", chunked + "0\r\n\n", Fault{400, "bare LF", true}},
	{"Content-Length as a trailer", chunked + "0\r\nContent-Length: 3\r\n\r\n", Fault{400, "field in a trailer section that belongs into a head", true}},
	{"Host as a trailer", chunked + "0\r\nhost: b.example\r\n\r\n", Fault{400, "field in a trailer section that belongs into a head", true}},
	{"large trailer section", chunked + "0\r\nX-A: " + strings.Repeat("b", maxTrailer) + "\r\n\r\n", Fault{431, "head too large", true}},
	{"a second request", "GET / HTTP/1.1\r\n" + host + "\r\nGET / HTTP/1.1\r\n\r\n", Fault{400, "no Host field", false}},
}

const (
	maxHead = 8 << 10
	chunked = "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n"
)

func TestFaults(t *testing.T) {
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{len(c.in), 1, 7} {
				passed, fault := feed(&Checker{MaxHead: maxHead}, []byte(c.in), step)
				if fault == nil || *fault != c.want {
					t.Errorf("in steps of %d: %+v, want %+v", step, fault, c.want)
				}
				// Nothing of a head goes on that is not in order as a whole.
				if n := bytes.Count(passed, []byte("HTTP/1.")); !c.want.InBody && n > strings.Count(c.in, "HTTP/1.")-1 && n > 0 {
					t.Errorf("in steps of %d: %q went on", step, passed)
				}
			}
		})
	}
}

// What is unusual and in order.
func TestTaken(t *testing.T) {
	for _, c := range []struct{ name, in string }{
		{"HTTP/1.0", "GET / HTTP/1.0\r\n" + host + "\r\n"},
		{"absolute-form", "GET http://A.example:80/a?b HTTP/1.1\r\n" + host + "\r\n"},
		{"absolute-form without a path", "GET HTTP://a.example HTTP/1.1\r\n" + host + "\r\n"},
		{"asterisk-form", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n"},
		{"an address", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"},
		{"a port and a dot", "GET / HTTP/1.1\r\nHost: a.example.:8080\r\n\r\n"},
		{"UTF-8", "GET /\xc3\xa4?\xc3\xb6 HTTP/1.1\r\n" + host + "X-A: \xc3\xbc\r\n\r\n"},
		{"anything in a query", "GET /?%zz;{}|\\^`\" HTTP/1.1\r\n" + host + "\r\n"},
		{"tabs around a value", "GET / HTTP/1.1\r\nHost:\ta.example\t \r\n\r\n"},
		{"chunks", chunked + "3;a=\"b\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n"},
		{"trailers", chunked + "0\r\nX-A: b\r\n\r\n"},
		{"CHUNKED", strings.Replace(chunked, "chunked", "CHUNKED", 1) + "0\r\n\r\n"},
		{"pipelined", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n" + host + "\r\n" + chunked + "1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n"},
		{"h2c", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{len(c.in), 1, 7} {
				passed, fault := feed(&Checker{MaxHead: maxHead}, []byte(c.in), step)
				if fault != nil || string(passed) != c.in {
					t.Errorf("in steps of %d: passed %q, fault %v", step, passed, fault)
				}
			}
			checkSame(t, []byte(c.in))
		})
	}
}

func TestEmptyLine(t *testing.T) {
	const request = "GET / HTTP/1.1\r\n" + host + "\r\n"
	for _, step := range []int{1, 100} {
		passed, fault := feed(&Checker{MaxHead: maxHead}, []byte("\r\n"+request+"\r\n"+request), step)
		if fault != nil || string(passed) != request+request {
			t.Errorf("passed %q, fault %v", passed, fault)
		}
	}
}

func TestHTTP2(t *testing.T) {
	in := preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, step := range []int{1, 14, 100} {
		c := &Checker{MaxHead: maxHead}
		passed, fault := feed(c, []byte(in), step)
		if fault != nil || string(passed) != in || !c.HTTP2() {
			t.Errorf("in steps of %d: passed %q, fault %v", step, passed, fault)
		}
	}
	if _, fault := feed(&Checker{MaxHead: maxHead}, []byte("GET / HTTP/1.1\r\n"+host+"\r\n"+in), 100); fault == nil {
		t.Error("the preface was taken after a request")
	}
}

func TestPause(t *testing.T) {
	const head = "GET / HTTP/1.1\r\n" + host + "Connection: keep-alive, Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n"
	for _, other := range []bool{true, false} {
		c := &Checker{MaxHead: maxHead}
		passed, fault := feed(c, []byte(head+"\x81\x00"), 1)
		if fault != nil || string(passed) != head || !c.Paused() {
			t.Fatalf("passed %q, fault %v", passed, fault)
		}
		c.Resume(other)
		if n, fault := c.Feed([]byte("\x01\x00")); (n == 2) != other || (fault == nil) != other {
			t.Errorf("other protocol %v: passed %d, fault %v", other, n, fault)
		}
	}
}

// feed gives all of in, in steps, and collects what goes on.
func feed(c *Checker, in []byte, step int) (passed []byte, fault *Fault) {
	var held []byte
	for len(in) > 0 {
		n := min(step, len(in))
		held, in = append(held, in[:n]...), in[n:]
		for {
			skipped := c.Skip(held)
			held = held[skipped:]
			n, fault = c.Feed(held)
			passed, held = append(passed, held[:n]...), held[n:]
			if fault != nil {
				return passed, fault
			}
			if n == 0 && skipped == 0 || len(held) == 0 || c.Paused() {
				break
			}
		}
	}
	return passed, nil
}

// ends gives where requests end in what goes on.
func ends(in []byte) (ends []int, passed []byte, fault *Fault) {
	c := &Checker{MaxHead: maxHead}
	var held []byte
	for _, b := range in {
		held = append(held, b)
		held = held[c.Skip(held):]
		n, fault := c.Feed(held)
		passed, held = append(passed, held[:n]...), held[n:]
		if fault != nil || c.Paused() || c.HTTP2() {
			return ends, passed, fault
		}
		if n > 0 && c.state == inHead {
			ends = append(ends, len(passed))
		}
	}
	return ends, passed, nil
}

// checkSame compares with how net/http reads what has gone on.
func checkSame(t *testing.T, in []byte) {
	t.Helper()
	want, passed, _ := ends(in)
	source := bytes.NewReader(passed)
	r := bufio.NewReader(source)
	for i, end := range want {
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("net/http does not take request %d of %q: %v", i, passed, err)
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			t.Fatalf("net/http does not take the body of request %d of %q: %v", i, passed, err)
		}
		if at := len(passed) - source.Len() - r.Buffered(); at != end {
			t.Fatalf("net/http sees the end of request %d of %q at %d, not at %d", i, passed, at, end)
		}
		if _, _, err := sniff.HostPort(req.Host); err != nil && err != sniff.AddressName {
			t.Fatalf("net/http sees the host %q in %q: %v", req.Host, passed, err)
		}
	}
}

func FuzzChecker(f *testing.F) {
	for _, c := range faults {
		f.Add([]byte(c.in), uint8(3))
	}
	f.Add([]byte(preface), uint8(1))
	f.Add([]byte("GET http://:: HTTP/1.0\r\nHost: ::\r\n\r\n"), uint8(1))
	f.Add([]byte("GET http://[::1]:80/ HTTP/1.1\r\nHost: [::1]\r\n\r\nGET / HTTP/1.1\r\n"+host+"\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		whole, fault := feed(&Checker{MaxHead: maxHead}, in, len(in)+1)
		steps, fault2 := feed(&Checker{MaxHead: maxHead}, in, int(step)+1)
		if !bytes.Equal(whole, steps) || fmt.Sprint(fault) != fmt.Sprint(fault2) {
			t.Fatalf("%q: at once %q, %v; in steps %q, %v", in, whole, fault, steps, fault2)
		}
		checkSame(t, in)
	})
}
