package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Proxy is the [proxy] section.
type Proxy struct {
	ListenHTTP, ListenHTTPS, ListenQUIC []netip.AddrPort // none at all: no proxy
	VMPrefixes                          []netip.Prefix
	RoutesFile                          string // absolute path, "" for none
	Name                                string // "": by pop and domain, see ProxyName
	AccessLog                           string // AuditLog, AuditOff or an absolute path
	AccessLogEvery                      int    // one line in so many; at least 1
	DrainTimeout                        time.Duration
	Limits                              ProxyLimits
	Timeouts                            ProxyTimeouts
}

// ProxyLimits is the [proxy.limits] section. 0 is no bound.
type ProxyLimits struct {
	Connections           int
	ConnectionsPerClient  int
	ConnectionsPerHost    int
	ConnectionsPerProject int
	RequestsPerConnection int
	RequestHeader         int // bytes
	QUICFlows             int
	QUICFlowsPerClient    int
	QUICPending           int
}

// ProxyTimeouts is the [proxy.timeouts] section. 0 is never.
type ProxyTimeouts struct {
	Hello, Connect, Response, Idle, KeepOpen, QUICIdle time.Duration
}

// Listens tells whether there is a proxy.
func (p *Proxy) Listens() bool {
	return len(p.ListenHTTP)+len(p.ListenHTTPS)+len(p.ListenQUIC) > 0
}

// ProxyName is what the proxy calls itself in headers.
func (c *Config) ProxyName() string {
	switch {
	case c.Proxy.Name != "":
		return c.Proxy.Name
	case c.POP != "" && c.Domain != "":
		return c.POP + ".proxy." + c.Domain
	}
	return "isthmus"
}

// checkProxy makes sure that the proxy has all that it needs.
func checkProxy(d *decoder, root *node) {
	p := &d.config.Proxy
	if !p.Listens() {
		return
	}
	at := func(key string) int { return valueOffset(root, "proxy", key) }
	if len(p.VMPrefixes) == 0 {
		d.add(at("vm_prefixes"), "proxy.vm_prefixes", "missing, and the proxy would reach nothing", `add the prefixes of the VMs, such as vm_prefixes = ["2001:db8:64::/64"], or remove listen_http, listen_https and listen_quic`)
	}
	if p.RoutesFile == "" && !d.config.Routes.On() {
		d.add(at("routes_file"), "proxy.routes_file", "missing, and the proxy would know no host name", `add routes_file = "/etc/isthmus/routes.toml", or leave engine out of [routes]`)
	}
	for _, a := range p.ListenHTTP {
		if i := slices.Index(p.ListenHTTPS, a); i >= 0 {
			d.add(valueOffset(root, "proxy", "listen_https", i), fmt.Sprintf("proxy.listen_https[%d]", i),
				fmt.Sprintf("%v is in listen_http, too", a), "keep it in one of the two")
		}
	}
}

// proxyWarnings names what is allowed and probably not meant.
func (c *Config) proxyWarnings() []string {
	var w []string
	p := &c.Proxy
	if !p.Listens() {
		if len(p.VMPrefixes) > 0 && !c.Routes.On() || p.RoutesFile != "" {
			w = append(w, `proxy.listen_http, listen_https and listen_quic are empty: there is no web proxy; write listen_https = ["0.0.0.0:443"]`)
		}
		return w
	}
	for _, x := range p.VMPrefixes {
		switch {
		case x.Bits() < 16:
			w = append(w, fmt.Sprintf("proxy.vm_prefixes: %v is more than anybody has: routes could lead to other people's hosts", x))
		case slices.ContainsFunc(c.Router.Pool6, x.Overlaps):
			w = append(w, fmt.Sprintf("proxy.vm_prefixes: %v has addresses of router.pool6: routes could lead to the IPv4 Internet", x))
		}
	}
	if p.AccessLog == AuditOff && p.AccessLogEvery > 1 {
		w = append(w, `proxy.access_log_every has no effect with access_log = "off"`)
	}
	if p.Limits.Connections == 0 || len(p.ListenQUIC) > 0 && p.Limits.QUICFlows == 0 {
		w = append(w, "proxy.limits: without a bound for connections and quic_flows the proxy can be made to use up all memory")
	}
	if p.Timeouts.Hello == 0 {
		w = append(w, "proxy.timeouts.hello is never: who connects and says nothing holds a place for good")
	}
	return w
}

// addrPorts reads IP addresses with ports.
func (v value) addrPorts(to *[]netip.AddrPort) {
	const remedy = `write "address:port", such as "0.0.0.0:443" or "[::]:443"`
	var list []netip.AddrPort
	v.each("a list of addresses and ports", func(item value) {
		s, ok := item.text("an address and a port")
		if !ok {
			return
		}
		a, err := netip.ParseAddrPort(s)
		switch {
		case err != nil || a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().Is4In6():
			item.fail(fmt.Sprintf("%q is not an address and a port", s), remedy)
		case slices.Contains(list, a):
			item.fail(s+" comes twice", "remove one")
		default:
			list = append(list, a)
		}
	})
	*to = list
}
