package labdns

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Records are what names have: any number of IPv4 and IPv6 addresses, or one
// other name (CNAME). Names are absolute, with or without the last dot.
type Records map[string][]string

// Config says what a [Server] or [Resolver] answers.
type Config struct {
	// Prefix is what A records are made into AAAA records with, where a name has
	// none (DNS64). Not valid: no DNS64. A Server takes a /96 only.
	Prefix netip.Prefix
	// Records are all there are, besides those of ipv4only.arpa.
	Records Records
	// Roots are root name servers of the lab for a [Resolver] to begin at, instead of
	// Records: it walks down the zones as on the Internet.
	Roots []netip.Addr
}

// wellKnown is what RFC 7050 section 2.2 lets a host find its prefix by.
var wellKnown = Records{"ipv4only.arpa": {"192.0.0.170", "192.0.0.171"}}

// maxAliases is how many CNAMEs in a row are followed.
const maxAliases = 8

// node is what one name has. A name with nothing is there for those below it.
type node struct {
	a, aaaa []netip.Addr
	alias   string
}

// zone is all nodes by their name, in lower case with the last dot.
type zone map[string]node

func newZone(list ...Records) (zone, error) {
	z := zone{}
	for _, records := range list {
		for name, values := range records {
			if err := z.add(canonical(name), values); err != nil {
				return nil, fmt.Errorf("record of %q: %w", name, err)
			}
		}
	}
	return z, nil
}

func (z zone) add(name string, values []string) error {
	if _, err := dnsmessage.NewName(name); err != nil || strings.Contains(name, "..") {
		return fmt.Errorf("no name of the DNS")
	}
	n := z[name]
	for _, v := range values {
		a, err := netip.ParseAddr(v)
		switch {
		case err != nil:
			n.alias = canonical(v)
			if _, err := dnsmessage.NewName(n.alias); err != nil {
				return fmt.Errorf("%q is neither an address nor a name", v)
			}
			if len(values) > 1 {
				return fmt.Errorf("%q is an alias, which must be alone (RFC 1034 section 3.6.2)", v)
			}
		case a.Is4():
			n.a = append(n.a, a)
		default:
			n.aaaa = append(n.aaaa, a)
		}
	}
	z[name] = n
	for {
		_, parent, _ := strings.Cut(name, ".")
		if parent == "" {
			return nil
		}
		if _, ok := z[parent]; !ok {
			z[parent] = node{}
		}
		name = parent
	}
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }

// answer finds what a question of class IN gets. The result code is that of the
// last name in a chain of aliases (RFC 6604).
func (z zone) answer(q dnsmessage.Question, prefix netip.Prefix) (dnsmessage.RCode, []dnsmessage.Resource) {
	var out []dnsmessage.Resource
	owner := q.Name
	put := func(body dnsmessage.ResourceBody) {
		// A time to live of 0: changed records hold at once.
		out = append(out, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: owner, Class: dnsmessage.ClassINET}, Body: body})
	}
	for range maxAliases {
		n, ok := z[canonical(owner.String())]
		if !ok {
			return dnsmessage.RCodeNameError, out
		}
		if n.alias != "" {
			next := dnsmessage.MustNewName(n.alias) // checked by add
			put(&dnsmessage.CNAMEResource{CNAME: next})
			if q.Type == dnsmessage.TypeCNAME {
				return dnsmessage.RCodeSuccess, out
			}
			owner = next
			continue
		}
		switch q.Type {
		case dnsmessage.TypeA:
			for _, a := range n.a {
				put(&dnsmessage.AResource{A: a.As4()})
			}
		case dnsmessage.TypeAAAA:
			for _, a := range n.aaaa {
				put(&dnsmessage.AAAAResource{AAAA: a.As16()})
			}
			if len(n.aaaa) == 0 && prefix.IsValid() {
				for _, a := range n.a {
					put(&dnsmessage.AAAAResource{AAAA: embed(prefix, a)})
				}
			}
		}
		return dnsmessage.RCodeSuccess, out
	}
	return dnsmessage.RCodeServerFailure, nil
}

// embed is RFC 6052 section 2.2 for a prefix of 96 bits.
func embed(prefix netip.Prefix, v4 netip.Addr) [16]byte {
	b, a := prefix.Addr().As16(), v4.As4()
	copy(b[12:], a[:])
	return b
}
