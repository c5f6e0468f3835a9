package fastpath

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/xsk/tun"
)

// bed is a host that forwards between three TUN devices, all of them ours:
//
//	in0 ──▶ routing ──▶ isthmus0 (program) ──▶ routing ──▶ out0
//	                        └── falls through: read here
type bed struct {
	host         *lab.Host
	in, dev, out *tun.Device
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{host: labtest.Host(t, labtest.New(t, "fastpath"), "host")}
	var errs []error
	for _, s := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		errs = append(errs, b.host.Sysctl(s, "1"))
	}
	for _, s := range []string{"net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"} {
		errs = append(errs, b.host.Sysctl(s, "0"))
	}
	for _, d := range []struct {
		dev  **tun.Device
		name string
	}{{&b.in, "in0"}, {&b.dev, "isthmus0"}, {&b.out, "out0"}} {
		err := b.host.Do(func() (err error) {
			*d.dev, err = tun.Open(tun.Config{Name: d.name, Queues: 1, Offload: true, MTU: 1500})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*d.dev).Close() })
	}
	errs = append(errs, b.host.Route("64:ff9b::/96", "", "isthmus0"), b.host.Route("192.0.2.0/24", "", "isthmus0"),
		b.host.Route("default4", "", "out0"), b.host.Route("2001:db8:a::/48", "", "out0"))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) attach(t *testing.T, p *Program, filter bool) {
	t.Helper()
	if err := b.host.Do(func() error { return p.attach(b.dev.Ifindex(), filter) }); err != nil {
		t.Fatal(err)
	}
}

const start = 64

func write(t *testing.T, d *tun.Device, p []byte, h tun.Header) {
	t.Helper()
	buf := append(make([]byte, start, start+len(p)), p...)
	if err := d.Queue(0).Write(buf, start, len(p), &h); err != nil {
		t.Fatal(err)
	}
}

// arrive waits for the packet that ends as p does, and tells whether it came out
// at out0, or fell through.
func (b *bed) arrive(t *testing.T, p []byte) (out []byte, fell bool) {
	t.Helper()
	buf := make([]byte, 70000)
	fds := []unix.PollFd{{Fd: int32(b.out.Queue(0).FD()), Events: unix.POLLIN}, {Fd: int32(b.dev.Queue(0).FD()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 5000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("nothing came out: %v", err)
		}
		q := b.out.Queue(0)
		if fell = fds[1].Revents != 0; fell {
			q = b.dev.Queue(0)
		}
		if n, _, err = q.Read(buf, start); err != nil {
			t.Fatal(err)
		}
		// The kernel has messages of its own about new interfaces.
		if out = buf[start : start+n]; bytes.HasSuffix(out, p[len(p)-4:]) {
			return out, fell
		}
	}
}

func TestAttach(t *testing.T) {
	for _, mode := range []Mode{TCX, Filter} {
		t.Run(mode.String(), func(t *testing.T) {
			b := newBed(t)
			p := load(t, 0, usual())
			there, back := v6(vmA6, server6, 17, udp(20)), v4(server4, vmA4, 17, udp(20))
			write(t, b.in, there, tun.Header{})
			if _, fell := b.arrive(t, there); !fell {
				t.Fatal("forwarded before the program was attached")
			}
			b.attach(t, p, mode == Filter)
			if p.Mode() != mode {
				t.Fatalf("attached as %v", p.Mode())
			}
			for _, packet := range [][]byte{there, back} {
				write(t, b.in, packet, tun.Header{})
				if out, fell := b.arrive(t, packet); fell || out[0]>>4 == packet[0]>>4 {
					t.Fatalf("fell through: %v, %x", fell, out)
				}
			}
			unknown := v6("2001:db8:a::9", server6, 17, udp(20))
			write(t, b.in, unknown, tun.Header{})
			if out, fell := b.arrive(t, unknown); !fell || !bytes.Equal(out[8:], unknown[8:]) {
				t.Fatalf("not as it came: %x", out)
			}
			// Once each: what came out of the device didn't go in again.
			want := Counters{AtDevice: {Packets: [2]uint64{1, 1}, Bytes: [2]uint64{68, 48}}}
			want[AtDevice].Fell[NoMapping] = 1
			if got, err := p.Counters(); err != nil || got != want {
				t.Errorf("counters %+v, %v, want %+v", got, err, want)
			}
			if err := b.host.Do(func() error { return p.Attach(b.dev.Ifindex()) }); err == nil {
				t.Error("attached twice")
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			write(t, b.in, there, tun.Header{})
			if _, fell := b.arrive(t, there); !fell {
				t.Error("forwarded after Close")
			}
		})
	}
}

func TestDeviceGone(t *testing.T) {
	for _, mode := range []Mode{TCX, Filter} {
		t.Run(mode.String(), func(t *testing.T) {
			b := newBed(t)
			p := load(t, 0, usual())
			if err := b.host.Do(func() error { return p.attach(9999, mode == Filter) }); !errors.Is(err, ErrDeviceGone) {
				t.Errorf("%v, want ErrDeviceGone", err)
			}
			b.attach(t, p, mode == Filter)
			b.dev.Close()
			if err := p.Close(); err != nil {
				t.Errorf("Close after the device has gone: %v", err)
			}
		})
	}
}

// TestFilterBesideAnother: somebody else's program is neither replaced nor skipped.
func TestFilterBesideAnother(t *testing.T) {
	b := newBed(t)
	first, second := load(t, 0, usual()), load(t, 0, usual())
	b.attach(t, first, true)
	if err := b.host.Do(func() error { return second.attach(b.dev.Ifindex(), true) }); err == nil {
		t.Error("the filter of another program was replaced")
	}
}

// TestUpdateUnderTraffic swaps tables while packets pass. Each must come out by
// the one or the other, or fall through; none by half of each.
func TestUpdateUnderTraffic(t *testing.T) {
	b := newBed(t)
	one, two := usual(), usual()
	one.TOS, two.TOS = TOS{true, 0x10}, TOS{true, 0x20}
	two.EAM = []EAM{eam(vmA6+"/128", vmB4+"/32")}
	p := load(t, 0, one)
	b.attach(t, p, false)
	stop, ended := make(chan bool), make(chan error)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			tables := one
			if i%2 == 0 {
				tables = two
			}
			if err := p.Update(tables); err != nil {
				ended <- err
				return
			}
		}
	}()
	packet := v6(vmA6, server6, 17, udp(20))
	seen := map[string]int{}
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		write(t, b.in, packet, tun.Header{})
		out, fell := b.arrive(t, packet)
		if fell {
			seen["fell through"]++
			continue
		}
		seen[fmt.Sprintf("%#x %v", out[1], netip.AddrFrom4([4]byte(out[12:16])))]++
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	t.Logf("%v", seen)
	for k := range seen {
		switch k {
		case "fell through", "0x10 " + vmA4, "0x20 " + vmB4:
		default:
			t.Errorf("%d packets came out as %s", seen[k], k)
		}
	}
}

// TestChecksumOfATunnelsInside: the partial checksum is not that of the header
// that is translated, which only the kernel's own buffer tells.
func TestChecksumOfATunnelsInside(t *testing.T) {
	b := newBed(t)
	p := load(t, 0, usual())
	b.attach(t, p, false)
	packet := v6(vmA6, server6, 17, udp(200))
	write(t, b.in, packet, tun.Header{Flags: tun.FlagNeedsChecksum, ChecksumStart: 40 + 8 + 40, ChecksumOffset: 16})
	if _, fell := b.arrive(t, packet); !fell {
		t.Error("forwarded")
	}
	if c, err := p.Counters(); err != nil || c[AtDevice].Fell[Checksum] != 1 {
		t.Errorf("counters %+v, %v", c, err)
	}
}

// TestMasquerade: what the program sends back is tracked anew, as IPv4, so that
// NAT44 behind it works and its answers find the way back.
func TestMasquerade(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("nft is not installed")
	}
	b := newBed(t)
	const public = "203.0.113.1"
	// Tracking IPv6, too, gives the packet an entry to lose.
	cmd := exec.Command(nft, `add table inet t; add chain inet t post { type nat hook postrouting priority 100; };
		add rule inet t post oifname out0 ip saddr 192.0.2.0/24 masquerade;
		add chain inet t through { type filter hook forward priority 0; };
		add rule inet t through ct state invalid drop; add rule inet t through meta nfproto ipv6 ct state new,established accept;
		add rule inet t through ct state new iifname isthmus0 accept; add rule inet t through ct state established accept; add rule inet t through drop`)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := errors.Join(b.host.Addr("out0", public+"/32"), b.host.Start(cmd)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("nft: %v: %s", err, out.String())
	}
	p := load(t, 0, usual())
	b.attach(t, p, false)
	// Partial checksums, which connection tracking takes for right.
	there := v6(vmA6, server6, 17, udp(20))
	write(t, b.in, there, tun.Header{Flags: tun.FlagNeedsChecksum, ChecksumStart: 40, ChecksumOffset: 6})
	got, fell := b.arrive(t, there)
	if fell || !bytes.Equal(got[12:16], netip.MustParseAddr(public).AsSlice()) {
		t.Fatalf("fell through: %v; %x", fell, got)
	}
	back := v4(server4, public, 17, append([]byte{0, 53, got[20], got[21]}, udp(20)[4:]...))
	write(t, b.out, back, tun.Header{Flags: tun.FlagNeedsChecksum, ChecksumStart: 20, ChecksumOffset: 6})
	if got, fell = b.arrive(t, back); fell || got[0]>>4 != 6 || !bytes.Equal(got[24:40], netip.MustParseAddr(vmA6).AsSlice()) {
		t.Fatalf("fell through: %v; %x", fell, got)
	}
}
