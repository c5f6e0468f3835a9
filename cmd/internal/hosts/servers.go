package hosts

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	// ResolvConf names the name servers of this host, see resolv.conf(5).
	ResolvConf = "/etc/resolv.conf"
	// upstreamConf is where systemd-resolved writes the servers that it asks
	// itself, see systemd-resolved.service(8).
	upstreamConf = "/run/systemd/resolve/resolv.conf"
	dnsPort      = 53
)

// stub is where systemd-resolved answers. It answers from /etc/hosts.
var stub = netip.MustParseAddr("127.0.0.53")

// SystemServers are the name servers of a file as resolv.conf(5). Systemd-resolved
// is left out; where nobody else is named, they are those that it asks.
func SystemServers(path string) ([]netip.AddrPort, error) {
	list, err := readServers(path)
	if err != nil {
		return nil, err
	}
	isStub := func(s netip.AddrPort) bool { return s.Addr() == stub }
	if list = slices.DeleteFunc(list, isStub); len(list) > 0 {
		return list, nil
	}
	list, err = readServers(upstreamConf)
	if list = slices.DeleteFunc(list, isStub); err != nil || len(list) == 0 {
		return nil, fmt.Errorf("%s names systemd-resolved only, which answers from /etc/hosts, and %s does not say whom it asks; give a name server with --server", path, upstreamConf)
	}
	return list, nil
}

func readServers(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("name servers: %w; give one with --server", err)
	}
	defer f.Close()
	c, err := dns.ClientConfigFromReader(f)
	if err != nil {
		return nil, fmt.Errorf("name servers in %s: %w; give one with --server", path, err)
	}
	var list []netip.AddrPort
	for _, s := range c.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("name servers in %s: %q is no address; give one with --server", path, s)
		}
		list = append(list, netip.AddrPortFrom(a.Unmap(), dnsPort))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s names no name server; give one with --server", path)
	}
	return list, nil
}

// ParseServer reads a name server as people write it: ADDRESS, ADDRESS:PORT, or
// with the address in brackets. The port is 53 unless given.
func ParseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return netip.AddrPortFrom(a.Unmap(), dnsPort), nil
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil || at.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address of a name server; write 2001:db8::53, 192.0.2.53, or with a port [2001:db8::53]:53", s)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}
