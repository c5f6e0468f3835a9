package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one network namespace.
type Host struct {
	lab  *Lab
	name string
	file string // in netnsDir
	mine bool   // the name in netnsDir was made by us

	// mu is held for reading while ns or nl is in use. Both are gone after
	// close, and a closed netlink handle would silently act on the caller's own
	// namespace.
	mu       sync.RWMutex
	ns       netns.NsHandle
	nl       *netlink.Handle
	resolver netip.Addr // also guarded by mu

	mounts bool // the thread below has a mount namespace of its own; it alone uses this

	jobs  chan func() // run on the thread that lives in the namespace
	ended chan struct{}
	once  sync.Once
	stop  chan struct{}
}

// newHost makes the namespace on a new thread, which then stays in it.
func newHost(l *Lab, name, file string) (*Host, error) {
	h := &Host{lab: l, name: name, file: file, ns: netns.None(),
		jobs: make(chan func()), ended: make(chan struct{}), stop: make(chan struct{})}
	made := make(chan error, 1)
	go func() {
		defer close(h.ended)
		_ = onThread(func() error {
			err := h.unshare()
			made <- err
			if err != nil {
				return err
			}
			for {
				select {
				case job := <-h.jobs:
					job()
				case <-h.stop:
					return nil
				}
			}
		})
	}()
	if err := <-made; err != nil {
		_ = h.close()
		return nil, err
	}
	if err := h.prepare(); err != nil {
		_ = h.close()
		return nil, err
	}
	return h, nil
}

// unshare moves the current thread into a new namespace and gives it its name.
func (h *Host) unshare() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(netnsDir, h.file)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	h.mine = true
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "bind", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the namespace on %s: %w", path, err)
	}
	h.ns, err = netns.Get()
	return err
}

// prepare brings lo up and makes addresses usable at once.
func (h *Host) prepare() error {
	nl, err := netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	h.nl = nl
	if err := h.Up("lo"); err != nil {
		return err
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return errors.New("the kernel has no IPv6: boot without ipv6.disable=1, or enable CONFIG_IPV6")
	}
	for _, s := range [][2]string{
		{"net.ipv6.conf.all.disable_ipv6", "0"}, {"net.ipv6.conf.default.disable_ipv6", "0"},
		// Duplicate address detection would keep an address unusable for a second.
		{"net.ipv6.conf.all.accept_dad", "0"}, {"net.ipv6.conf.default.accept_dad", "0"},
		{"net.ipv6.conf.default.accept_ra", "0"},
		// A new namespace takes these from the machine's own configuration.
		{"net.ipv4.conf.all.rp_filter", "0"}, {"net.ipv4.conf.default.rp_filter", "0"},
		{"net.ipv4.ip_forward", "0"},
	} {
		if err := h.Sysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// close ends the host's thread and takes the namespace's name away.
func (h *Host) close() error {
	h.once.Do(func() { close(h.stop) })
	<-h.ended
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nl != nil {
		h.nl.Close()
		h.nl = nil
	}
	if h.ns.IsOpen() {
		_ = h.ns.Close()
	}
	if !h.mine {
		return nil
	}
	return removeNamed(h.file)
}

// netlink runs fn with the host's own handle.
func (h *Host) netlink(fn func(*netlink.Handle) error) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.nl == nil {
		return fmt.Errorf("lab %s is closed", h.lab.id)
	}
	return fn(h.nl)
}

// Name is the name given to [Lab.Host].
func (h *Host) Name() string { return h.name }

// NetNS is the namespace's name as `ip netns` shows it.
func (h *Host) NetNS() string { return h.file }

// NS is the namespace; it stays the host's and is closed with the lab.
func (h *Host) NS() netns.NsHandle { return h.ns }

// Netlink returns a new netlink handle (NETLINK_ROUTE) in the namespace; the
// caller closes it.
func (h *Host) Netlink() (*netlink.Handle, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if !h.ns.IsOpen() {
		return nil, fmt.Errorf("lab %s is closed", h.lab.id)
	}
	return netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE)
}

// Do runs fn on the calling goroutine with its thread in the namespace.
// Sockets and files under /proc/sys/net that fn opens are the namespace's, and
// sockets stay so after it returns. Goroutines started by fn run elsewhere.
// Calls may be nested.
func (h *Host) Do(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	origin, err := netns.Get()
	if err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer origin.Close()
	if err := h.enter(); err != nil {
		return err
	}
	defer func() {
		if err := netns.Set(origin); err != nil {
			// Going on would run other goroutines' work in the wrong network.
			panic(fmt.Sprintf("lab: leave the namespace of %s: %v", h.name, err))
		}
	}()
	return fn()
}

func (h *Host) enter() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if !h.ns.IsOpen() {
		return fmt.Errorf("lab %s is closed", h.lab.id)
	}
	if err := netns.Set(h.ns); err != nil {
		return fmt.Errorf("enter the namespace of %s: %w", h.name, err)
	}
	return nil
}

// Dial connects from the namespace. The address is a literal one, or a name if
// the host has a resolver (see [Host.UseResolver]). It fits
// http.Transport.DialContext.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	list, err := h.addresses(ctx, network, address)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		err = h.Do(func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, a)
			return err
		})
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return c, err
}

// Listen opens a stream listener in the namespace.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	err = h.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a datagram or raw socket in the namespace.
func (h *Host) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = h.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Start starts the command in the namespace. It is killed when the lab is
// closed and when this process dies; waiting for it is the caller's. The
// command's /sys still shows the caller's network.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := h.onOwnThread(cmd.Start); err != nil {
		return err
	}
	return h.lab.started(cmd)
}

// onOwnThread runs fn on the host's own thread.
func (h *Host) onOwnThread(fn func() error) error {
	result := make(chan error, 1)
	select {
	case h.jobs <- func() { result <- fn() }:
		return <-result
	case <-h.stop:
		return fmt.Errorf("lab %s is closed", h.lab.id)
	}
}

// Sysctl sets a value in the namespace, as in Sysctl("net.ipv4.ip_forward",
// "1"). An interface whose name has dots in it needs slashes as separators.
func (h *Host) Sysctl(key, value string) error {
	path := key
	if !strings.Contains(key, "/") {
		path = strings.ReplaceAll(key, ".", "/")
	}
	err := h.Do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0o644)
	})
	if err != nil {
		return fmt.Errorf("set %s = %s in %s: %w", key, value, h.name, err)
	}
	return nil
}

// onThread runs fn on a thread of its own, which ends with it unless it is the
// process's first; that one is brought back to the namespace it came from.
func onThread(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		origin, err := netns.Get()
		if err != nil {
			result <- err
			return
		}
		err = fn()
		_ = netns.Set(origin)
		_ = origin.Close()
		result <- err
	}()
	return <-result
}
