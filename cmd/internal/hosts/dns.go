package hosts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	ednsSize   = 1232 // bytes of an answer over UDP; fits every IPv6 path
	maxAliases = 8    // CNAMEs in a row, over all answers
	attempts   = 2    // rounds over all servers
)

// ErrNoName says that a name does not exist (NXDOMAIN).
var ErrNoName = errors.New("there is no such name")

// Resolver asks recursive name servers, over UDP and, where an answer is cut
// off, over TCP. It caches nothing.
type Resolver struct {
	Servers []netip.AddrPort
	Timeout time.Duration // of one question to one server
}

// Lookup gives the addresses of a name of one type, dns.TypeA or dns.TypeAAAA,
// in order, each once, and the name at the end of its aliases. A name without
// such a record has none; one that does not exist is ErrNoName. Other errors are
// failures of the name servers.
func (r *Resolver) Lookup(ctx context.Context, name string, qtype uint16) (list []netip.Addr, canonical string, err error) {
	canonical = dns.CanonicalName(name)
	asked := map[string]bool{}
	for !asked[canonical] {
		asked[canonical] = true
		m, err := r.ask(ctx, canonical, qtype)
		if err != nil {
			return nil, "", err
		}
		before := canonical
		if list, canonical, err = follow(m, canonical, qtype); err != nil {
			return nil, "", fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case len(list) > 0:
			slices.SortFunc(list, netip.Addr.Compare)
			return slices.Compact(list), strings.TrimSuffix(canonical, "."), nil
		case m.Rcode == dns.RcodeNameError: // of the last name (RFC 6604 section 2.1)
			return nil, "", ErrNoName
		case canonical == before:
			return nil, strings.TrimSuffix(canonical, "."), nil
		}
		// The answer ended with an alias: some servers leave the rest to us.
		if len(asked) > maxAliases {
			break
		}
	}
	return nil, "", fmt.Errorf("%s: aliases (CNAME) without an end", name)
}

// follow goes along the aliases within one answer and takes the addresses of the
// name at their end; records of other names are not looked at.
func follow(m *dns.Msg, name string, qtype uint16) (list []netip.Addr, canonical string, err error) {
	for range maxAliases {
		alias := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != name {
				continue
			}
			switch v := rr.(type) {
			case *dns.CNAME:
				alias = dns.CanonicalName(v.Target)
			case *dns.A:
				if a, ok := netip.AddrFromSlice(v.A.To4()); ok && qtype == dns.TypeA {
					list = append(list, a)
				}
			case *dns.AAAA:
				if a, ok := netip.AddrFromSlice(v.AAAA.To16()); ok && qtype == dns.TypeAAAA {
					list = append(list, a)
				}
			}
		}
		if len(list) > 0 || alias == "" {
			return list, name, nil
		}
		name = alias
	}
	return nil, "", errors.New("aliases (CNAME) without an end")
}

// ask puts one question to the servers in turn until one knows.
func (r *Resolver) ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	if len(r.Servers) == 0 {
		return nil, errors.New("no name server to ask; give one with --server")
	}
	var failed []error
	for range attempts {
		failed = nil
		for _, server := range r.Servers {
			m, err := r.exchange(ctx, server, name, qtype)
			if err == nil {
				return m, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			failed = append(failed, fmt.Errorf("name server %v: %w", server, err))
		}
	}
	return nil, fmt.Errorf("%s %s: %w", strings.TrimSuffix(name, "."), dns.TypeToString[qtype], errors.Join(failed...))
}

// exchange asks one server. An answer that says nothing about the name is an
// error, and so is one to another question.
func (r *Resolver) exchange(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	q.SetEdns0(ednsSize, false)
	m, err := r.over(ctx, "udp", server, q)
	if err == nil && m.Rcode == dns.RcodeFormatError { // RFC 6891 section 7: it knows no EDNS
		q.Extra = nil
		m, err = r.over(ctx, "udp", server, q)
	}
	if err == nil && m.Truncated {
		m, err = r.over(ctx, "tcp", server, q)
	}
	switch {
	case err != nil:
		return nil, err
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("answered %s", dns.RcodeToString[m.Rcode])
	}
	return m, nil
}

func (r *Resolver) over(ctx context.Context, network string, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	c := dns.Client{Net: network, Timeout: r.Timeout}
	m, _, err := c.ExchangeContext(ctx, q, server.String())
	if err != nil {
		return nil, err
	}
	// The library compares the ID alone, 16 bits that a stranger can guess.
	if !m.Response || len(m.Question) != 1 || dns.CanonicalName(m.Question[0].Name) != q.Question[0].Name ||
		m.Question[0].Qtype != q.Question[0].Qtype || m.Question[0].Qclass != dns.ClassINET {
		return nil, errors.New("answered another question")
	}
	return m, nil
}
