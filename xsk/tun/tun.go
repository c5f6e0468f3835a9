package tun

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const devicePath = "/dev/net/tun"

// MaxMTU is the largest MTU that a TUN device takes.
const MaxMTU = 65535

// MaxQueues is the kernel's limit of queues of one device (MAX_TAP_QUEUES).
const MaxQueues = 256

// Config says which device to make.
type Config struct {
	Name   string // interface name, 1 to 15 bytes
	Queues int    // 1 to MaxQueues
	// Offload lets the kernel hand over partial checksums and superpackets
	// of up to 64 KB, as far as it can; see Device.Offload.
	Offload bool
	MTU     int // bytes; 0: MaxMTU, so that the kernel never judges a packet's size before the translator does
}

// Device is a TUN interface that exists as long as this process holds it.
type Device struct {
	name     string
	ifindex  int
	mtu      int
	queues   []*Queue
	tcp, udp bool
}

// Queue is one queue of a Device: packets of one flow keep to one queue.
type Queue struct {
	fd  int
	hdr Header
}

// ErrExists tells that the interface name is taken by another device or process.
var ErrExists = errors.New("the interface name is in use")

// Open makes the interface in the network namespace of the calling thread,
// sets its MTU and brings it up. It needs CAP_NET_ADMIN and /dev/net/tun.
func Open(c Config) (*Device, error) {
	if c.MTU == 0 {
		c.MTU = MaxMTU
	}
	if c.Queues < 1 || c.Queues > MaxQueues {
		return nil, fmt.Errorf("open tun %s: %d queues, want 1 to %d", c.Name, c.Queues, MaxQueues)
	}
	if len(c.Name) == 0 || len(c.Name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("open tun %q: an interface name has 1 to %d bytes", c.Name, unix.IFNAMSIZ-1)
	}
	d := &Device{name: c.Name, mtu: c.MTU}
	for i := range c.Queues {
		// Without IFF_TUN_EXCL the kernel would quietly add our queues to a
		// device that another process holds.
		flags := uint16(0)
		if i == 0 {
			flags = unix.IFF_TUN_EXCL
		}
		q, err := openQueue(c.Name, flags)
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("open queue %d of tun %s: %w", i, c.Name, err)
		}
		d.queues = append(d.queues, q)
	}
	if c.Offload {
		if err := d.setOffload(); err != nil {
			d.Close()
			return nil, err
		}
	}
	if err := d.configure(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func openQueue(name string, flags uint16) (*Queue, error) {
	fd, err := unix.Open(devicePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("%s: %w (load the module: modprobe tun; in a container, map the device in)", devicePath, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("%s: %w (run as root, or allow the device to this user)", devicePath, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", devicePath, err)
	}
	if err := setUpQueue(fd, name, flags); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Queue{fd: fd}, nil
}

func setUpQueue(fd int, name string, flags uint16) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(flags | unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("TUNSETIFF: %w (the capability CAP_NET_ADMIN is missing)", err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("TUNSETIFF: %w: %w (another interface or process has it; choose another name or stop that one)", ErrExists, err)
	case err != nil:
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, HeaderLen); err != nil {
		return fmt.Errorf("TUNSETVNETHDRSZ: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETLE, 1); err != nil {
		return fmt.Errorf("TUNSETVNETLE: %w", err)
	}
	return nil
}

// Offloads that a Device can take over from the kernel (linux/if_tun.h).
const (
	offloadTCP = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	offloadUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6 // Linux 6.2
)

// setOffload lets the kernel hand over partial checksums and superpackets: all
// that it knows to, or nothing.
func (d *Device) setOffload() error {
	for _, o := range []struct {
		flags    int
		tcp, udp bool
	}{{offloadTCP | offloadUDP, true, true}, {offloadTCP, true, false}} {
		err := unix.IoctlSetInt(d.queues[0].fd, unix.TUNSETOFFLOAD, o.flags)
		if err == nil {
			d.tcp, d.udp = o.tcp, o.udp
			return nil
		}
		if !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("set offloads of tun %s: %w", d.name, err)
		}
	}
	return nil
}

// Offload tells whether the kernel hands over TCP and UDP superpackets: the
// reader of a queue must be ready for them and for partial checksums.
func (d *Device) Offload() (tcp, udp bool) { return d.tcp, d.udp }

func (d *Device) configure() error {
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("configure tun %s: %w", d.name, err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq(d.name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFINDEX, req); err != nil {
		return fmt.Errorf("look up tun %s: %w", d.name, err)
	}
	d.ifindex = int(req.Uint32())
	req.SetUint32(uint32(d.mtu))
	if err := unix.IoctlIfreq(s, unix.SIOCSIFMTU, req); err != nil {
		return fmt.Errorf("set the MTU of tun %s to %d: %w", d.name, d.mtu, err)
	}
	// A router's point-to-point link needs no link-local address, and
	// without one it sends neither router solicitations nor MLD reports
	// into the translator. The file is missing where IPv6 is compiled out,
	// and read-only in some containers; both are harmless.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+d.name+"/addr_gen_mode", []byte("1"), 0)
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("read the flags of tun %s: %w", d.name, err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring tun %s up: %w", d.name, err)
	}
	return nil
}

// Name is the interface's name.
func (d *Device) Name() string { return d.name }

// Ifindex is the interface's index in its network namespace.
func (d *Device) Ifindex() int { return d.ifindex }

// MTU is the interface's MTU in bytes.
func (d *Device) MTU() int { return d.mtu }

// Queues is the number of queues.
func (d *Device) Queues() int { return len(d.queues) }

// Queue returns queue i, 0 <= i < Queues.
func (d *Device) Queue(i int) *Queue { return d.queues[i] }

// Close closes all queues, and the kernel removes the interface.
func (d *Device) Close() error {
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, unix.Close(q.fd))
	}
	d.queues = nil
	return errors.Join(errs...)
}

// FD is the queue's descriptor, for poll: readable when a packet waits.
func (q *Queue) FD() int { return q.fd }

// Errors of Read and Write that a caller reacts to.
var (
	ErrGone = errors.New("the tun device is gone")          // deleted under us
	ErrFull = errors.New("the kernel takes no packets now") // it lacks memory or the device is down
)

// Read takes one packet from the kernel into buf[start:] and returns its length
// in bytes and its header, which is valid until the next Read. Nothing waiting
// is (0, nil, nil). The HeaderLen bytes before start are overwritten. A packet
// longer than len(buf)-start arrives cut to that length (drivers/net/tun.c,
// tun_put_user), which its IP length field then tells.
func (q *Queue) Read(buf []byte, start int) (int, *Header, error) {
	for {
		n, err := unix.Read(q.fd, buf[start-HeaderLen:])
		switch err {
		case nil:
			if n <= HeaderLen {
				return 0, nil, fmt.Errorf("read from tun: %d bytes, less than a virtio-net header", n)
			}
			q.hdr.unmarshal(buf[start-HeaderLen : start])
			return n - HeaderLen, &q.hdr, nil
		case unix.EAGAIN:
			return 0, nil, nil
		case unix.EINTR:
		case unix.EBADFD:
			return 0, nil, ErrGone
		default:
			return 0, nil, fmt.Errorf("read from tun: %w", err)
		}
	}
}

// Write gives the packet buf[start:start+n] to the kernel as if it had come in
// on the interface. The HeaderLen bytes before start are overwritten with h.
func (q *Queue) Write(buf []byte, start, n int, h *Header) error {
	h.marshal(buf[start-HeaderLen : start])
	for {
		_, err := unix.Write(q.fd, buf[start-HeaderLen:start+n])
		switch err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EBADFD:
			return ErrGone
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EIO:
			return ErrFull
		default:
			return fmt.Errorf("write to tun: %w", err)
		}
	}
}
