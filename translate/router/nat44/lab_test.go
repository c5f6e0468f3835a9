package nat44

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// world is the smallest network that an address is shared in: mapped addresses
// behind a hypervisor that forwards, and a server that tells who calls it.
//
//	vms 100.64.0.0/16 --- hypervisor 203.0.113.1 --- 203.0.113.2 server
type world struct {
	t                       testing.TB
	vms, hypervisor, server *lab.Host
}

var (
	pool       = netip.MustParsePrefix("100.64.0.0/16")
	sharedAddr = netip.MustParseAddr("203.0.113.1")
	otherAddr  = netip.MustParseAddr("203.0.113.9")
	serverAddr = netip.MustParseAddr("203.0.113.2")
)

const serverPort = 7

func vm(n int) netip.Addr { return netip.AddrFrom4([4]byte{100, 64, byte(n >> 8), byte(n)}) }

func newWorld(t testing.TB) *world {
	l := labtest.New(t, "nat44")
	w := &world{
		t: t, vms: labtest.Host(t, l, "vms"), hypervisor: labtest.Host(t, l, "hypervisor"), server: labtest.Host(t, l, "server"),
	}
	inner := lab.LinkConfig{NameB: "vms", ChecksumOffload: true, GRO: true}
	wan := lab.LinkConfig{NameA: lab.WANPort, ChecksumOffload: true, GRO: true}
	for _, err := range []error{
		l.Link(w.vms, w.hypervisor, inner),
		l.Link(w.hypervisor, w.server, wan),
		w.hypervisor.Sysctl("net.ipv4.ip_forward", "1"),
		w.hypervisor.Sysctl("net.ipv4.icmp_ratelimit", "0"),
		w.hypervisor.Sysctl("net.ipv4.ip_local_port_range", "32768 60999"),
		w.vms.Sysctl("net.ipv4.ip_local_port_range", "1024 65535"),
		w.hypervisor.Addr("vms", "192.0.2.1/24"),
		w.vms.Addr("eth0", "192.0.2.2/24"),
		w.hypervisor.Route(pool.String(), "192.0.2.2", ""),
		w.vms.Route("default4", "192.0.2.1", ""),
		// Any address of the pool is the host's own.
		w.vms.Do(func() error { return addLocal(w.vms, pool) }),
		w.hypervisor.Addr(lab.WANPort, sharedAddr.String()+"/24"),
		w.hypervisor.Addr(lab.WANPort, otherAddr.String()+"/24"),
		w.server.Addr("eth0", serverAddr.String()+"/24"),
		w.server.Route("default4", sharedAddr.String(), ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.serve()
	return w
}

// open makes a table on the hypervisor that the test closes.
func (w *world) open(c Config) *Table {
	w.t.Helper()
	t, err := w.tryOpen(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := t.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return t
}

func (w *world) tryOpen(c Config) (t *Table, err error) {
	if !c.Pool4.IsValid() {
		c.Pool4 = pool
	}
	if c.Addresses == nil {
		c.Addresses = []netip.Addr{sharedAddr}
	}
	err = w.hypervisor.Do(func() error { t, err = Open(c); return err })
	return t, err
}

// serve answers each TCP connection's and each UDP packet's first bytes with
// the address and port that they came from, and echoes what follows on TCP.
func (w *world) serve() {
	var l net.Listener
	var u net.PacketConn
	err := w.server.Do(func() (err error) {
		if l, err = net.Listen("tcp4", fmt.Sprintf(":%d", serverPort)); err != nil {
			return err
		}
		u, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", serverPort))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 64)
				if _, err := c.Read(b); err != nil {
					return
				}
				fmt.Fprintln(c, c.RemoteAddr())
				io.Copy(c, c)
			}()
		}
	}()
	go func() {
		b := make([]byte, 64)
		for {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo([]byte(from.String()+"\n"), from)
		}
	}()
}

// dial opens a connection from a VM; port is that of the VM, or 0.
func (w *world) dial(network string, from netip.Addr, port uint16, timeout time.Duration) (c net.Conn, err error) {
	err = w.vms.Do(func() (err error) {
		local := netip.AddrPortFrom(from, port)
		d := net.Dialer{Timeout: timeout, LocalAddr: net.TCPAddrFromAddrPort(local)}
		if network == "udp4" {
			d.LocalAddr = net.UDPAddrFromAddrPort(local)
		}
		// One address: the dialer needs no further goroutine, which would
		// be on another thread.
		c, err = d.DialContext(context.Background(), network, netip.AddrPortFrom(serverAddr, serverPort).String())
		return err
	})
	return c, err
}

// seen asks the server what it takes c's source for.
func seen(c net.Conn) (netip.AddrPort, error) {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintln(c, "who am I"); err != nil {
		return netip.AddrPort{}, err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if n == 0 {
		return netip.AddrPort{}, errors.New("no answer")
	}
	return netip.ParseAddrPort(string(b[:n-1]))
}

// call opens a connection and asks; the connection stays open until the end.
func (w *world) call(network string, from netip.Addr) (net.Conn, netip.AddrPort, error) {
	c, err := w.dial(network, from, 0, 5*time.Second)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	w.t.Cleanup(func() { c.Close() })
	a, err := seen(c)
	return c, a, err
}

// alive tells whether a TCP connection still carries bytes both ways.
func alive(c net.Conn) error { return aliveWithin(c, 5*time.Second) }

func aliveWithin(c net.Conn, d time.Duration) error {
	c.SetDeadline(time.Now().Add(d))
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

// opened is how many connections the hypervisor's conntrack holds.
func opened(t testing.TB, w *world) (n int) {
	t.Helper()
	err := w.hypervisor.Do(func() error {
		b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(string(b), &n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// flush makes the hypervisor's conntrack forget everything.
func flush(t testing.TB, w *world) {
	t.Helper()
	err := w.hypervisor.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	if err != nil {
		t.Fatal(err)
	}
}
