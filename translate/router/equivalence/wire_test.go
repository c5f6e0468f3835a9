package equivalence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/xsk/tun"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// wire is a ground with the program at both interfaces. What the other ends of its
// links send and get is seen whole, with the virtio-net header that says what of it
// is left to hardware.
type wire struct {
	*pair
	taps [2]*tap // of IPv6, of IPv4
	buf  []byte
}

func newWire(t *testing.T) *wire {
	t.Helper()
	pr := newPair(t, translate.Config{Pool6: prefixes("64:ff9b::/96"), EAM: hosts}, outMTU, outMTU)
	pr.ground = newGround(t, labtest.New(t, "equivalence"), pr)
	w := &wire{pair: pr, buf: make([]byte, 70000)}
	for i := range pr.ground.ports {
		in := &pr.ground.ports[i]
		if err := pr.ground.Do(func() error { return pr.prog.AttachInterface(in.index) }); err != nil {
			t.Fatal(err)
		}
		w.taps[i] = openTap(t, pr.ground.outside, in)
		neighbours := far4virtual
		if i == 0 {
			neighbours = nil
			for _, e := range hosts {
				neighbours = append(neighbours, e.IPv6.Addr().String())
			}
		}
		for _, a := range neighbours {
			if err := pr.ground.Neighbour(in.name, a, w.taps[i].mac.String()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

// fallen is how many packets of ours the program has left alone; the kernel's own
// are neither translated nor for one station.
func (w *wire) fallen() (n uint64, err error) {
	c, err := w.prog.Counters()
	for r, k := range c[fastpath.AtInterface].Fell {
		if r := fastpath.Reason(r); r != fastpath.Foreign && r != fastpath.LinkLayer {
			n += k
		}
	}
	return n, err
}

// pass is of type pass. What falls through may still come out, by the device.
func (w *wire) pass(p []byte, h *tun.Header) (out []byte, hdr tun.Header, fell bool, err error) {
	before, err := w.fallen()
	if err != nil {
		return nil, hdr, false, err
	}
	d := direction(p)
	if err := w.taps[d].send(p, h); err != nil {
		return nil, hdr, false, err
	}
	from := w.taps[1-d]
	for range 5000 {
		fds := []unix.PollFd{{Fd: int32(from.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 1); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, hdr, false, err
		}
		for {
			out, hdr, err := from.recv(w.buf)
			if out == nil || err != nil {
				if err != nil {
					return nil, hdr, false, err
				}
				break
			}
			if n := len(out); n <= len(p)+20 && n+20 >= len(p) && bytes.Equal(out[n-4:], p[len(p)-4:]) {
				return bytes.Clone(out), hdr, false, nil
			}
		}
		if now, err := w.fallen(); now != before || err != nil {
			return nil, hdr, err == nil, err
		}
	}
	return nil, hdr, false, errors.New("nothing came out")
}

// tap is a packet socket at the far end of a port.
type tap struct {
	fd      int
	index   int
	mac, to net.HardwareAddr
}

const (
	etherLen = 14
	etherAll = 0x0300 // ETH_P_ALL, in network order
)

func openTap(t *testing.T, h *lab.Host, p *port) *tap {
	t.Helper()
	s := &tap{to: p.mac}
	var err error
	if s.mac, err = h.MAC(p.name); err != nil {
		t.Fatal(err)
	}
	if s.index, err = h.Ifindex(p.name); err != nil {
		t.Fatal(err)
	}
	err = h.Do(func() (err error) {
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(s.fd) })
		return errors.Join(
			unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: etherAll, Ifindex: s.index}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *tap) send(p []byte, h *tun.Header) error {
	head := *h
	head.ChecksumStart += etherLen
	if head.HeaderLen > 0 {
		head.HeaderLen += etherLen
	}
	b, err := binary.Append(nil, binary.LittleEndian, head)
	if err != nil {
		return err
	}
	b = append(append(append(b, s.to...), s.mac...), 0x08, 0x00)
	if p[0]>>4 == 6 {
		b[len(b)-2], b[len(b)-1] = 0x86, 0xdd
	}
	if _, err := unix.Write(s.fd, append(b, p...)); err != nil {
		return fmt.Errorf("send a frame with %d bytes: %w", len(p), err)
	}
	return nil
}

// recv gives a packet that is there, or none. It is valid until buf is used again.
func (s *tap) recv(buf []byte) (p []byte, h tun.Header, err error) {
	n, err := unix.Read(s.fd, buf)
	if errors.Is(err, unix.EAGAIN) {
		return nil, h, nil
	}
	if err != nil {
		return nil, h, fmt.Errorf("receive a frame: %w", err)
	}
	if n <= tun.HeaderLen+etherLen {
		return nil, h, fmt.Errorf("a frame of %d bytes", n-tun.HeaderLen)
	}
	if _, err := binary.Decode(buf, binary.LittleEndian, &h); err != nil {
		return nil, h, err
	}
	h.ChecksumStart -= etherLen
	return buf[tun.HeaderLen+etherLen : n], h, nil
}
