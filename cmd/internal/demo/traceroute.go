package demo

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"aarch64.com/isthmus/perf/lab"
)

const (
	traceBase  = 33434 // first port, as traceroute(8) counts
	traceHops  = 12
	traceTries = 3
	traceWait  = time.Second
)

// traceroute sends UDP datagrams with a growing hop limit to a closed port and
// returns who answered, the destination last: Time Exceeded from the routers,
// Port Unreachable from the destination.
func traceroute(ctx context.Context, from *lab.Host, to netip.Addr) ([]netip.Addr, error) {
	exceeded, unreachable := uint8(ipv6.ICMPTypeTimeExceeded), uint8(ipv6.ICMPTypeDestinationUnreachable)
	port := uint8(4) // RFC 4443 section 3.1
	if to.Is4() {
		exceeded, unreachable, port = uint8(ipv4.ICMPTypeTimeExceeded), uint8(ipv4.ICMPTypeDestinationUnreachable), 3
	}
	var hops []netip.Addr
	for n := 1; n <= traceHops; n++ {
		said, err := traceHop(ctx, from, netip.AddrPortFrom(to, uint16(traceBase+n)), n)
		if err != nil {
			return hops, fmt.Errorf("hop %d: %w", n, err)
		}
		hops = append(hops, said.From)
		switch {
		case said.Type == exceeded && said.Code == 0:
		case said.Type == unreachable && said.Code == port && said.From == to:
			return hops, nil
		default:
			return hops, fmt.Errorf("hop %d: %s sent ICMP type %d, code %d", n, show(said.From), said.Type, said.Code)
		}
	}
	return hops, fmt.Errorf("%s not reached in %d hops", show(to), traceHops)
}

func traceHop(ctx context.Context, from *lab.Host, to netip.AddrPort, hops int) (*icmpError, error) {
	d, err := dialDatagram(from, to)
	if err != nil {
		return nil, err
	}
	defer d.close()
	if err := d.hops(hops); err != nil {
		return nil, err
	}
	payload, said, err := d.exchange(ctx, []byte("traceroute of isthmus demo"), traceTries, traceWait)
	if err == nil && said == nil {
		err = fmt.Errorf("an answer of %d bytes from a port that should be closed", len(payload))
	}
	return said, err
}
