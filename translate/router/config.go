package router

import (
	"net/netip"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router/dynamic"
	"aarch64.com/isthmus/xsk"
)

// Config is all that a Router needs to know.
type Config struct {
	Translate translate.Config
	Ports     []PortConfig // none: kernel path only
	Kernel    KernelConfig

	// Dynamic gives hosts without a mapping an address from a pool, if its
	// Pool4 is set. Its Static is Translate.EAM, whatever it says.
	Dynamic dynamic.Config

	// AutoVMs takes Translate.VMPrefixes from the routes of this host, and follows
	// them: a VM is who is reached otherwise than by the way to the Internet
	// (nexthop.Table.Nearby6). None: nobody may send.
	AutoVMs bool

	// Share lets the hosts of the dynamic pool share addresses of this host.
	Share ShareConfig

	// FastPath lets the kernel translate plain packets on the kernel path by
	// itself, where it can (package xsk/tun/fastpath).
	FastPath bool

	// FastPathInterfaces are Ethernet interfaces at whose ingress it does so,
	// too, past routing, firewall and NAT of the kernel. They may come and go.
	FastPathInterfaces []string

	// OwnAddress lets packets through to the host's own IPv4 addresses.
	OwnAddress bool

	// ErrorRate and ErrorBurst bound the ICMP errors of our own, per worker:
	// errors per second, and how many at once. 0: 100 and 50; less: none.
	ErrorRate, ErrorBurst int

	// Log receives one line per event that an operator wants to know about;
	// warn marks what needs a hand. Nil: nothing is told.
	Log func(warn bool, message string)
}

// PortConfig is one AF_XDP port.
type PortConfig struct {
	Interface string
	Queues    []int // nil: all that the interface has
	ZeroCopy  xsk.ZeroCopy
	Attach    xsk.Attach
	ChunkSize int // bytes of a frame: 2048 or 4096; 0: 2048 where the MTU fits, else 4096
	// CompleteChecksums is for sources that leave partial checksums in frames.
	CompleteChecksums bool
}

// KernelConfig is the TUN device.
type KernelConfig struct {
	Interface string // 0 bytes: isthmus0
	Queues    int    // 0: one per worker
	// SetForwarding makes the kernel forward IPv4 and IPv6, for good, in a way
	// that keeps routes from router advertisements.
	SetForwarding bool
}

// ShareConfig says by which addresses the dynamic pool leaves this host.
type ShareConfig struct {
	Auto      bool         // by the address of the interface that the default route leaves by
	Addresses []netip.Addr // by these; none and not Auto: the pool leaves as it is
	// The limits of one VM, see nat44.Config.
	PortsPerVM, MaxConnections, NewPerSecond int
	Keep                                     bool // likewise; Router.ForGood overrules it
}

func (c *ShareConfig) enabled() bool { return c.Auto || len(c.Addresses) > 0 }

// Defaults of the zero values in Config.
const (
	DefaultKernelInterface = "isthmus0"
	defaultErrorRate       = 100
	defaultErrorBurst      = 50

	// ringSize is the number of descriptors of the receive and transmit
	// ring of one queue; the fill and completion ring have twice as many.
	ringSize = 2048
	// kernelBatch is how many packets are read from the kernel before they
	// are sent on. Each costs a system call whatever the batch, and one after
	// the other they all use the same 64 KB, which stay in the cache.
	kernelBatch = 1
	// kernelFrames is the number of frames of the TUN port of one worker: for
	// what was read, its segments, and their fragments, one at a time.
	kernelFrames = 8
	// maxSuperpacket is more than the kernel ever hands over at once: an
	// IPv6 header and the largest payload that its length field can tell.
	maxSuperpacket = 40 + 1<<16
	// maxWorkers bounds the workers of the kernel path alone.
	maxKernelWorkers = 8
)
