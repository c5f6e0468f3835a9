package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"aarch64.com/isthmus/proxy/routes"
)

// Config is what a [Server] is told. Routes and Reach are required, and at least
// one address to listen on; the zero value of all else is its default.
type Config struct {
	HTTP, HTTPS, QUIC []netip.AddrPort // to listen on

	Routes *routes.Table
	// Reach says whether a backend may be connected to, at the moment when it
	// would be.
	Reach routes.Reach

	// Name is this proxy in Via and Forwarded headers, a host name or a token;
	// "isthmus".
	Name string

	Limits   Limits
	Timeouts Timeouts

	// Access is told of each request, and of each connection that carries none
	// that this host can see. It is called from many goroutines and must not
	// block.
	Access func(*Record)
	// Log gets what an operator should know.
	Log func(warn bool, message string)

	pseudonym string // in Via and known again there

	connect func(context.Context, netip.AddrPort) (net.Conn, error) // HTTP's way to VMs; connectTCP
}

// Limits bound what clients can use. 0 stands for the default, less than 0 for no
// bound. A client is an IPv4 address or an IPv6 /64.
type Limits struct {
	Connections           int // TCP, HTTP and HTTPS together; 50000
	ConnectionsPerClient  int // 500
	ConnectionsPerHost    int // 20000
	ConnectionsPerProject int // 20000
	RequestsPerConnection int // at a time, of HTTP/2; 100
	RequestHeader         int // bytes; 65536
	QUICFlows             int // connections; 50000
	QUICFlowsPerClient    int // 200
	QUICPending           int // clients whose hello is not complete; 1000
}

// Timeouts end what does not get on. 0 stands for the default, less than 0 for
// never.
type Timeouts struct {
	Hello    time.Duration // until a client has said where to: TLS hello or HTTP head; 10 s
	Connect  time.Duration // for each backend; 3 s
	Response time.Duration // until a VM begins to answer a request; 2 min
	Idle     time.Duration // without a byte either way, also of WebSockets; 10 min
	KeepOpen time.Duration // an HTTP connection between requests; 1 min
	QUICIdle time.Duration // without a datagram; 2 min
}

func (c *Config) check() error {
	switch {
	case c.Routes == nil || c.Reach == nil:
		return errors.New("a proxy needs routes and a rule for what may be reached")
	case len(c.HTTP)+len(c.HTTPS)+len(c.QUIC) == 0:
		return errors.New("the proxy has no address to listen on (set listen in [proxy])")
	}
	return nil
}
