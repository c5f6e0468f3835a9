package http1

import "bytes"

// preface is what an HTTP/2 client says first (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxTrailer bounds the trailer section of a chunked body, and a line that gives
// a chunk's size with its extensions; both in bytes. net/http has the same bounds.
const (
	maxTrailer   = 4096 - 512
	maxChunkLine = 4096 - 512
)

// Checker follows what a client sends on one connection. Its zero value, with
// MaxHead set, is at the beginning of one.
type Checker struct {
	MaxHead int // bytes of a request's head

	state   state
	http2   bool
	skipped bool // an empty line in front of this head
	faulted *Fault

	section section // the head or trailer section that is being read
	left    int64   // bytes of the body, or of the chunk
	digits  int     // of the chunk's size
	line    int     // bytes of the line with the chunk's size
}

type state uint8

const (
	opening state = iota // nothing has been said
	inHead
	inBody // with a Content-Length
	chunkSize
	chunkExtension
	chunkSizeLF
	inChunk
	chunkCR
	chunkLF
	inTrailer
	paused // after a head that asks for another protocol
	open   // another protocol
	broken
)

// Feed looks at what comes next. The first n bytes are in order and go on. The rest
// is to be given again, with more behind it: it is a part of a head. With a fault,
// the rest must go nowhere, and every later call gives the same fault.
func (c *Checker) Feed(b []byte) (n int, fault *Fault) {
	for n < len(b) && fault == nil {
		rest := b[n:]
		switch c.state {
		case opening:
			if c.http2 = bytes.HasPrefix(rest, []byte(preface)); c.http2 {
				c.state = open
			} else if !bytes.HasPrefix([]byte(preface), rest) {
				c.state = inHead
			} else {
				return n, nil
			}
		case inHead, inTrailer:
			if n > 0 && c.state == inHead && !c.skipped && bytes.HasPrefix(rest, []byte("\r\n")) {
				return n, nil // for Skip
			}
			max := c.MaxHead
			if c.state == inTrailer {
				max = maxTrailer
			}
			var end int
			end, fault = c.section.read(rest, max, c.state == inTrailer)
			if fault == nil {
				if end == 0 {
					return n, nil
				}
				if fault = c.next(); fault == nil {
					n += end
				}
			}
		case inBody, inChunk:
			take := min(c.left, int64(len(rest)))
			n += int(take)
			if c.left -= take; c.left == 0 {
				if c.state == inBody {
					c.begin(inHead)
				} else {
					c.state = chunkCR
				}
			}
		case paused:
			return n, nil
		case open:
			return len(b), nil
		case broken:
			return n, c.faulted
		default:
			if fault = c.chunked(rest[0]); fault == nil {
				n++
			}
		}
	}
	if fault != nil {
		c.fail(fault)
	}
	return n, fault
}

func (c *Checker) fail(f *Fault) {
	f.InBody = c.state != inHead && c.state != opening
	c.state, c.faulted = broken, f
}

// begin starts a head or a trailer section.
func (c *Checker) begin(s state) {
	c.state, c.section, c.skipped = s, section{}, false
}

// next goes on after the end of a head or trailer section.
func (c *Checker) next() *Fault {
	if c.state == inTrailer {
		c.begin(inHead)
		return nil
	}
	h := &c.section
	if f := h.finish(); f != nil {
		return f
	}
	switch {
	case h.chunked:
		c.state, c.digits, c.line, c.left = chunkSize, 0, 0, 0
	case h.length > 0:
		c.state, c.left = inBody, h.length
	case h.upgrades():
		c.state = paused
	default:
		c.begin(inHead)
	}
	return nil
}

// Skip is how many bytes at the beginning of what comes next are to go nowhere: an
// empty line in front of a request, as old clients send after a body (RFC 9112
// section 2.2). To be asked before Feed.
func (c *Checker) Skip(b []byte) int {
	if c.state > inHead || c.skipped || c.section.begin > 0 || !bytes.HasPrefix(b, []byte("\r\n")) {
		return 0
	}
	c.begin(inHead)
	c.skipped = true
	return 2
}

// chunked takes the next byte of a chunked body outside of the chunks themselves
// (RFC 9112 section 7.1).
func (c *Checker) chunked(b byte) *Fault {
	c.line++
	switch c.state {
	case chunkSize:
		v := hexValue(b)
		switch {
		case v >= 0 && c.digits < 15:
			c.left, c.digits = c.left<<4|int64(v), c.digits+1
		case v >= 0:
			return bad("chunk too large")
		case c.digits == 0:
			return bad("chunk without a size")
		case b == ';':
			c.state = chunkExtension
		case b == '\r':
			c.state = chunkSizeLF
		case b == '\n':
			return bad("bare LF after a chunk's size")
		default:
			return bad("malformed chunk size")
		}
	case chunkExtension:
		switch {
		case b == '\r':
			c.state = chunkSizeLF
		case b == '\n':
			return bad("bare LF after a chunk's size")
		case isControl(b):
			return bad("control character in a chunk extension")
		case c.line > maxChunkLine:
			return bad("chunk extension too long")
		}
	case chunkSizeLF:
		if b != '\n' {
			return bad("bare CR after a chunk's size")
		}
		if c.state = inChunk; c.left == 0 {
			c.begin(inTrailer)
		}
	case chunkCR:
		if b != '\r' {
			return bad("chunk longer than its size")
		}
		c.state = chunkLF
	case chunkLF:
		if b != '\n' {
			return bad("bare CR after a chunk")
		}
		c.state, c.digits, c.line, c.left = chunkSize, 0, 0, 0
	}
	return nil
}

// Continue is for a connection on which another Checker has taken requests: it
// can't begin with HTTP/2's preface any more.
func (c *Checker) Continue() { c.begin(inHead) }

// Between tells whether all that came belongs to requests that have ended.
func (c *Checker) Between() bool { return c.state == inHead && c.section.looked == 0 }

// HTTP2 tells that the connection began with HTTP/2's preface: all of it is in
// order.
func (c *Checker) HTTP2() bool { return c.http2 }

// Paused tells that the last head asks for another protocol. Until it is known
// whether the client gets it, nothing can be said about what follows.
func (c *Checker) Paused() bool { return c.state == paused }

// Resume goes on after a pause: with another protocol, of which all is in order,
// or with the next request.
func (c *Checker) Resume(other bool) {
	if c.state != paused {
		return
	}
	if c.begin(inHead); other {
		c.state = open
	}
}

// Fixed is how many bytes of a body are to come for certain: so many can be read
// without reaching into the next head.
func (c *Checker) Fixed() int64 {
	switch c.state {
	case inBody, inChunk:
		return c.left
	case open:
		return 1<<63 - 1
	}
	return 0
}
