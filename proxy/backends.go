package proxy

import (
	"fmt"
	"net"
	"net/netip"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
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

// destination is where a TLS or QUIC connection goes.
type destination struct {
	result   Result        // Served: it goes on
	why      string        // it does not
	route    *routes.Route // joined, and to be parted from; nil: not joined
	project  string
	backends []netip.AddrPort
}

// alert is what the client gets that does not go on.
func (d *destination) alert() sniff.Alert {
	if d.result == NoName || d.result == UnknownHost {
		return sniff.UnrecognizedName
	}
	return sniff.InternalError
}

// follow finds where a host's route leads at this moment, and counts a connection
// to it. Unless route is nil limiter.part has to be called in the end.
func (s *Server) follow(host string) destination {
	if host == "" {
		return destination{result: NoName}
	}
	r := s.config().Routes.Load().Lookup(host)
	if r == nil || r.HTTPS == 0 {
		return destination{result: UnknownHost}
	}
	to, err := s.reachable(r, r.HTTPS)
	if err != nil {
		return destination{result: Forbidden, why: err.Error(), project: r.Project}
	}
	if full := s.limiter.join(r.Host, r.Project); full != "" {
		return destination{result: TooMany, why: full, project: r.Project}
	}
	return destination{route: r, project: r.Project, backends: to}
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
