package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
)

const dnsPort = 53

// UseResolver makes the server with this address the host's resolver: for
// [Host.Dial], for programs started by [Host.Start] and for those started by
// `ip netns exec`.
func (h *Host) UseResolver(server netip.Addr) error {
	h.mu.Lock()
	h.resolver = server
	h.mu.Unlock()
	if err := h.etc("resolv.conf", fmt.Sprintf("nameserver %v\n", server)); err != nil {
		return err
	}
	// Where names are looked up by a daemon of the machine, they would be looked
	// up in the machine's network.
	_, err := os.Stat("/etc/nsswitch.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return h.etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
}

// Lookup asks a DNS server for the addresses of a name, from the namespace. The
// network is "ip4" for A records, "ip6" for AAAA records, "ip" for both. What
// the server says against it is a *net.DNSError.
func (h *Host) Lookup(ctx context.Context, server netip.AddrPort, network, name string) ([]netip.Addr, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return h.Dial(ctx, network, server.String())
	}}
	// The last dot keeps this machine's search list out.
	return r.LookupNetIP(ctx, network, strings.TrimSuffix(name, ".")+".")
}

// addresses are what to dial for an address with a name in it, IPv6 first; any
// other stays as it is.
func (h *Host) addresses(ctx context.Context, network, address string) ([]string, error) {
	h.mu.RLock()
	resolver := h.resolver
	h.mu.RUnlock()
	name, port, err := net.SplitHostPort(address)
	if err != nil || name == "" || !resolver.IsValid() {
		return []string{address}, nil
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return []string{address}, nil
	}
	var out []string
	var first error
	for _, family := range []string{"6", "4"} {
		if other := map[string]string{"6": "4", "4": "6"}[family]; strings.HasSuffix(network, other) {
			continue
		}
		found, err := h.Lookup(ctx, netip.AddrPortFrom(resolver, dnsPort), "ip"+family, name)
		for _, a := range found {
			out = append(out, net.JoinHostPort(a.String(), port))
		}
		if first == nil {
			first = err
		}
	}
	if out == nil {
		return nil, first
	}
	return out, nil
}
