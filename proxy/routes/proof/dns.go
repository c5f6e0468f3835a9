package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	port       = 53
	ednsSize   = 1232 // fits every IPv6 path
	tries      = 2    // over UDP
	resolvConf = "/etc/resolv.conf"
)

// Config of a [DNS]. Zero values are usable.
type Config struct {
	// Resolvers are asked which name servers a zone has; none: those of /etc/resolv.conf.
	Resolvers []netip.AddrPort
	// Allow says which addresses of name servers may be asked; the error is why not.
	// nil: Public.
	Allow func(netip.Addr) error
	// Dial makes connections, "udp" and "tcp"; nil: as usual.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout is for one question; 0: 2 s.
	Timeout time.Duration
	// Total is for all that one look takes; 0: 10 s.
	Total time.Duration
}

// DNS asks. Its methods may be called from many goroutines.
type DNS struct{ c Config }

// New makes a DNS.
func New(c Config) *DNS {
	if c.Allow == nil {
		c.Allow = Public
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Total == 0 {
		c.Total = 10 * time.Second
	}
	return &DNS{c: c}
}

// maxQuestions is how many messages one look may send: who owns a zone chooses whom.
const maxQuestions = 250

// look is one look at the DNS.
type look struct {
	c    *Config
	left atomic.Int32 // messages
}

// begin makes a look, and a context that ends with it.
func (d *DNS) begin(ctx context.Context) (*look, context.Context, context.CancelFunc) {
	l := &look{c: &d.c}
	l.left.Store(maxQuestions)
	ctx, cancel := context.WithTimeout(ctx, d.c.Total)
	return l, ctx, cancel
}

var (
	errQuestions = fmt.Errorf("it takes more than %d questions", maxQuestions)

	errForged    = errors.New("the answer is to another question")
	errTruncated = errors.New("the answer is cut off, over TCP too")
)

// exchange asks one server. With recursion it is a resolver.
func (l *look) exchange(ctx context.Context, server netip.AddrPort, name string, kind uint16, recursion bool) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(mixCase(name), kind)
	m.RecursionDesired = recursion
	m.SetEdns0(ednsSize, false)
	var r *dns.Msg
	var err error
	for range tries {
		if r, err = l.once(ctx, "udp", server, m); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err == nil && r.Rcode == dns.RcodeFormatError {
		m.Extra = nil // an old one, without EDNS
		r, err = l.once(ctx, "udp", server, m)
	}
	// Over TCP nobody can forge from afar, and a server may give names back in its own
	// case.
	if errors.Is(err, errForged) || err == nil && r.Truncated {
		if r, err = l.once(ctx, "tcp", server, m); err == nil && r.Truncated {
			err = errTruncated
		}
	}
	return r, err
}

func (l *look) once(ctx context.Context, network string, server netip.AddrPort, m *dns.Msg) (*dns.Msg, error) {
	if l.left.Add(-1) < 0 {
		return nil, errQuestions
	}
	ctx, cancel := context.WithTimeout(ctx, l.c.Timeout)
	defer cancel()
	conn, err := l.c.Dial(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	m.Id = dns.Id()
	client := dns.Client{Net: network, Timeout: l.c.Timeout}
	r, _, err := client.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn, UDPSize: ednsSize})
	if err != nil {
		return nil, err
	}
	q := m.Question[0]
	same := len(r.Question) == 1 && r.Question[0].Qtype == q.Qtype && r.Question[0].Qclass == q.Qclass &&
		(r.Question[0].Name == q.Name || network == "tcp" && strings.EqualFold(r.Question[0].Name, q.Name))
	if !same || !r.Response {
		return nil, errForged
	}
	return r, nil
}

// mixCase makes letters large at random, which the server has to give back: a bit
// more for a forger to guess, for each.
func mixCase(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && rand.N(2) == 0 {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

// resolve asks the resolvers, one after the other until one knows.
func (l *look) resolve(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	resolvers, err := l.resolvers()
	if err != nil {
		return nil, err
	}
	for _, s := range resolvers {
		var r *dns.Msg
		if r, err = l.exchange(ctx, s, name, kind, true); err != nil {
			err = &resolverError{s, err}
			continue
		}
		if r.Rcode == dns.RcodeSuccess || r.Rcode == dns.RcodeNameError {
			return r, nil
		}
		err = &rcodeError{zone: name, rcode: r.Rcode}
	}
	return nil, err
}

// resolverError is that a resolver does not answer.
type resolverError struct {
	resolver netip.AddrPort
	err      error
}

func (e *resolverError) Error() string {
	return fmt.Sprintf("the resolver %v does not answer: %v", e.resolver, e.err)
}

func (e *resolverError) Unwrap() error { return e.err }

// rcodeError is what a resolver says when a domain is broken.
type rcodeError struct {
	zone  string
	rcode int
}

func (e *rcodeError) Error() string {
	return fmt.Sprintf("the resolver says %s for %s", dns.RcodeToString[e.rcode], show(e.zone))
}

func (l *look) resolvers() ([]netip.AddrPort, error) {
	if len(l.c.Resolvers) > 0 {
		return l.c.Resolvers, nil
	}
	conf, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil, fmt.Errorf("find a resolver: %w", err)
	}
	var list []netip.AddrPort
	for _, s := range conf.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			list = append(list, netip.AddrPortFrom(a, port))
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("there is no resolver in %s", resolvConf)
	}
	return list, nil
}

// show is a name as people write it.
func show(name string) string {
	if name == "." {
		return "the root of the DNS, as the resolver shows it,"
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}
