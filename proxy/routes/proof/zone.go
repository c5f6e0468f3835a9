package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Bounds of what one zone makes us ask.
const (
	maxNames   = 13 // name servers
	maxServers = 16 // their addresses
)

// nameServer is one address of one name server.
type nameServer struct {
	name string
	addr netip.Addr
}

// zoneOf finds the zone that a name is in.
func (l *look) zoneOf(ctx context.Context, name string) (string, error) {
	for {
		r, err := l.resolve(ctx, name, dns.TypeSOA)
		if err != nil {
			return "", err
		}
		alias := false
		for _, rr := range r.Answer {
			switch {
			case !strings.EqualFold(rr.Header().Name, name):
			case rr.Header().Rrtype == dns.TypeSOA:
				return strings.ToLower(name), nil
			case rr.Header().Rrtype == dns.TypeCNAME:
				alias = true
			}
		}
		// Behind an alias is another zone. The alias itself is in its parent's.
		if !alias {
			for _, rr := range r.Ns {
				if rr.Header().Rrtype == dns.TypeSOA && dns.IsSubDomain(rr.Header().Name, name) {
					return strings.ToLower(rr.Header().Name), nil
				}
			}
		}
		next, end := dns.NextLabel(name, 0)
		if end {
			return ".", nil
		}
		name = name[next:]
	}
}

// servers finds the name servers of a zone.
func (l *look) servers(ctx context.Context, zone string) ([]nameServer, error) {
	r, err := l.resolve(ctx, zone, dns.TypeNS)
	if err != nil {
		return nil, err
	}
	return l.addresses(ctx, zone, r.Answer, nil)
}

// addresses finds those of the name servers in NS records; glue has some.
func (l *look) addresses(ctx context.Context, zone string, records, glue []dns.RR) ([]nameServer, error) {
	var names []string
	for _, rr := range records {
		if ns, ok := rr.(*dns.NS); ok && strings.EqualFold(ns.Hdr.Name, zone) {
			names = append(names, strings.ToLower(ns.Ns))
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > maxNames {
		names = names[:maxNames]
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no name servers", show(zone))
	}
	all := make([][]netip.Addr, len(names))
	errs := make([]error, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		asking.Go(func() { all[i], errs[i] = l.hostAddresses(ctx, name) })
	}
	asking.Wait()
	var list []nameServer
	var refused error
	seen := map[netip.Addr]bool{}
	for i, name := range names {
		if len(all[i]) == 0 {
			all[i] = addressesIn(glue, name)
		}
		for _, a := range all[i] {
			if seen[a] {
				continue
			}
			seen[a] = true
			if err := l.c.Allow(a); err != nil {
				refused = fmt.Errorf("the name server %s of %s has the address %v, which is not asked: %w", show(name), show(zone), a, err)
				continue
			}
			list = append(list, nameServer{name, a})
		}
	}
	switch {
	case len(list) > 0:
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list[:min(len(list), maxServers)], nil
	case refused != nil:
		return nil, refused
	case errors.Join(errs...) != nil:
		return nil, errs[slices.IndexFunc(errs, func(err error) bool { return err != nil })]
	}
	return nil, fmt.Errorf("the name servers of %s have no addresses", show(zone))
}

// hostAddresses asks the resolvers for A and AAAA.
func (l *look) hostAddresses(ctx context.Context, name string) (list []netip.Addr, err error) {
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		r, e := l.resolve(ctx, name, kind)
		if e != nil {
			err = e
			continue
		}
		list = append(list, addressesIn(r.Answer, "")...)
	}
	if len(list) > 0 {
		err = nil
	}
	return list, err
}

// addressesIn takes them out of records, of one name or, if that is empty, of all.
func addressesIn(records []dns.RR, name string) (list []netip.Addr) {
	for _, rr := range records {
		if name != "" && !strings.EqualFold(rr.Header().Name, name) {
			continue
		}
		var a netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(rr.A)
		case *dns.AAAA:
			a, _ = netip.AddrFromSlice(rr.AAAA)
		}
		if a = a.Unmap(); a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}
