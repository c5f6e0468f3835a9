package xsk

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// kernelSees opens a packet socket on host's end: it gets what XDP passed on.
func kernelSees(t *testing.T, w *wire) *wire {
	t.Helper()
	k := *w
	if err := w.host.Do(func() (err error) {
		if k.raw, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		unix.SetsockoptInt(k.raw, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		return unix.Bind(k.raw, &unix.SockaddrLinklayer{Ifindex: w.ifindex, Protocol: 0x0300})
	}); err != nil {
		t.Fatal(err)
	}
	k.timeout(100 * time.Millisecond)
	t.Cleanup(func() { unix.Close(k.raw) })
	return &k
}

func (w *wire) timeout(d time.Duration) {
	tv := unix.NsecToTimeval(int64(d))
	unix.SetsockoptTimeval(w.raw, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
}

// attachedProgram reports whether the interface has one, as `ip link` does.
func attachedProgram(t *testing.T, w *wire) bool {
	t.Helper()
	nl, err := w.host.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	link, err := nl.LinkByName(w.ifname)
	if err != nil {
		t.Fatal(err)
	}
	x := link.Attrs().Xdp
	return x != nil && x.Attached
}

// TestSteerLive: on a real interface, in both modes: who gets the frame?
func TestSteerLive(t *testing.T) {
	for _, mode := range []struct {
		attach Attach
		want   AttachMode
	}{{AttachDriver, Driver}, {AttachGeneric, Generic}} {
		t.Run(mode.want.String(), func(t *testing.T) {
			l, host := newLab(t)
			w := newWire(t, l, host, "eth0", lab.LinkConfig{})
			u := newUMEM(t, 2048)
			s := w.open(u, SocketConfig{})
			tables := w.tables()
			p := w.program(tables, mode.attach)
			if p.Mode() != mode.want || p.Refused() != nil {
				t.Fatalf("mode %v (%v), want %v", p.Mode(), p.Refused(), mode.want)
			}
			if err := p.Register(0, s); err != nil {
				t.Fatal(err)
			}
			k := kernelSees(t, w)
			for _, c := range steerCases() {
				if c.want == malformed || strings.Contains(c.name, "second_pool6") || strings.Contains(c.name, "host_route") || len(c.frame) > 1514 {
					continue // packet sockets pad no frames; the tables here are smaller
				}
				t.Run(c.name, func(t *testing.T) {
					f := append([]byte(nil), c.frame...)
					if f[0]&1 == 0 && c.want != otherHost {
						copy(f, w.myMAC)
					}
					f = append(f, make([]byte, max(0, 60-len(f)))...)
					// The veth's own MAC isn't known to the table of cases, so
					// the kernel's packet socket tells the case apart by type
					// and length only; drain it first.
					buf := make([]byte, 4096)
					k.timeout(time.Millisecond)
					for k.receive(buf) != nil {
					}
					w.send(f)
					mine := 0
					var d [1]Desc
					k.timeout(time.Second)
					if c.want == redirected {
						eventually(t, "the frame at the socket", func() bool { mine += s.Recv(d[:]); return mine > 0 })
						if o := u.Offset(d[0].Addr); o != RxHeadroom {
							t.Errorf("the frame is at offset %d, want %d", o, RxHeadroom)
						}
						if got := u.Frame(d[0]); string(got) != string(f) {
							t.Errorf("received % x, want % x", got, f)
						}
						u.Free(d[0].Addr)
						s.Service()
						k.timeout(time.Millisecond)
						if g := k.receive(buf); g != nil && len(g) == len(f) {
							t.Errorf("the kernel got % x too", g)
						}
						return
					}
					for {
						g := k.receive(buf)
						if g == nil {
							t.Fatal("the kernel didn't get it")
						}
						if string(g[:6]) == string(f[:6]) && string(g[6:12]) == string(f[6:12]) {
							break
						}
					}
					if s.Recv(d[:]) != 0 {
						t.Error("the socket got it too")
					}
				})
			}
			audited(t, u)
		})
	}
}

// TestUnregister: without a socket on the queue, and after Close, the kernel
// gets the frames.
func TestUnregister(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	u := newUMEM(t, 2048)
	s := w.open(u, SocketConfig{})
	p := w.program(w.tables(), AttachAuto)
	k := kernelSees(t, w)
	buf := make([]byte, 4096)
	var d [1]Desc
	kernelGets := func(when string) {
		t.Helper()
		k.timeout(time.Second)
		w.send(w.frame6(70, 0, 5))
		if f := k.receiveUDP(buf); f == nil || seqOf(f) != 5 {
			t.Fatalf("%s: the kernel didn't get the frame", when)
		}
	}
	kernelGets("before Register")
	if err := p.Register(0, s); err != nil {
		t.Fatal(err)
	}
	w.send(w.frame6(70, 0, 6))
	eventually(t, "the frame at the socket", func() bool { return s.Recv(d[:]) == 1 })
	u.Free(d[0].Addr)
	if err := errors.Join(p.Unregister(0), p.Unregister(0)); err != nil {
		t.Fatalf("unregister, twice: %v", err)
	}
	kernelGets("after Unregister")
	c, err := p.Counters()
	if err != nil || c.NoSocket != 2 || c.Redirected != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := p.Register(0, s); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kernelGets("after the socket was closed") // the kernel takes it out of the map
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if attachedProgram(t, w) {
		t.Error("a program is attached after Close")
	}
	kernelGets("after the program was closed")
}

// TestKilled: a process that is killed leaves no program and no busy queue, and
// the kernel gets the frames.
func TestKilled(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	k := kernelSees(t, w)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "XSK_TEST_CHILD=eth0")
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(child); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("child: %q, %v", line, err)
	}
	buf := make([]byte, 4096)
	w.send(w.frame6(70, 0, 1))
	if f := k.receiveUDP(buf); f != nil {
		t.Fatal("the child has the frames, yet the kernel got one")
	}
	if !attachedProgram(t, w) {
		t.Fatal("the child's program isn't attached")
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	eventually(t, "the program to go", func() bool { return !attachedProgram(t, w) })
	k.timeout(time.Second)
	w.send(w.frame6(70, 0, 2))
	if f := k.receiveUDP(buf); f == nil || seqOf(f) != 2 {
		t.Fatal("the process is dead, yet the kernel didn't get the frame")
	}
	w.open(newUMEM(t, 2048), SocketConfig{})
	w.program(w.tables(), AttachDriver)
}

// TestProgramPresent: a program of somebody else stays where it is.
func TestProgramPresent(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	tables := w.tables()
	w.program(tables, AttachDriver)
	for _, a := range []Attach{AttachAuto, AttachDriver, AttachGeneric} {
		err := host.Do(func() error {
			_, err := AttachProgram(tables, ProgramConfig{Ifindex: w.ifindex, Attach: a})
			return err
		})
		if !errors.Is(err, ErrProgramPresent) || !strings.Contains(err.Error(), "ip link") || !strings.Contains(err.Error(), "eth0") {
			t.Errorf("attach %d over another program: %v", a, err)
		}
	}
}

// TestAttachFallback: lo has no XDP in its driver.
func TestAttachFallback(t *testing.T) {
	_, host := newLab(t)
	lo, err := host.Ifindex("lo")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := NewTables()
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	attach := func(a Attach) (p *Program, err error) {
		err = host.Do(func() error {
			p, err = AttachProgram(tables, ProgramConfig{Ifindex: lo, Attach: a})
			return err
		})
		return p, err
	}
	p, err := attach(AttachAuto)
	if err != nil {
		t.Fatal(err)
	}
	if p.Mode() != Generic || p.Refused() == nil {
		t.Errorf("mode %v, refused %v", p.Mode(), p.Refused())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := attach(AttachDriver); err == nil || !strings.Contains(err.Error(), `attach = "auto"`) {
		t.Errorf("driver mode on lo: %v", err)
	}
	lo = 4711
	if _, err := attach(AttachAuto); !errors.Is(err, ErrDeviceGone) {
		t.Errorf("no such interface: %v", err)
	}
}

func TestRegisterWrongSocket(t *testing.T) {
	l, host := newLab(t)
	a := newWire(t, l, host, "eth0", lab.LinkConfig{})
	b := newWire(t, l, host, "eth1", lab.LinkConfig{Queues: 2})
	p := a.program(a.tables(), AttachAuto)
	s := b.open(newUMEM(t, 2048), SocketConfig{})
	if err := p.Register(0, s); err == nil || !strings.Contains(err.Error(), "queue 0 of eth1") {
		t.Errorf("a socket of another interface: %v", err)
	}
	pb := b.program(b.tables(), AttachAuto)
	if err := pb.Register(1, s); err == nil {
		t.Error("a socket of another queue was registered")
	}
	s.mode, pb.mode = ZeroCopyMode, Generic
	if err := pb.Register(0, s); err == nil || !strings.Contains(err.Error(), "ZeroCopyOff") {
		t.Errorf("zero-copy under a generic program: %v", err)
	}
	s.mode = Copy
}

// TestNoCapability: what a process without capabilities is told. The child
// drops them and tries.
func TestNoCapability(t *testing.T) {
	for _, c := range []struct{ name, child, want string }{
		{"socket", "-socket", "CAP_NET_RAW"},
		{"program", "-program", "CAP_BPF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, host := newLab(t)
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), "XSK_TEST_CHILD="+c.child)
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(child); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(out).ReadString('\n')
			child.Process.Kill()
			child.Wait()
			if !strings.Contains(line, c.want) || !strings.Contains(line, ErrPermission.Error()) {
				t.Errorf("told %q, want %q", line, c.want)
			}
		})
	}
}
