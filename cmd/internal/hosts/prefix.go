package hosts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"aarch64.com/isthmus/translate"
)

// wellKnownName has these addresses and, where there is a DNS64, synthesised
// ones (RFC 7050 section 2.2 and 8.2).
const wellKnownName = "ipv4only.arpa"

var wellKnown4 = []netip.Addr{netip.MustParseAddr("192.0.0.170"), netip.MustParseAddr("192.0.0.171")}

// alwaysTranslated are the prefixes that can hold nothing but IPv4 addresses
// wherever they are met (RFC 6052 section 2.1, RFC 8215).
var alwaysTranslated = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48")}

// Discovery is the NAT64 prefix, and how it was found.
type Discovery struct {
	Pref64 translate.Pref64
	Source string             // where it is from, for people
	Others []translate.Pref64 // further ones that are known here; addresses in them are synthesised, too
}

// Synthesised tells whether an address stands for an IPv4 address, and is not
// that of an IPv6 host: what a prefix contains leads to its translator.
func (d *Discovery) Synthesised(a netip.Addr) bool {
	for _, p := range append([]translate.Pref64{d.Pref64}, d.Others...) {
		if p.Prefix().Contains(a) {
			return true
		}
	}
	return slices.ContainsFunc(alwaysTranslated, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Discover finds the prefix: the given one, if there is one; that of a router
// advertisement; that of the DNS64 that the resolver asks. RFC 8781 section 5.1
// ranks the latter two.
func Discover(ctx context.Context, given translate.Pref64, r *Resolver, routers Routers) (*Discovery, error) {
	type answer struct {
		list []translate.Pref64
		from string
		err  error
	}
	isGiven := given.Prefix().IsValid()
	advertised := make(chan answer, 1)
	if isGiven {
		advertised <- answer{}
	} else {
		go func() {
			list, from, err := routers.Ask(ctx)
			advertised <- answer{list, from, err}
		}()
	}
	fromDNS, dnsErr := fromDNS64(ctx, r)
	ra := <-advertised
	switch {
	case isGiven:
		return &Discovery{Pref64: given, Source: "--prefix", Others: fromDNS}, nil
	case len(ra.list) > 0:
		return &Discovery{Pref64: ra.list[0], Source: ra.from + " (PREF64, RFC 8781)", Others: append(ra.list[1:], fromDNS...)}, nil
	case len(fromDNS) > 0:
		return &Discovery{Pref64: fromDNS[0], Source: wellKnownName + " (RFC 7050)", Others: fromDNS[1:]}, nil
	}
	return nil, fmt.Errorf("no NAT64 prefix was found; give it with --prefix\n  router advertisements (RFC 8781): %w\n  %s (RFC 7050): %w", ra.err, wellKnownName, dnsErr)
}

// fromDNS64 asks for the name that only a DNS64 has AAAA records of.
func fromDNS64(ctx context.Context, r *Resolver) ([]translate.Pref64, error) {
	list, _, err := r.Lookup(ctx, wellKnownName, dns.TypeAAAA)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("it has no AAAA record here, so there is no DNS64")
	}
	return PrefixesIn(list)
}

// PrefixesIn finds the prefixes within the AAAA records of ipv4only.arpa
// (RFC 7050 section 3). Either of the two IPv4 addresses may stand at any of the
// six places, and a prefix may happen to have the same bytes in itself: then the
// place where both IPv4 addresses were seen is the right one.
func PrefixesIn(list []netip.Addr) ([]translate.Pref64, error) {
	type candidate struct {
		pref64 translate.Pref64
		seen   [2]bool // which of wellKnown4
		of     []netip.Addr
	}
	var all []*candidate
	for _, a := range list {
		for _, bits := range translate.Pref64Lengths {
			p, err := translate.NewPref64(netip.PrefixFrom(a, bits).Masked())
			if err != nil {
				continue
			}
			v4, ok := p.Extract(a)
			i := slices.Index(wellKnown4, v4)
			if !ok || i < 0 || bits < 96 && a.As16()[8] != 0 { // RFC 6052 section 2.2
				continue
			}
			at := slices.IndexFunc(all, func(c *candidate) bool { return c.pref64 == p })
			if at < 0 {
				at = len(all)
				all = append(all, &candidate{pref64: p})
			}
			all[at].seen[i] = true
			all[at].of = append(all[at].of, a)
		}
	}
	var found []translate.Pref64
	explained := map[netip.Addr]bool{}
	for _, c := range all {
		if c.seen[0] && c.seen[1] {
			found = append(found, c.pref64)
			for _, a := range c.of {
				explained[a] = true
			}
		}
	}
	ambiguous := false
	for _, a := range list {
		if explained[a] {
			continue
		}
		// A DNS64 that gives one record only.
		var places []translate.Pref64
		for _, c := range all {
			if slices.Contains(c.of, a) {
				places = append(places, c.pref64)
			}
		}
		switch len(places) {
		case 0:
		case 1:
			found = append(found, places[0])
		default:
			ambiguous = true
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case ambiguous:
		return nil, fmt.Errorf("%v has 192.0.0.170 or 192.0.0.171 at several places", list)
	}
	return nil, fmt.Errorf("neither 192.0.0.170 nor 192.0.0.171 is in %v", list)
}
