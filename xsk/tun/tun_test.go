package tun_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/xsk/tun"
)

const (
	hostAddr = "192.0.2.1"
	peerAddr = "192.0.2.9"
)

// open makes a device in a namespace of its own and routes peerAddr to it.
func open(t *testing.T, c tun.Config) (*lab.Host, *tun.Device) {
	t.Helper()
	h := labtest.Host(t, labtest.New(t, "tun"), "host")
	var d *tun.Device
	if err := h.Do(func() (err error) { d, err = tun.Open(c); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := errors.Join(h.Addr(c.Name, hostAddr+"/32"), h.Route(peerAddr+"/32", "", c.Name)); err != nil {
		t.Fatal(err)
	}
	return h, d
}

// read waits for one packet on any queue.
func read(t *testing.T, d *tun.Device, buf []byte, start int) (queue, n int, h *tun.Header) {
	t.Helper()
	fds := make([]unix.PollFd, d.Queues())
	for i := range fds {
		fds[i] = unix.PollFd{Fd: int32(d.Queue(i).FD()), Events: unix.POLLIN}
	}
	if ready, err := unix.Poll(fds, 5000); err != nil || ready == 0 {
		t.Fatalf("no packet within 5 s: %v", err)
	}
	for i := range fds {
		if fds[i].Revents&unix.POLLIN != 0 {
			n, h, err := d.Queue(i).Read(buf, start)
			if err != nil {
				t.Fatal(err)
			}
			return i, n, h
		}
	}
	t.Fatal("poll returned without a readable queue")
	return 0, 0, nil
}

// swap turns an IPv4 UDP packet round. Sums don't change by it.
func swap(p []byte) {
	for i := range 4 {
		p[12+i], p[16+i] = p[16+i], p[12+i]
	}
	for i := range 2 {
		p[20+i], p[22+i] = p[22+i], p[20+i]
	}
}

func TestPacketsPassBothWays(t *testing.T) {
	h, d := open(t, tun.Config{Name: "isthmus0", Queues: 1})
	c, err := h.Dial(t.Context(), "udp4", peerAddr+":7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{0, 1, 64, 1472, 9000, 65000} {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		const start = 128
		buf := bytes.Repeat([]byte{0xaa}, 70000)
		_, n, hdr := read(t, d, buf, start)
		if n != 28+size {
			t.Fatalf("%d bytes of payload: read %d bytes, want %d", size, n, 28+size)
		}
		if hdr.Flags != 0 || hdr.SegmentType != tun.SegmentNone {
			t.Errorf("header of a plain packet: %+v", *hdr)
		}
		if !bytes.Equal(buf[:start-tun.HeaderLen], bytes.Repeat([]byte{0xaa}, start-tun.HeaderLen)) {
			t.Error("Read wrote in front of its header")
		}
		swap(buf[start:])
		if err := d.Queue(0).Write(buf, start, n, &tun.Header{}); err != nil {
			t.Fatal(err)
		}
		back := make([]byte, 70000)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err = c.Read(back); err != nil || !bytes.Equal(back[:n], sent) {
			t.Fatalf("%d bytes of payload: got %d back, %v", size, n, err)
		}
	}
}

func TestReadOfEmptyQueue(t *testing.T) {
	_, d := open(t, tun.Config{Name: "isthmus0", Queues: 1})
	if n, _, err := d.Queue(0).Read(make([]byte, 100), 20); n != 0 || err != nil {
		t.Errorf("got %d, %v, want 0 and no error", n, err)
	}
}

func TestFlowsSpreadOverQueues(t *testing.T) {
	h, d := open(t, tun.Config{Name: "isthmus0", Queues: 4})
	seen := map[int]bool{}
	for range 200 {
		c, err := h.Dial(t.Context(), "udp4", peerAddr+":7")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		q, _, _ := read(t, d, make([]byte, 2000), 128)
		seen[q] = true
		c.Close()
	}
	if len(seen) != 4 {
		t.Errorf("200 flows came by queues %v, want all four", seen)
	}
}

func TestDeviceGoesWithClose(t *testing.T) {
	h, d := open(t, tun.Config{Name: "isthmus0", Queues: 2, MTU: 1400})
	if d.MTU() != 1400 || d.Name() != "isthmus0" || d.Queues() != 2 {
		t.Errorf("device is %s, MTU %d, %d queues", d.Name(), d.MTU(), d.Queues())
	}
	if i, err := h.Ifindex("isthmus0"); err != nil || i != d.Ifindex() {
		t.Fatalf("ifindex %d, %v, want %d", i, err, d.Ifindex())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Ifindex("isthmus0"); err == nil {
		t.Error("the interface is still there")
	}
}

func TestOpenErrors(t *testing.T) {
	h, _ := open(t, tun.Config{Name: "isthmus0", Queues: 2})
	for _, c := range []struct {
		name   string
		config tun.Config
		is     error
	}{
		{"held by another", tun.Config{Name: "isthmus0", Queues: 1}, tun.ErrExists},
		{"another kind of device", tun.Config{Name: "lo", Queues: 1}, tun.ErrExists},
		{"no queues", tun.Config{Name: "t0"}, nil},
		{"too many queues", tun.Config{Name: "t0", Queues: tun.MaxQueues + 1}, nil},
		{"no name", tun.Config{Queues: 1}, nil},
		{"long name", tun.Config{Name: "sixteen-bytes-xx", Queues: 1}, nil},
		{"MTU too small", tun.Config{Name: "t0", Queues: 1, MTU: 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := h.Do(func() error {
				d, err := tun.Open(c.config)
				if err == nil {
					d.Close()
				}
				return err
			})
			if err == nil || (c.is != nil && !errors.Is(err, c.is)) {
				t.Errorf("got %v", err)
			}
			if c.config.Name == "t0" {
				if _, err := h.Ifindex("t0"); err == nil {
					t.Error("a failed Open left the interface behind")
				}
			}
		})
	}
}

func TestDeletedDevice(t *testing.T) {
	h, d := open(t, tun.Config{Name: "isthmus0", Queues: 1})
	nl, err := h.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	l, err := nl.LinkByName("isthmus0")
	if err != nil {
		t.Fatal(err)
	}
	if err := nl.LinkDel(l); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	if _, _, err := d.Queue(0).Read(buf, 20); !errors.Is(err, tun.ErrGone) {
		t.Errorf("Read: %v, want ErrGone", err)
	}
	if err := d.Queue(0).Write(buf, 20, 28, &tun.Header{}); !errors.Is(err, tun.ErrGone) {
		t.Errorf("Write: %v, want ErrGone", err)
	}
}

func TestDownDeviceIsFull(t *testing.T) {
	h, d := open(t, tun.Config{Name: "isthmus0", Queues: 1})
	if err := h.Down("isthmus0"); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	p[20] = 0x45
	if err := d.Queue(0).Write(p, 20, 28, &tun.Header{}); !errors.Is(err, tun.ErrFull) {
		t.Errorf("Write: %v, want ErrFull", err)
	}
}

// TestSegmentsAreMadeByTheKernel gives the kernel one UDP superpacket, which a
// receiver sees as its segments: the header reaches the kernel whole.
func TestSegmentsAreMadeByTheKernel(t *testing.T) {
	h, d := open(t, tun.Config{Name: "isthmus0", Queues: 1})
	if labtest.Before(t, 6, 2) {
		t.Skip("TUN devices take UDP superpackets since Linux 6.2")
	}
	pc, err := h.ListenPacket("udp4", hostAddr+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	const start, payload, segment = 64, 3000, 1000
	buf := make([]byte, start+28+payload)
	p := buf[start:]
	src, dst := netip.MustParseAddr(peerAddr).As4(), netip.MustParseAddr(hostAddr).As4()
	copy(p, []byte{0x45, 0, byte(len(p) >> 8), byte(len(p) & 255), 0, 1, 0x40, 0, 64, syscall.IPPROTO_UDP})
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	sum := ^fold(p[:20])
	p[10], p[11] = byte(sum>>8), byte(sum)
	copy(p[20:], []byte{0, 7, 0, 9, byte((8 + payload) >> 8), byte((8 + payload) & 255)})
	pseudo := append(append(src[:], dst[:]...), 0, syscall.IPPROTO_UDP, p[24], p[25])
	partial := fold(pseudo)
	p[26], p[27] = byte(partial>>8), byte(partial)
	hdr := tun.Header{Flags: tun.FlagNeedsChecksum, SegmentType: tun.SegmentUDPL4, HeaderLen: 28, SegmentSize: segment, ChecksumStart: 20, ChecksumOffset: 6}
	if err := d.Queue(0).Write(buf, start, len(p), &hdr); err != nil {
		t.Fatal(err)
	}
	for i := range payload / segment {
		pc.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, from, err := pc.ReadFrom(make([]byte, 4000))
		if err != nil || n != segment || from.(*net.UDPAddr).Port != 7 {
			t.Fatalf("segment %d: %d bytes from %v, %v", i, n, from, err)
		}
	}
}

func fold(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestNoAllocation(t *testing.T) {
	_, d := open(t, tun.Config{Name: "isthmus0", Queues: 1})
	buf := make([]byte, 200)
	hdr := &tun.Header{}
	buf[64] = 0x45
	if n := testing.AllocsPerRun(100, func() {
		d.Queue(0).Read(buf, 64)
		d.Queue(0).Write(buf, 64, 28, hdr)
	}); n != 0 {
		t.Errorf("%v allocations per read and write", n)
	}
}
