package proxy

import (
	"fmt"
	"net"
	"net/netip"

	"aarch64.com/isthmus/proxy/routes"
	"github.com/pires/go-proxyproto"
)

// reachable are the backends of a route that may be connected to now. There is
// an error only if none is left.
func (s *Server) reachable(r *routes.Route, port uint16) (to []netip.AddrPort, err error) {
	reach := s.config().Reach
	for _, b := range r.Backends {
		if e := reach(b); e != nil {
			err = fmt.Errorf("backend %v: %w", b, e)
			continue
		}
		to = append(to, netip.AddrPortFrom(b, port))
	}
	if len(to) > 0 {
		return to, nil
	}
	return nil, err
}

// proxyHeader says who the client is, and which address it came to, before its
// first byte.
func proxyHeader(version routes.Header, client, local netip.AddrPort) ([]byte, error) {
	if version == routes.NoHeader {
		return nil, nil
	}
	h := proxyproto.HeaderProxyFromAddrs(byte(version), net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(local))
	b, err := h.Format()
	if err != nil {
		return nil, fmt.Errorf("PROXY protocol header for %v: %w", client, err)
	}
	return b, nil
}
