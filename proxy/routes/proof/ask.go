package proof

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

const (
	maxAliases   = 5 // CNAMEs in a row
	maxReferrals = 3 // zones below the one that the resolver knows
)

// verdict is what one name server says about a name.
type verdict struct {
	server  nameServer
	records []dns.RR // of the type that was asked for
	alias   string   // CNAME instead
	below   []dns.RR // name servers of a zone below, which are to be asked, and
	glue    []dns.RR // their addresses
	err     error    // nothing of use
}

// answers are what the name servers of a name's zone say.
type answers struct {
	name     string // at the end of the chain
	zone     string
	chain    []string // names that aliases led to
	verdicts []verdict
}

var errAliases = errors.New("the name servers differ about a CNAME; wait until they agree")

// ask puts a question to all name servers of the name's zone, and follows aliases
// until stop (if there is one) says that the name is one that is looked for.
func (l *look) ask(ctx context.Context, name string, kind uint16, stop func(name string) bool) (*answers, error) {
	a := &answers{name: dns.Fqdn(name)}
	for {
		if err := l.askZone(ctx, a, kind); err != nil {
			return a, err
		}
		targets, others := map[string]bool{}, false
		for _, v := range a.verdicts {
			switch {
			case v.alias != "":
				targets[strings.ToLower(v.alias)] = true
			case v.err == nil:
				others = true
			}
		}
		switch {
		case len(targets) == 0:
			return a, nil
		case len(targets) > 1 || others:
			return a, errAliases
		case len(a.chain) == maxAliases:
			return a, fmt.Errorf("%s: more than %d CNAMEs in a row", show(name), maxAliases)
		}
		for target := range targets {
			a.name = target
		}
		if a.chain = append(a.chain, a.name); stop != nil && stop(a.name) {
			a.verdicts = nil
			return a, nil
		}
	}
}

// askZone asks about a.name.
func (l *look) askZone(ctx context.Context, a *answers, kind uint16) (err error) {
	if a.zone, err = l.zoneOf(ctx, a.name); err != nil {
		return err
	}
	servers, err := l.servers(ctx, a.zone)
	if err != nil {
		return err
	}
	for range maxReferrals + 1 {
		a.verdicts = l.askAll(ctx, a.zone, servers, a.name, kind)
		i := slices.IndexFunc(a.verdicts, func(v verdict) bool { return v.below != nil })
		if i < 0 {
			return nil
		}
		// The zone has been cut since the resolver last looked.
		below := a.verdicts[i]
		a.zone = strings.ToLower(below.below[0].Header().Name)
		if servers, err = l.addresses(ctx, a.zone, below.below, below.glue); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: more than %d zones below what the resolver knows", show(a.name), maxReferrals)
}

func (l *look) askAll(ctx context.Context, zone string, servers []nameServer, name string, kind uint16) []verdict {
	list := make([]verdict, len(servers))
	var asking sync.WaitGroup
	for i, s := range servers {
		asking.Go(func() {
			list[i].server = s
			r, err := l.exchange(ctx, netip.AddrPortFrom(s.addr, port), name, kind, false)
			if err != nil {
				list[i].err = err
				return
			}
			list[i].judge(r, zone, name, kind)
		})
	}
	asking.Wait()
	// In an order that does not change from look to look.
	slices.SortFunc(list, func(a, b verdict) int {
		if n := strings.Compare(a.server.name, b.server.name); n != 0 {
			return n
		}
		return a.server.addr.Compare(b.server.addr)
	})
	return list
}

// judge reads an answer. Only what the server has authority for counts.
func (v *verdict) judge(r *dns.Msg, zone, name string, kind uint16) {
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		v.err = errors.New(dns.RcodeToString[r.Rcode])
		return
	}
	if !r.Authoritative {
		for _, rr := range r.Ns {
			owner := rr.Header().Name
			if rr.Header().Rrtype == dns.TypeNS && len(r.Answer) == 0 && r.Rcode == dns.RcodeSuccess &&
				dns.IsSubDomain(zone, owner) && !strings.EqualFold(zone, owner) && dns.IsSubDomain(owner, name) {
				v.below, v.glue = append(v.below, rr), r.Extra
			}
		}
		if v.below == nil {
			v.err = errors.New("not authoritative")
		}
		return
	}
	for _, rr := range r.Answer {
		if !strings.EqualFold(rr.Header().Name, name) {
			continue
		}
		if rr.Header().Rrtype == kind {
			v.records = append(v.records, rr)
		} else if c, ok := rr.(*dns.CNAME); ok {
			v.alias = c.Target
		}
	}
}
