package proof

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

var (
	public6 = netip.MustParsePrefix("2000::/3") // the rest is not for the Internet

	// Those of the IANA's lists that are not globally reachable, or lead to IPv4.
	special = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	)

	errPrivate = errors.New("no public address")
	errOwn     = errors.New("an address of this host")
)

// Public allows addresses of the public Internet, but not this host's own.
func Public(a netip.Addr) error {
	a = a.Unmap()
	if !a.IsValid() || a.Zone() != "" || a.Is6() && !public6.Contains(a) || slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return errPrivate
	}
	own, err := ownAddresses()
	if err != nil {
		return fmt.Errorf("addresses of this host: %w", err)
	}
	if own[a] {
		return errOwn
	}
	return nil
}

// own keeps this host's addresses for a moment: one look at the DNS asks dozens of
// times.
var own struct {
	mu        sync.Mutex
	at        time.Time
	addresses map[netip.Addr]bool
}

const ownFresh = 5 * time.Second

func ownAddresses() (map[netip.Addr]bool, error) {
	own.mu.Lock()
	defer own.mu.Unlock()
	if own.addresses != nil && time.Since(own.at) < ownFresh {
		return own.addresses, nil
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	all := make(map[netip.Addr]bool, len(list))
	for _, o := range list {
		if n, ok := o.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok {
				all[a.Unmap()] = true
			}
		}
	}
	own.at, own.addresses = time.Now(), all
	return all, nil
}
