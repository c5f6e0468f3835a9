package hosts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"

	"aarch64.com/isthmus/translate"
)

const (
	// A router answers within half a second, but multicasts once in three
	// seconds only (RFC 4861 section 10: MAX_RA_DELAY_TIME, MIN_DELAY_BETWEEN_RAS).
	advertisementWait = 3500 * time.Millisecond
	// How long another router than the first has to speak up.
	othersWait = 600 * time.Millisecond

	ndHopLimit    = 255 // whoever is not on the link cannot send it (RFC 4861 section 6.1.2)
	typeSolicit   = 133
	typeAdvert    = 134
	optionLinkSrc = 1
	optionPref64  = 38 // RFC 8781 section 4
)

var allRouters = net.ParseIP("ff02::2")

// Routers says who is asked for router advertisements.
type Routers struct {
	// Interfaces to ask on. None: those that a default route leads out by, as a
	// stranger on another link, such as a VM, must not choose where names lead.
	Interfaces []string
}

// Ask solicits router advertisements and gives the prefixes of the first one
// that has any (RFC 8781), and who sent it.
func (r Routers) Ask(ctx context.Context) (list []translate.Pref64, from string, err error) {
	interfaces, err := r.interfaces()
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, advertisementWait)
	defer cancel()
	type answer struct {
		list []translate.Pref64
		from string
		err  error
	}
	answers := make(chan answer, len(interfaces))
	for _, i := range interfaces {
		go func() {
			list, from, err := solicit(ctx, i)
			answers <- answer{list, from, err}
		}()
	}
	var errs []error
	for range interfaces {
		a := <-answers
		if len(a.list) > 0 {
			return a.list, a.from, nil
		}
		errs = append(errs, a.err)
	}
	return nil, "", errors.Join(errs...)
}

func (r Routers) interfaces() (list []*net.Interface, err error) {
	names := r.Interfaces
	if len(names) == 0 {
		if names, err = defaultInterfaces(); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", name, err)
		}
		list = append(list, i)
	}
	if len(list) == 0 {
		return nil, errors.New("no interface has an IPv6 default route; name one with --interface")
	}
	return list, nil
}

func defaultInterfaces() (names []string, err error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst != nil {
			if ones, _ := route.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		hops := []int{route.LinkIndex}
		for _, h := range route.MultiPath {
			hops = append(hops, h.LinkIndex)
		}
		for _, index := range hops {
			i, err := net.InterfaceByIndex(index)
			if err == nil && i.Flags&net.FlagMulticast != 0 && !slices.Contains(names, i.Name) {
				names = append(names, i.Name)
			}
		}
	}
	return names, nil
}

// solicit asks on one interface until an advertisement has a prefix or the time
// is up. That is sooner where a router answers, and without one.
func solicit(ctx context.Context, i *net.Interface) ([]translate.Pref64, string, error) {
	local, err := linkLocal(i)
	if err != nil {
		return nil, "", err
	}
	conn, err := net.ListenPacket("ip6:ipv6-icmp", local.String())
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w (it takes CAP_NET_RAW)", i.Name, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	p := ipv6.NewPacketConn(conn)
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterAdvertisement)
	err = errors.Join(
		p.SetICMPFilter(&only),
		p.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true),
		p.SetMulticastHopLimit(ndHopLimit),
		p.SetMulticastInterface(i),
		p.JoinGroup(i, &net.IPAddr{IP: net.IPv6linklocalallnodes}),
	)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", i.Name, err)
	}
	if _, err := p.WriteTo(solicitation(i.HardwareAddr), nil, &net.IPAddr{IP: allRouters, Zone: i.Name}); err != nil {
		return nil, "", fmt.Errorf("%s: router solicitation: %w", i.Name, err)
	}
	others := time.Now().Add(othersWait)
	var without net.Addr // a router that announces no prefix
	b := make([]byte, 1<<16)
	for {
		n, cm, from, err := p.ReadFrom(b)
		switch {
		case without != nil && err != nil:
			return nil, "", fmt.Errorf("%s: the router advertisement of %v has no PREF64", i.Name, without)
		case ctx.Err() != nil:
			return nil, "", fmt.Errorf("%s: no router advertisement within %v", i.Name, advertisementWait)
		case err != nil:
			return nil, "", fmt.Errorf("%s: %w", i.Name, err)
		}
		source, ok := from.(*net.IPAddr)
		if !ok || cm == nil || cm.HopLimit != ndHopLimit || cm.IfIndex != i.Index || !source.IP.IsLinkLocalUnicast() {
			continue
		}
		list, err := ParseAdvertisement(b[:n])
		if err != nil {
			continue // RFC 4861 section 6.1.2: silently
		}
		if len(list) == 0 {
			without = source
			_ = conn.SetReadDeadline(others)
			continue
		}
		return list, fmt.Sprintf("the router advertisement of %v", source), nil
	}
}

func linkLocal(i *net.Interface) (*net.IPAddr, error) {
	addrs, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.Name, err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil && n.IP.IsLinkLocalUnicast() {
			return &net.IPAddr{IP: n.IP, Zone: i.Name}, nil
		}
	}
	return nil, fmt.Errorf("%s has no link-local address", i.Name)
}

// solicitation is a router solicitation (RFC 4861 section 4.1); the kernel
// computes its checksum.
func solicitation(mac net.HardwareAddr) []byte {
	b := make([]byte, 8, 16)
	b[0] = typeSolicit
	if len(mac) == 6 {
		b = append(b, optionLinkSrc, 1)
		b = append(b, mac...)
	}
	return b
}

// ParseAdvertisement gives the NAT64 prefixes of a router advertisement
// (RFC 4861 section 4.2, RFC 8781 section 4) that begins with its ICMPv6 header,
// but not those that it withdraws. An error is a message to be ignored whole.
//
//	 0                   1                   2                   3
//	|   Type 38     |   Length 2    |     Scaled Lifetime     | PLC |
//	|               highest 96 bits of the prefix                   |
func ParseAdvertisement(b []byte) (list []translate.Pref64, err error) {
	const header = 16
	if len(b) < header || b[0] != typeAdvert || b[1] != 0 {
		return nil, errors.New("no router advertisement")
	}
	for o := b[header:]; len(o) > 0; {
		if len(o) < 8 || o[1] == 0 || len(o) < int(o[1])*8 {
			return nil, errors.New("an option does not end")
		}
		if o[0] == optionPref64 && o[1] == 2 {
			if p, ok := pref64(o[:16]); ok && !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
		o = o[int(o[1])*8:]
	}
	return list, nil
}

// pref64Lengths is a prefix's length in bits by its PLC.
var pref64Lengths = [...]int{96, 64, 56, 48, 40, 32}

func pref64(o []byte) (p translate.Pref64, ok bool) {
	field := binary.BigEndian.Uint16(o[2:])
	lifetime, plc := field>>3, int(field&7)
	if lifetime == 0 || plc >= len(pref64Lengths) {
		return p, false
	}
	var a [16]byte
	copy(a[:12], o[4:])
	p, err := translate.NewPref64(netip.PrefixFrom(netip.AddrFrom16(a), pref64Lengths[plc]).Masked())
	return p, err == nil
}
