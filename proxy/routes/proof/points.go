package proof

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Where tells where a host name leads.
type Where string

// Places.
const (
	Here      Where = "ok"        // at the proxies
	Missing   Where = "missing"   // there is no record
	Elsewhere Where = "elsewhere" // at other addresses, or only some are the proxies'
	Unknown   Where = "unknown"   // it could not be found out
)

// Pointing is where a host name leads, for its owner.
type Pointing struct {
	Where     Where        `json:"where"`
	Text      string       `json:"text"` // "CNAME ok", or what to do
	Target    string       `json:"target,omitempty"`
	Chain     []string     `json:"chain,omitempty"`     // names that CNAMEs lead through
	Addresses []netip.Addr `json:"addresses,omitempty"` // IPv4, of a name that leads elsewhere
}

// Points tells whether a host name leads to one of the targets, the proxies' names:
// by CNAME, or by A records with their addresses. For a wildcard, the record of the
// wildcard itself is looked at.
func (d *DNS) Points(ctx context.Context, host string, targets []string) Pointing {
	if len(targets) == 0 {
		return Pointing{Where: Unknown, Text: "the proxies have no name: the operator has to set one"}
	}
	l, ctx, cancel := d.begin(ctx)
	defer cancel()
	var at string
	a, err := l.ask(ctx, host, dns.TypeA, func(name string) bool {
		i := slices.IndexFunc(targets, func(t string) bool { return strings.EqualFold(dns.Fqdn(t), name) })
		if i >= 0 {
			at = targets[i]
		}
		return i >= 0
	})
	p := Pointing{Where: Unknown}
	for _, name := range a.chain {
		p.Chain = append(p.Chain, show(name))
	}
	advice := fmt.Sprintf("add %s CNAME %s", host, targets[0])
	switch {
	case err != nil:
		p.Text = problem(ctx, err)
		return p
	case at != "":
		return Pointing{Where: Here, Text: "CNAME ok", Target: at, Chain: p.Chain}
	}
	silent := map[string]error{}
	answered := false
	for _, v := range a.verdicts {
		if v.err != nil {
			silent[show(v.server.name)] = v.err
			continue
		}
		answered = true
		p.Addresses = append(p.Addresses, addressesIn(v.records, "")...)
	}
	slices.SortFunc(p.Addresses, netip.Addr.Compare)
	p.Addresses = slices.Compact(p.Addresses)
	switch {
	case !answered:
		p.Text = nobody(a.zone, silent)
	case len(p.Addresses) == 0 && len(p.Chain) > 0:
		p.Where, p.Text = Elsewhere, fmt.Sprintf("CNAME leads to %s, which has no IPv4 address: %s", p.Chain[len(p.Chain)-1], advice)
	case len(p.Addresses) == 0:
		p.Where, p.Text = Missing, "CNAME missing: "+advice
	default:
		l.compare(ctx, &p, targets, advice)
	}
	return p
}

// compare holds addresses against those of the proxies.
func (l *look) compare(ctx context.Context, p *Pointing, targets []string, advice string) {
	ours := map[netip.Addr]string{}
	for _, t := range targets {
		list, err := l.hostAddresses(ctx, dns.Fqdn(t))
		if err != nil {
			p.Text = problem(ctx, err)
			return
		}
		for _, a := range list {
			if ours[a] == "" {
				ours[a] = t
			}
		}
	}
	for _, a := range p.Addresses {
		t, ok := ours[a]
		if !ok {
			p.Where, p.Text, p.Target = Elsewhere, fmt.Sprintf("leads to %v, which is no proxy: %s", a, advice), ""
			return
		}
		if p.Target == "" {
			p.Target = t
		}
	}
	p.Where, p.Text = Here, "A record ok"
}
