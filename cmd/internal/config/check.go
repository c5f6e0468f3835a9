package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// check finds what one key alone cannot tell.
func check(d *decoder, root *node) {
	checkPorts(d, root)
	checkEAM(d, root)
	checkShare(d, root)
	d.config.chooseEngine()
	checkProxy(d, root)
	checkRoutes(d, root)
	checkAPI(d, root)
	checkJump(d, root)
	if len(d.errs.List) == 0 {
		checkTranslate(d, root)
	}
}

// checkPorts makes sure that no interface has two jobs.
func checkPorts(d *decoder, root *node) {
	r := &d.config.Router
	seen := map[string]bool{}
	for i, p := range r.Ports {
		key := fmt.Sprintf("router.port[%d].interface", i)
		at := func() int { return valueOffset(root, "router", "port", i, "interface") }
		switch {
		case p.Interface == "": // reported already
		case seen[p.Interface]:
			d.add(at(), key, fmt.Sprintf("%s has a port already", p.Interface), "keep one section per interface")
		case p.Interface == r.Kernel.Interface:
			d.add(at(), key, fmt.Sprintf("%s is the TUN device of [router.kernel]", p.Interface), "name the TUN device differently there, or remove this port")
		}
		seen[p.Interface] = true
	}
	for i, name := range r.Kernel.FastPathInterfaces {
		key := fmt.Sprintf("router.kernel.fast_path_interfaces[%d]", i)
		at := func() int { return valueOffset(root, "router", "kernel", "fast_path_interfaces", i) }
		switch {
		case name == "": // reported already
		case seen[name]:
			d.add(at(), key, fmt.Sprintf("%s has a [[router.port]], which takes its packets before", name), "remove it from one of the two")
		case name == r.Kernel.Interface:
			d.add(at(), key, fmt.Sprintf("%s is the TUN device, which has the fast path by itself", name), "remove it")
		}
	}
}

// checkShare makes sure that there is something to share, on a path where it can be.
func checkShare(d *decoder, root *node) {
	r := &d.config.Router
	if !r.Share.Auto && len(r.Share.Addresses) == 0 {
		return
	}
	at := valueOffset(root, "router", "share", "address")
	switch {
	case !r.Dynamic.Pool4.IsValid():
		d.add(at, "router.share.address", "there is no pool whose hosts could share it", `set [router.dynamic] pool4, such as "100.64.0.0/16"`)
	case len(r.Ports) > 0:
		d.add(at, "router.share.address", "what leaves by an AF_XDP port passes no NAT of the kernel", "remove the [[router.port]] sections, or this")
	}
}

// checkEAM makes sure that no prefix is mapped twice. Prefixes that contain one
// another are fine: the longest one wins (RFC 7757 section 3.2).
func checkEAM(d *decoder, root *node) {
	eam := d.config.Router.EAM
	seen6 := make(map[netip.Prefix]int, len(eam))
	seen4 := make(map[netip.Prefix]int, len(eam))
	for i, e := range eam {
		for _, side := range []struct {
			name string
			p    netip.Prefix
			seen map[netip.Prefix]int
		}{{"ipv6", e.IPv6, seen6}, {"ipv4", e.IPv4, seen4}} {
			if !side.p.IsValid() {
				continue // reported already
			}
			if j, double := side.seen[side.p]; double {
				d.add(valueOffset(root, "router", "eam", i, side.name), fmt.Sprintf("router.eam[%d].%s", i, side.name),
					fmt.Sprintf("%s is mapped by router.eam[%d] already", side.p, j), "remove one of the two")
				continue
			}
			side.seen[side.p] = i
		}
	}
}

// valueOffset follows names and list positions through the tree and returns
// where it ends in the file. What is not in the file ends at its parent.
func valueOffset(n *node, path ...any) int {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m := n.find(step)
			if m == nil {
				return n.off
			}
			n = m.node
		case int:
			if step >= len(n.items) {
				return n.off
			}
			n = n.items[step]
		}
	}
	return n.off
}

var wellKnown = netip.MustParsePrefix("64:ff9b::/96")

// Warnings names what is allowed and probably not meant, one sentence each.
func (c *Config) Warnings() []string {
	var w []string
	r := &c.Router
	if len(r.Pool6) == 0 && len(r.EAM) == 0 {
		w = append(w, "router.pool6 and router.eam are both empty: nothing will be translated")
	}
	translation := c.Translate()
	maySend := translation.MaySend()
	for i, e := range r.EAM {
		if !maySend(e.IPv6) {
			w = append(w, fmt.Sprintf("router.eam[%d]: %s is not, or not as a whole, in router.vm_prefixes: what comes from outside of them is dropped", i, e.IPv6))
			break // one says it, and a million would not say more
		}
	}
	if r.AllowPrivate4 && !slices.Contains(r.Pool6, wellKnown) {
		w = append(w, "router.allow_private4 has no effect: it is about 64:ff9b::/96, which is not in router.pool6")
	}
	if k := r.Kernel; k.FastPath == FastPathOff && len(k.FastPathInterfaces) > 0 {
		w = append(w, `router.kernel.fast_path_interfaces has no effect with fast_path = "off"`)
	}
	w = append(w, c.proxyWarnings()...)
	w = append(w, c.routesWarnings()...)
	w = append(w, c.jumpWarnings()...)
	if c.Metrics.Listen != "" && !c.Metrics.loopback() {
		w = append(w, fmt.Sprintf("metrics.listen = %q can be reached from other hosts, and the endpoint asks for no password", c.Metrics.Listen))
	}
	return w
}

// loopback tells whether only this host can reach the endpoint.
func (m Metrics) loopback() bool {
	if strings.HasPrefix(m.Listen, "localhost:") {
		return true
	}
	a, err := netip.ParseAddrPort(m.Listen)
	return err == nil && a.Addr().IsLoopback()
}
