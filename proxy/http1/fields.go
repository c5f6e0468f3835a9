package http1

import (
	"bytes"
	"net/http"
	"strings"

	"aarch64.com/isthmus/proxy/sniff"
)

var space = []byte{' '}

// field takes the fields that say where a request goes and where it ends.
func (s *section) field(line []byte) *Fault {
	name, value, fault := s.split(line)
	if fault != nil {
		return fault
	}
	switch {
	case is(name, "host"):
		if s.hosts++; s.hosts > 1 {
			return bad("two Host fields")
		}
		s.host = string(value)
	case is(name, "content-length"):
		if s.lengths++; s.lengths > 1 {
			return bad("two Content-Length fields")
		}
		return s.contentLength(value)
	case is(name, "transfer-encoding"):
		if s.codings++; s.codings > 1 {
			return bad("two Transfer-Encoding fields")
		}
		if !is(value, "chunked") {
			return bad("another transfer coding than chunked")
		}
		s.chunked = true
	case is(name, "expect"):
		if !is(value, "100-continue") {
			return &Fault{Status: http.StatusExpectationFailed, Why: "another expectation than 100-continue"}
		}
	case is(name, "upgrade"):
		s.upgrade = s.upgrade || Upgrade(string(value)) != ""
	case is(name, "connection"):
		for option := range bytes.SplitSeq(value, []byte{','}) {
			s.wanted = s.wanted || is(bytes.Trim(option, " \t"), "upgrade")
		}
	}
	return nil
}

func (s *section) contentLength(value []byte) *Fault {
	// 18 digits fit.
	if len(value) == 0 || len(value) > 18 {
		return bad("malformed Content-Length")
	}
	for _, c := range value {
		if !isDigit(c) {
			return bad("malformed Content-Length")
		}
		s.length = s.length*10 + int64(c-'0')
	}
	return nil
}

// trailer takes no fields that belong into a head (RFC 9110 section 6.5.1).
func (s *section) trailer(line []byte) *Fault {
	name, _, fault := s.split(line)
	if fault != nil {
		return fault
	}
	for _, forbidden := range [...]string{"host", "content-length", "transfer-encoding", "trailer", "connection", "upgrade", "te", "expect"} {
		if is(name, forbidden) {
			return bad("field in a trailer section that belongs into a head")
		}
	}
	return nil
}

// finish looks at a head as a whole.
func (s *section) finish() *Fault {
	switch {
	case s.chunked && s.lengths > 0:
		return bad("both Content-Length and Transfer-Encoding")
	case s.chunked && s.old:
		return bad("Transfer-Encoding in HTTP/1.0")
	case s.hosts == 0:
		return bad("no Host field")
	}
	host, port, err := sniff.HostPort(s.host)
	if err != nil && (err != sniff.AddressName || !bracketed(s.host)) {
		return bad("malformed Host")
	}
	if s.absolute == "" {
		return nil
	}
	other, otherPort, otherErr := sniff.HostPort(s.absolute)
	if otherErr != nil && (otherErr != sniff.AddressName || !bracketed(s.absolute)) {
		return bad("malformed host in the request target")
	}
	if err != nil || otherErr != nil {
		if strings.EqualFold(s.host, s.absolute) {
			return nil
		}
	} else if host == other && orHTTP(port) == orHTTP(otherPort) {
		return nil
	}
	return bad("request target and Host disagree")
}

// bracketed tells whether an address is written as a host may be: that of IPv6 in
// brackets and without a zone (RFC 3986 section 3.2.2).
func bracketed(s string) bool {
	if strings.Count(s, ":") <= 1 {
		return !strings.ContainsAny(s, "[]")
	}
	address, ok := strings.CutPrefix(s, "[")
	address, port, closed := strings.Cut(address, "]")
	return ok && closed && (port == "" || port[0] == ':') && !strings.Contains(address, "%")
}

func orHTTP(port uint16) uint16 {
	if port == 0 {
		return 80
	}
	return port
}

// upgrades tells whether another protocol may follow this head.
func (s *section) upgrades() bool { return s.upgrade && s.wanted && !s.old }

// Upgrade is what is left of an Upgrade field's value without h2c, which would be
// HTTP that nobody here looks at (RFC 9113 section 3.1 has withdrawn it).
func Upgrade(value string) string {
	if !containsFold(value, "h2c") {
		return value
	}
	var left []string
	for p := range strings.SplitSeq(value, ",") {
		p = strings.Trim(p, " \t")
		name, _, _ := strings.Cut(p, "/")
		if p != "" && !strings.EqualFold(name, "h2c") {
			left = append(left, p)
		}
	}
	return strings.Join(left, ", ")
}

func containsFold(s, lower string) bool { return strings.Contains(strings.ToLower(s), lower) }

// is compares with a word in lower case.
func is(b []byte, lower string) bool {
	return len(b) == len(lower) && hasPrefixFold(b, lower)
}

func hasPrefixFold(b []byte, lower string) bool {
	if len(b) < len(lower) {
		return false
	}
	for i := range len(lower) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool   { return '0' <= c && c <= '9' }
func isControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

func hexValue(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// tokens has the characters of a token (RFC 9110 section 5.6.2).
var tokens = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if !tokens[c] {
			return false
		}
	}
	return len(b) > 0
}
