package routes

import (
	"fmt"
	"net/netip"
)

// Header is what a backend is told of the client before the client's first byte
// (PROXY protocol).
type Header uint8

// Headers.
const (
	NoHeader Header = iota
	HeaderV1        // a line of text
	HeaderV2        // binary
)

// Default ports of backends.
const (
	DefaultHTTP  = 80
	DefaultHTTPS = 443
)

// MaxBackends is how many VMs a host name may lead to.
const MaxBackends = 8

// Route is what a host name leads to. Nobody changes one that is in a Snapshot.
type Route struct {
	// Host is a canonical name ([sniff.Host]), or one with "*." in front, which
	// stands for all names with exactly one label more.
	Host    string
	Project string // who it belongs to, for limits and logs; may be empty

	Backends []netip.Addr // VMs, in the order in which they are tried
	HTTP     uint16       // port for what comes to port 80; 0: not served
	HTTPS    uint16       // port for what comes to port 443, TCP and QUIC; 0: not served
	Header   Header       // on TCP; a VM must expect it on both ports
}

// A Reach says whether a backend may be connected to; the error is why not.
type Reach func(netip.Addr) error

// Check tells what is wrong with a route, for people who can mend it.
func (r *Route) Check(reach Reach) error {
	if err := CheckHost(r.Host); err != nil {
		return err
	}
	switch {
	case len(r.Backends) == 0:
		return fmt.Errorf("%s: no backend: give the IPv6 address of a VM", r.Host)
	case len(r.Backends) > MaxBackends:
		return fmt.Errorf("%s: %d backends, and %d are possible", r.Host, len(r.Backends), MaxBackends)
	case r.HTTP == 0 && r.HTTPS == 0:
		return fmt.Errorf("%s: neither HTTP nor HTTPS is served: set a port", r.Host)
	case r.Header > HeaderV2:
		return fmt.Errorf("%s: unknown PROXY protocol version", r.Host)
	}
	for i, b := range r.Backends {
		if reach != nil {
			if err := reach(b); err != nil {
				return fmt.Errorf("%s: backend %v: %w", r.Host, b, err)
			}
		}
		for _, other := range r.Backends[:i] {
			if b == other {
				return fmt.Errorf("%s: backend %v is listed twice", r.Host, b)
			}
		}
	}
	return nil
}
