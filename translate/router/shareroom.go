package router

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"aarch64.com/isthmus/translate/router/nat44"
)

const conntrackMax = "net/netfilter/nf_conntrack_max"

// warnConntrack tells if the kernel has no room for the connections that the VMs
// may have.
func (r *Router) warnConntrack(vms int) {
	text, err := sysctl(conntrackMax)
	if err != nil {
		return // not to be seen from this namespace
	}
	if most, err := strconv.Atoi(text); err == nil {
		if w := conntrackWarning(most, vms, r.config.Share.MaxConnections); w != "" {
			r.log(true, w)
		}
	}
}

// conntrackWarning is about room for most connections of this host, and VMs that
// may have each so many (0: the default, less: without bound).
func conntrackWarning(most, vms, each int) string {
	if each == 0 {
		each = nat44.DefaultMaxConnections
	}
	switch {
	case most == 0: // no bound
		return ""
	case each < 0:
		return fmt.Sprintf("%s is %d, and max_connections of [router.share] is 0: one VM can use it up, and then this host has no connections either; set max_connections", conntrackMax, most)
	case most >= vms*each:
		return ""
	}
	return fmt.Sprintf("%s is %d: %d of the %d VMs that can share an address use it up with max_connections = %d, and then nobody gets a new connection, this host included; run sysctl -w %s=%d (some 300 bytes each), or lower max_connections",
		conntrackMax, most, (most+each-1)/each, vms, each, conntrackMax, vms*each)
}

// hostPortsInterval is how often the host's own ports are looked at.
const hostPortsInterval = time.Minute

// watchHostPorts warns when the host's own ports change under the slices, which
// stay as they are until a restart: to move them would cut connections.
func (r *Router) watchHostPorts(ctx context.Context, interval time.Duration) {
	last := r.share.HostPorts()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var now []nat44.Ports
		err := r.inHome(func() (err error) { now, err = nat44.HostPorts(); return err })
		if err != nil || slices.Equal(now, last) {
			continue
		}
		last = now
		if !slices.Equal(now, r.share.HostPorts()) {
			r.log(true, fmt.Sprintf("this host's own ports (net.ipv4.ip_local_port_range, ip_local_reserved_ports) are %s now, but VMs share what was free at the start, when they were %s: some ports may be both's until isthmus is restarted",
				nat44.HostText(now), nat44.HostText(r.share.HostPorts())))
		}
	}
}
