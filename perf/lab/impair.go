package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Impairment says what happens to the packets of a link, each way. A packet is
// what crosses the link at once: a superpacket (GSO) is lost or held as a whole.
type Impairment struct {
	Loss      float64 // probability that a packet is lost
	Reorder   float64 // probability that a packet is overtaken by others
	Duplicate float64 // probability that a packet comes twice

	By    int           // how many packets overtake one; 0 means 3
	Delay time.Duration // after which a packet goes on even if nothing came to overtake it; 0 means 5 ms
}

// ImpairCounts is what became of packets, both ways together.
type ImpairCounts struct {
	Forwarded  uint64 // by the other end of the link; duplicates not counted
	Lost       uint64 // on purpose
	Reordered  uint64 // overtaken by at least one other
	Duplicated uint64
	Super      uint64 // of those forwarded, superpackets
	Failed     uint64 // refused by the kernel, such as one above the MTU
}

// Impairer loses, reorders and duplicates the packets of one link, see
// [LinkConfig]. It stands in for netem, which needs a kernel module:
//
//	x eth0 ====== a  impairN  b ====== eth0 y
//	               \  user   /
//	            AF_PACKET with PACKET_VNET_HDR
//
// Packets are copied from one veth pair to another with their virtio-net
// header, so that superpackets and partial checksums cross as they are. What
// comes faster than it can copy is lost without being counted, as on any wire.
// 802.1Q tags do not survive, and XDP_REDIRECT towards it is not possible.
//
// Which packets are hit follows from the seed and the order in which packets
// come, separately for each way.
type Impairer struct {
	seed   uint64
	what   atomic.Pointer[Impairment]
	counts [6]atomic.Uint64
	used   atomic.Bool
}

// Indexes of Impairer.counts.
const (
	impairForwarded = iota
	impairLost
	impairReordered
	impairDuplicated
	impairSuper
	impairFailed
)

const (
	// impairBuffer holds the largest packet: 64 KB, its Ethernet and its
	// virtio-net header.
	impairBuffer = 1 << 17
	// impairSocketBuffer is for bursts while the process has no CPU.
	impairSocketBuffer = 64 << 20

	vnetHdrLen  = 10 // struct virtio_net_hdr (include/uapi/linux/virtio_net.h)
	vnetGSOType = 1  // offset of gso_type
)

// NewImpairer makes an Impairer that does no harm until it is told to.
func NewImpairer(seed uint64) *Impairer {
	i := &Impairer{seed: seed}
	i.Set(Impairment{})
	return i
}

// Set changes what happens to packets that come from now on.
func (i *Impairer) Set(what Impairment) {
	if what.By == 0 {
		what.By = 3
	}
	if what.Delay == 0 {
		what.Delay = 5 * time.Millisecond
	}
	i.what.Store(&what)
}

// Counts says what has become of packets since the beginning.
func (i *Impairer) Counts() ImpairCounts {
	return ImpairCounts{
		Forwarded: i.counts[impairForwarded].Load(), Lost: i.counts[impairLost].Load(),
		Reordered: i.counts[impairReordered].Load(), Duplicated: i.counts[impairDuplicated].Load(),
		Super: i.counts[impairSuper].Load(), Failed: i.counts[impairFailed].Load(),
	}
}

// impairedLink is a link through a host of its own.
func (l *Lab) impairedLink(a, b *Host, c LinkConfig) error {
	i := c.Impair
	if i.used.Swap(true) {
		return errors.New("the Impairer is in use for another link")
	}
	l.mu.Lock()
	name := fmt.Sprintf("impair%d", len(l.hosts))
	l.mu.Unlock()
	middle, err := l.Host(name)
	if err != nil {
		return err
	}
	// The host between has nothing to say: no neighbour or group messages.
	for _, key := range []string{"net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6"} {
		if err := middle.Sysctl(key, "1"); err != nil {
			return err
		}
	}
	near, far := c, c
	near.NameB, far.NameA = "a", "b"
	if err := link(a, middle, near); err != nil {
		return err
	}
	if err := link(middle, b, far); err != nil {
		return err
	}
	// Merged by receive offload, packets would share one fate.
	for _, name := range []string{"a", "b"} {
		if err := middle.Offload(name, c.ChecksumOffload, false); err != nil {
			return err
		}
	}
	var ends [2]*os.File
	for n, name := range []string{"a", "b"} {
		if ends[n], err = middle.packetSocket(name); err != nil {
			if n > 0 {
				ends[0].Close()
			}
			return err
		}
	}
	var both sync.WaitGroup
	for n := range ends {
		both.Go(func() { i.forward(ends[n], ends[1-n], rand.New(rand.NewPCG(i.seed, uint64(n)))) })
	}
	go func() {
		<-middle.stop
		for _, f := range ends {
			f.Close() // ends the reading
		}
		both.Wait()
	}()
	return nil
}

// packetSocket opens an interface for whole frames with virtio-net headers.
func (h *Host) packetSocket(ifname string) (*os.File, error) {
	index, err := h.Ifindex(ifname)
	if err != nil {
		return nil, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
	fd := -1
	err = h.Do(func() (err error) {
		// Without a protocol it hears nothing until it is bound.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, impairSocketBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}),
	)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("packet socket on %s: %w", ifname, err)
	}
	return os.NewFile(uintptr(fd), "packet:"+ifname), nil
}

// heldPacket waits to be overtaken.
type heldPacket struct {
	data   []byte
	still  int       // packets that are still to overtake it
	until  time.Time // it goes on in any case
	passed bool      // at least one has
}

// forward copies packets one way until a socket is closed.
func (i *Impairer) forward(from, to *os.File, random *rand.Rand) {
	send := func(b []byte, as int) {
		// A closed socket shows with the next read.
		if _, err := to.Write(b); err != nil {
			as = impairFailed
		} else if as == impairForwarded && b[vnetGSOType] != unix.VIRTIO_NET_HDR_GSO_NONE {
			i.counts[impairSuper].Add(1)
		}
		i.counts[as].Add(1)
	}
	var held []heldPacket
	// release sends those that have waited enough.
	release := func(now time.Time) {
		keep := held[:0]
		for _, h := range held {
			if h.still > 0 && now.Before(h.until) {
				keep = append(keep, h)
				continue
			}
			if h.passed {
				i.counts[impairReordered].Add(1)
			}
			send(h.data, impairForwarded)
		}
		held = keep
	}
	buf := make([]byte, impairBuffer)
	for {
		var deadline time.Time
		for _, h := range held {
			if deadline.IsZero() || h.until.Before(deadline) {
				deadline = h.until
			}
		}
		if err := from.SetReadDeadline(deadline); err != nil {
			return
		}
		n, err := from.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			release(time.Now())
			continue
		case errors.Is(err, unix.ENETDOWN): // said once, when the interface goes down
			continue
		case err != nil:
			return
		}
		what := i.what.Load()
		// Always three draws, so that one probability does not change what
		// another one hits.
		lost, reordered, duplicated := random.Float64() < what.Loss, random.Float64() < what.Reorder, random.Float64() < what.Duplicate
		p := buf[:n]
		switch {
		case n < vnetHdrLen:
		case lost:
			i.counts[impairLost].Add(1)
		case reordered:
			held = append(held, heldPacket{data: append([]byte(nil), p...), still: what.By, until: time.Now().Add(what.Delay)})
			continue
		default:
			send(p, impairForwarded)
			if duplicated {
				send(p, impairDuplicated)
			}
			for k := range held {
				held[k].still--
				held[k].passed = true
			}
		}
		if len(held) > 0 {
			release(time.Now())
		}
	}
}
