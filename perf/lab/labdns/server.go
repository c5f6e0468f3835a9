package labdns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"aarch64.com/isthmus/perf/lab"
)

const (
	plainSize = 512  // bytes of an answer over UDP, RFC 1035 section 4.2.1
	ednsSize  = 1232 // fits every IPv6 path; for those who say that they take more
	idleTCP   = 10 * time.Second
)

// Server is a name server on one address of a host, over UDP and TCP.
type Server struct {
	prefix netip.Prefix
	zone   atomic.Pointer[zone]
	udp    net.PacketConn
	tcp    net.Listener

	mu     sync.Mutex
	open   map[net.Conn]bool // TCP connections; nil when closed
	loops  sync.WaitGroup
	closed sync.Once
}

// Serve starts a name server on the host.
func Serve(h *lab.Host, at netip.AddrPort, c Config) (*Server, error) {
	if c.Prefix.IsValid() && (c.Prefix.Bits() != 96 || !c.Prefix.Addr().Is6()) {
		return nil, fmt.Errorf("DNS64 with %v: this server takes IPv6 prefixes of 96 bits only, StartResolver takes all", c.Prefix)
	}
	s := &Server{prefix: c.Prefix, open: map[net.Conn]bool{}}
	err := s.Set(c.Records)
	if err != nil {
		return nil, err
	}
	if s.udp, err = h.ListenPacket("udp", at.String()); err != nil {
		return nil, fmt.Errorf("name server on %s: %w", h.Name(), err)
	}
	if s.tcp, err = h.Listen("tcp", at.String()); err != nil {
		s.udp.Close()
		return nil, fmt.Errorf("name server on %s: %w", h.Name(), err)
	}
	s.loops.Go(s.serveUDP)
	s.loops.Go(s.serveTCP)
	return s, nil
}

// Set replaces all records.
func (s *Server) Set(r Records) error {
	z, err := newZone(wellKnown, r)
	if err == nil {
		s.zone.Store(&z)
	}
	return err
}

// Close ends the server. It may be called more than once.
func (s *Server) Close() {
	s.closed.Do(func() {
		s.udp.Close()
		s.tcp.Close()
		s.mu.Lock()
		for c := range s.open {
			c.Close()
		}
		s.open = nil
		s.mu.Unlock()
	})
	s.loops.Wait()
}

func (s *Server) serveUDP() {
	for buf := make([]byte, 1<<16); ; {
		n, from, err := s.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error for an answer of ours
		}
		if out := s.reply(buf[:n], plainSize); out != nil {
			_, _ = s.udp.WriteTo(out, from)
		}
	}
}

func (s *Server) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.open == nil {
			c.Close()
		} else {
			s.open[c] = true
			s.loops.Go(func() { s.converse(c) })
		}
		s.mu.Unlock()
	}
}

// converse answers what comes over one connection, each message behind its
// length (RFC 7766).
func (s *Server) converse(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
	}()
	for {
		_ = c.SetDeadline(time.Now().Add(idleTCP))
		var length uint16
		if binary.Read(c, binary.BigEndian, &length) != nil {
			return
		}
		query := make([]byte, length)
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		out := s.reply(query, 1<<16-1)
		if out == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}

// reply makes the answer to a message, or nil where there must be none. It is
// no longer than limit, or than EDNS allows.
func (s *Server) reply(query []byte, limit int) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{
		ID: h.ID, Response: true, OpCode: h.OpCode, Authoritative: true,
		RecursionDesired: h.RecursionDesired, RecursionAvailable: true, // there is nothing else to ask
	}}
	m.Questions, err = p.AllQuestions()
	switch {
	case err != nil || len(m.Questions) != 1:
		m.Questions = nil
		m.RCode = dnsmessage.RCodeFormatError
	case h.OpCode != 0:
		m.RCode = dnsmessage.RCodeNotImplemented
	case m.Questions[0].Class != dnsmessage.ClassINET:
		m.RCode = dnsmessage.RCodeRefused
	default:
		m.RCode, m.Answers = s.zone.Load().answer(m.Questions[0], s.prefix)
		if len(m.Answers) == 0 {
			m.Authorities = []dnsmessage.Resource{authority}
		}
		if size, ok := edns(&p); ok {
			limit = max(limit, min(size, ednsSize))
			m.Additionals = []dnsmessage.Resource{{Body: &dnsmessage.OPTResource{}}}
			if m.Additionals[0].Header.SetEDNS0(ednsSize, m.RCode, false) != nil {
				return nil
			}
		}
	}
	out, err := m.Pack()
	if err == nil && len(out) > limit {
		m.Truncated, m.Answers = true, nil
		out, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return out
}

// authority goes with negative answers (RFC 2308): they last for 0 seconds.
var authority = dnsmessage.Resource{
	Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Class: dnsmessage.ClassINET},
	Body: &dnsmessage.SOAResource{
		NS: dnsmessage.MustNewName("ns.invalid."), MBox: dnsmessage.MustNewName("nobody.invalid."), Serial: 1,
	},
}

// edns finds what size of UDP answers the asker takes (RFC 6891).
func edns(p *dnsmessage.Parser) (size int, ok bool) {
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return 0, false
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return 0, false
		}
		if h.Type == dnsmessage.TypeOPT {
			return int(h.Class), true
		}
		if p.SkipAdditional() != nil {
			return 0, false
		}
	}
}
