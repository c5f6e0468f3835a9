package http1

import (
	"bytes"
	"net/http"
)

// A Fault is why a request is not taken.
type Fault struct {
	Status int    // for the client
	Why    string // for operators; nothing of what the client said
	InBody bool   // the head of this request was in order
}

func (f *Fault) Error() string { return f.Why }

func bad(why string) *Fault { return &Fault{Status: http.StatusBadRequest, Why: why} }

// maxFields bounds the fields of a head.
const maxFields = 256

// section is a head or a trailer section while it is read: lines, and an empty one.
// Offsets count from its first byte.
type section struct {
	looked int // bytes that have been looked at
	begin  int // where the current line begins
	cr     bool
	fields int

	started  bool // there was a request line
	old      bool // HTTP/1.0
	options  bool // the method is OPTIONS
	absolute string
	hosts    int
	host     string
	lengths  int
	length   int64
	codings  int
	chunked  bool
	upgrade  bool // to something that is not h2c
	wanted   bool // Connection: upgrade
}

// read looks at what is new of b, the section so far. end is how long the section
// is, or 0 if b has not all of it.
func (s *section) read(b []byte, max int, trailer bool) (end int, fault *Fault) {
	for ; s.looked < len(b); s.looked++ {
		c := b[s.looked]
		switch {
		case s.looked >= max:
			return 0, &Fault{Status: http.StatusRequestHeaderFieldsTooLarge, Why: "head too large"}
		case s.cr && c == '\n':
			line := b[s.begin : s.looked-1]
			s.cr, s.begin = false, s.looked+1
			switch {
			case len(line) == 0 && (s.started || trailer):
				return s.begin, nil
			case trailer:
				fault = s.trailer(line)
			case !s.started:
				s.started = true
				fault = s.request(line)
			default:
				fault = s.field(line)
			}
			if fault != nil {
				return 0, fault
			}
		case s.cr:
			return 0, bad("bare CR")
		case c == '\r':
			s.cr = true
		case c == '\n':
			return 0, bad("bare LF")
		case isControl(c):
			return 0, bad("control character")
		}
	}
	return 0, nil
}

// request checks a request line (RFC 9112 section 3).
func (s *section) request(line []byte) *Fault {
	method, rest, ok := bytes.Cut(line, space)
	if !ok || !isToken(method) {
		return bad("malformed request line")
	}
	target, version, ok := bytes.Cut(rest, space)
	if !ok {
		return bad("HTTP/0.9, or no version")
	}
	switch {
	case string(version) == "HTTP/1.1":
	case string(version) == "HTTP/1.0":
		s.old = true
	case len(version) == 8 && bytes.HasPrefix(version, []byte("HTTP/")) && isDigit(version[5]) && version[6] == '.' && isDigit(version[7]) && version[5] != '0':
		return &Fault{Status: http.StatusHTTPVersionNotSupported, Why: "HTTP version"}
	default:
		return bad("malformed HTTP version")
	}
	if string(method) == http.MethodConnect {
		return bad("CONNECT")
	}
	s.options = string(method) == http.MethodOptions
	return s.target(target)
}

// target checks a request target: origin-form, absolute-form or asterisk-form
// (RFC 9112 section 3.2).
func (s *section) target(t []byte) *Fault {
	switch {
	case len(t) == 0:
		return bad("no request target")
	case t[0] == '/':
	case len(t) == 1 && t[0] == '*':
		if !s.options {
			return bad("* as the target of another method than OPTIONS")
		}
		return nil
	case hasPrefixFold(t, "https://"):
		// RFC 9110 section 7.4.
		return &Fault{Status: http.StatusMisdirectedRequest, Why: "https resource asked for without TLS"}
	case hasPrefixFold(t, "http://"):
		authority := t[len("http://"):]
		if end := bytes.IndexAny(authority, "/?#"); end >= 0 {
			authority, t = authority[:end], authority[end:]
		} else {
			t = nil
		}
		if len(authority) == 0 {
			return bad("no host in the request target")
		}
		s.absolute = string(authority)
	default:
		return bad("malformed request target")
	}
	path, _, _ := bytes.Cut(t, []byte{'?'})
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && (i+2 >= len(path) || hexValue(path[i+1]) < 0 || hexValue(path[i+2]) < 0) {
			return bad("malformed escape in the request target")
		}
	}
	if bytes.IndexByte(t, '#') >= 0 {
		return bad("fragment in the request target")
	}
	if bytes.IndexByte(t, '\t') >= 0 {
		return bad("white space in the request target")
	}
	return nil
}

// split parts a field line (RFC 9112 section 5).
func (s *section) split(line []byte) (name, value []byte, fault *Fault) {
	if line[0] == ' ' || line[0] == '\t' {
		return nil, nil, bad("line folding")
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	switch {
	case !ok:
		return nil, nil, bad("field line without a colon")
	case len(name) > 0 && (name[len(name)-1] == ' ' || name[len(name)-1] == '\t'):
		return nil, nil, bad("white space before a colon")
	case !isToken(name):
		return nil, nil, bad("malformed field name")
	}
	if s.fields++; s.fields > maxFields {
		return nil, nil, &Fault{Status: http.StatusRequestHeaderFieldsTooLarge, Why: "too many fields"}
	}
	return name, bytes.Trim(value, " \t"), nil
}
