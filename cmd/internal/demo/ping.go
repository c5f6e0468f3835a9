package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"aarch64.com/isthmus/perf/lab"
)

// pingSizes are the payloads of the echoes, in bytes.
var pingSizes = []int{0, 56, 1400}

// replyTimeout is how long a lost packet is waited for.
const replyTimeout = 2 * time.Second

// ping sends one echo of each size and wants each answered with the bytes that
// were sent. It returns the shortest round trip.
func ping(ctx context.Context, from *lab.Host, to netip.Addr) (time.Duration, error) {
	network, wildcard, proto := "ip6:ipv6-icmp", "::", 58
	var echo, reply icmp.Type = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	if to.Is4() {
		network, wildcard, proto = "ip4:icmp", "0.0.0.0", 1
		echo, reply = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	}
	c, err := from.ListenPacket(network, wildcard)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()

	best := time.Duration(0)
	for seq, size := range pingSizes {
		sent := &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: seq + 1, Data: bytes.Repeat([]byte{byte('a' + seq)}, size)}
		// The kernel fills in the ICMPv6 checksum of raw sockets.
		packet, err := (&icmp.Message{Type: echo, Body: sent}).Marshal(nil)
		if err != nil {
			return 0, err
		}
		start := time.Now()
		if err := c.SetReadDeadline(start.Add(replyTimeout)); err != nil {
			return 0, err
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if _, err := c.WriteTo(packet, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return 0, err
		}
		if err := awaitEcho(c, proto, reply, to, sent); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return 0, fmt.Errorf("echo of %d bytes to %s: %w", size, show(to), err)
		}
		if took := time.Since(start); best == 0 || took < best {
			best = took
		}
	}
	return best, nil
}

// awaitEcho reads until the answer to sent arrives from the right address.
func awaitEcho(c net.PacketConn, proto int, reply icmp.Type, from netip.Addr, sent *icmp.Echo) error {
	buf := make([]byte, 1<<16)
	for {
		n, addr, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("no answer within %v", replyTimeout)
		}
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || m.Type != reply {
			continue
		}
		got, ok := m.Body.(*icmp.Echo)
		if !ok || got.ID != sent.ID || got.Seq != sent.Seq {
			continue
		}
		if src, _ := netip.AddrFromSlice(addr.(*net.IPAddr).IP); src.Unmap() != from {
			return fmt.Errorf("answered from %s", show(src.Unmap()))
		}
		if !bytes.Equal(got.Data, sent.Data) {
			return errors.New("the answer carries other bytes")
		}
		return nil
	}
}

// show writes an address the way people write it: the IPv4 address inside
// 64:ff9b::/96 as such (RFC 6052 section 2.4).
func show(a netip.Addr) string {
	if lab.Pool6.Contains(a) {
		b := a.As16()
		return "64:ff9b::" + netip.AddrFrom4([4]byte(b[12:])).String()
	}
	return a.String()
}
