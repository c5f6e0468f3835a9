package jump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// hungUp tells whether a peer is gone, without reading what it has sent.
func hungUp(raw syscall.RawConn) (gone bool) {
	err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		gone = err != nil || info.State != unix.BPF_TCP_ESTABLISHED
	})
	return gone || err != nil
}

// refusedWith compares why a channel was not opened.
func refusedWith(t testing.TB, err error, reason ssh.RejectionReason, text string) {
	t.Helper()
	var open *ssh.OpenChannelError
	if !errors.As(err, &open) {
		t.Errorf("not refused: %v", err)
		return
	}
	if open.Reason != reason || open.Message != text {
		t.Errorf("refused with %v, %q; want %v, %q", open.Reason, open.Message, reason, text)
	}
}

// Port scans, mail relays and forbidden addresses. The VM would take any
// connection, and gets none.
func TestAbuseTargets(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.OptOut = prefixes("2001:db8:64::0b:0/112") })
	w.vmServes(func(int, *net.TCPConn) { t.Error("a connection has come through") })
	w.login(guest()).Close()
	before := usageNow(t)
	refused := 0
	for _, c := range []struct {
		host string
		port uint32
		text string
	}{
		{vmAddr, 25, "only port 22 of VMs is reached"},
		{vmAddr, 80, "only port 22 of VMs is reached"},
		{vmAddr, 22 + 1<<16, "only port 22 of VMs is reached"},
		{gateway, 22, "no address of a VM"},
		{jump6, 22, "no address of a VM"},
		{client6, 22, "no address of a VM"},
		{"::1", 22, "no address of a VM"},
		{"fe80::1", 22, "no address of a VM"},
		{"64:ff9b::c633:6401", 22, "no address of a VM"},
		{"::ffff:127.0.0.1", 22, "VMs have IPv6 addresses only"},
		{jump4, 22, "VMs have IPv6 addresses only"},
		{"169.254.169.254", 80, "VMs have IPv6 addresses only"},
		{vmAddr + "%eth0", 22, "no zone is possible here"},
		{"localhost", 22, "give the VM's IPv6 address, not a name"},
		{"2001:db8:64::b:1", 22, "this VM does not want to be reached through the jump server"},
	} {
		p := w.login(guest())
		_, err := p.jump(c.host, c.port)
		refusedWith(t, err, ssh.Prohibited, c.text)
		if r := w.record(); r.Dialled.IsValid() || !r.End.Refused() || !strings.Contains(r.Target, c.host) {
			t.Errorf("audit: %+v", r)
		}
		refused++
		p.Close()
	}
	p := w.login(guest())
	for _, b := range [][]byte{nil, {0xff, 0xff, 0xff, 0xff}, payload(vmAddr, 22, strings.Repeat("x", 100<<10)), append(payload(vmAddr, 22, "::1"), 0)} {
		_, _, err := p.OpenChannel("direct-tcpip", b)
		refusedWith(t, err, ssh.Prohibited, "malformed request")
		w.ended(RefusedRequest)
	}
	p.Close()
	// Each target that nobody may reach counts a little against the source.
	for i := 0; ; i++ {
		p, err := w.tryLogin(guest())
		if err != nil {
			break
		}
		_, err = p.jump(vmAddr, uint32(1000+i))
		refusedWith(t, err, ssh.Prohibited, "only port 22 of VMs is reached")
		p.Close()
		if refused++; refused > 2*int(tooMuch/penaltyRefused) {
			t.Fatal("a port scan goes on and on")
		}
	}
	w.comesBack(before)
}

// Passwords are tried on VMs with many connections: there are only so many.
func TestAbuseBruteForce(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Limits.DialsPerMinute, c.Limits.TargetsPerMinute = 5, 2
		c.Timeouts.Dial = 200 * time.Millisecond
	})
	w.vmServes(echoes)
	w.login(guest()).Close()
	before := usageNow(t)
	p := w.login(guest())
	for range 5 {
		p.works(t)
		w.ended(Finished)
	}
	other := w.login(guest()) // another connection changes nothing
	for _, p := range []*peer{p, other} {
		_, err := p.jump(vmAddr, 22)
		refusedWith(t, err, ssh.Prohibited, "more than 5 connections to this VM in a minute from your address")
		w.ended(RefusedRate)
	}
	_, err := p.jump(absentVM, 22)
	refusedWith(t, err, ssh.ConnectionFailed, "connect failed")
	w.ended(DialFailed)
	_, err = p.jump("2001:db8:64::3", 22)
	refusedWith(t, err, ssh.Prohibited, "more than 2 VMs in a minute from your address")
	w.ended(RefusedRate)
	p.Close()
	other.Close()
	w.comesBack(before)
}

// While one VM does not answer, others on the same connection do.
func TestAbuseSlowTarget(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Timeouts.Dial = 2 * time.Second })
	w.vmServes(echoes)
	w.login(guest()).Close()
	before := usageNow(t)
	p := w.login(guest())
	slow := make(chan error, 1)
	go func() {
		_, err := p.jump(absentVM, 22)
		slow <- err
	}()
	w.wait("it is being dialled", func() bool { return w.server.Stats().Open == 1 })
	p.works(t)
	select {
	case err := <-slow:
		t.Errorf("the VM that is not there did not take longer: %v", err)
	default:
	}
	refusedWith(t, <-slow, ssh.ConnectionFailed, "connect failed")
	p.Close()
	w.comesBack(before)
}

// Requests and channels of all kinds that this server does not have, until it
// has enough.
func TestAbuseRefusals(t *testing.T) {
	w := newWorld(t, nil)
	w.vmServes(echoes)
	w.login(guest()).Close()
	before := usageNow(t)
	forward := binary.BigEndian.AppendUint32(appendString(nil, []byte("::")), 2222)
	for _, c := range []struct {
		name string
		do   func(t testing.TB, p *peer)
	}{
		{"tcpip-forward", asks("tcpip-forward", forward)},
		{"cancel-tcpip-forward", asks("cancel-tcpip-forward", forward)},
		{"streamlocal-forward@openssh.com", asks("streamlocal-forward@openssh.com", appendString(nil, []byte("/tmp/x")))},
		{"hostkeys-prove-00@openssh.com", asks("hostkeys-prove-00@openssh.com", []byte{0xff, 0xff, 0xff, 0xff})},
		{"long request", asks(strings.Repeat("x", 200<<10), make([]byte, 10))},
		{"direct-streamlocal@openssh.com", opens("direct-streamlocal@openssh.com")},
		{"forwarded-tcpip", opens("forwarded-tcpip")},
		{"tun@openssh.com", opens("tun@openssh.com")},
		{"x11", opens("x11")},
		{"auth-agent@openssh.com", opens("auth-agent@openssh.com")},
		{"long channel type", opens(strings.Repeat("x", 200<<10))},
		{"malformed", func(t testing.TB, p *peer) {
			_, _, err := p.OpenChannel("direct-tcpip", []byte{0xff})
			refusedWith(t, err, ssh.Prohibited, "malformed request")
			w.ended(RefusedRequest)
		}},
		{"sftp, X11, agent", func(t testing.TB, p *peer) {
			c, requests, err := p.OpenChannel("session", nil)
			must(t, err)
			go ssh.DiscardRequests(requests)
			for _, name := range []string{"x11-req", "auth-agent-req@openssh.com", "signal", "window-change"} {
				if ok, err := c.SendRequest(name, true, nil); ok || err != nil {
					t.Errorf("%s: %v, %v", name, ok, err)
				}
			}
			ok, err := c.SendRequest("subsystem", true, appendString(nil, []byte("sftp")))
			said, _ := io.ReadAll(c.Stderr())
			if !ok || err != nil || !strings.Contains(string(said), "sftp -J") {
				t.Errorf("subsystem: %v, %v, %q", ok, err, said)
			}
			c.Close()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.sub(t)
			p := w.login(guest())
			c.do(t, p)
			p.works(t) // one refusal ends nothing
			w.ended(Finished)
			p.Close()
		})
	}
	t.Run("floods", func(t *testing.T) {
		w.sub(t)
		for _, ask := range []bool{true, false} {
			p := w.login(guest())
			// The answer to the last one comes, and then the end.
			for range w.server.config().Limits.RefusalsPerConn + 1 {
				if ask {
					asks("tcpip-forward", forward)(t, p)
				} else {
					opens("x11")(t, p)
				}
			}
			p.wantGone()
			w.wait("the server has done with it", func() bool { return len(w.server.open()) == 0 })
		}
		// Two floods cost forty seconds, whatever was still in the queues.
		m := w.server.admission
		m.mu.Lock()
		off := time.Until(m.sources[sourceOf(netip.MustParseAddr(client4))].clean)
		m.mu.Unlock()
		if off > 2*penaltyFlood || off < penaltyFlood {
			t.Errorf("the source has to stay away for %v", off)
		}
	})
	w.comesBack(before)
}

func asks(name string, payload []byte) func(testing.TB, *peer) {
	return func(t testing.TB, p *peer) {
		if ok, _, err := p.SendRequest(name, true, payload); ok || err != nil {
			t.Errorf("%v, %v", ok, err)
		}
	}
}

func opens(kind string) func(testing.TB, *peer) {
	return func(t testing.TB, p *peer) {
		_, _, err := p.OpenChannel(kind, payload(vmAddr, 22, "::1"))
		refusedWith(t, err, ssh.UnknownChannelType, "this is a jump server; it only relays to VMs")
	}
}

// A client that asks for new keys all the time (DHEat) loses its connection,
// and holds up nobody.
func TestAbuseRekeying(t *testing.T) {
	w := newWorld(t, nil)
	w.vmServes(echoes)
	w.login(guest()).Close()
	before := usageNow(t)
	config := guest()
	config.RekeyThreshold = 256 // bytes
	p, honest := w.login(config), w.login(guest())
	n := 0
	for ; n < 10_000; n++ {
		if _, _, err := p.SendRequest("keepalive@abuse", true, make([]byte, 256)); err != nil {
			break
		}
	}
	if n < freeExchanges/2 || n == 10_000 {
		t.Errorf("closed after %d requests", n)
	}
	p.wantGone()
	honest.works(t)
	honest.Close()
	w.comesBack(before)
}

// Words of a client's are one line of ASCII in the audit log and the list of
// sessions.
func TestAbuseLogs(t *testing.T) {
	w := newWorld(t, nil)
	w.login(guest()).Close()
	before := usageNow(t)
	config := guest()
	config.ClientVersion = "SSH-2.0-\u202e\x7f\u009b31m\"}" + strings.Repeat("x", 200)
	p := w.login(config)
	for _, host := range []string{"::1\n{\"end\":\"finished\"}", "\x1b]0;x\x07", "\xff\xfe", strings.Repeat("a", 900)} {
		_, err := p.jump(host, 22)
		refusedWith(t, err, ssh.Prohibited, "give the VM's IPv6 address, not a name")
		r := w.record()
		for _, s := range []string{r.Version, r.Target, w.server.Sessions()[0].Version} {
			if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) || len(s) > wordsMax+3 {
				t.Errorf("in the log: %q", s)
			}
		}
	}
	p.Close()
	w.comesBack(before)
}

// Clients that take nothing of what comes for them: neither do VMs get rid of
// more than the windows, nor does it last.
func TestAbuseDeafChannels(t *testing.T) {
	const channels = 8
	w := newWorld(t, func(c *Config) { c.Timeouts.Stall = time.Second })
	var sent sync.WaitGroup
	w.vmServes(func(_ int, c *net.TCPConn) {
		sent.Done()
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	w.login(guest()).Close()
	before := usageNow(t)
	sent.Add(channels)
	p := w.login(guest())
	for range channels {
		p.toVM()
	}
	sent.Wait()
	for range channels {
		if r := w.ended(Stalled); r.Down > windowSize {
			t.Errorf("%d bytes went to a client that took none", r.Down)
		}
	}
	p.Close()
	w.comesBack(before)
}

// A client that does not even read its TCP connection, with more to come than
// fits between, or with channels that it would have to close.
func TestAbuseDeafClient(t *testing.T) {
	flood := func(_ int, c *net.TCPConn) {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
	ends := func(_ int, c *net.TCPConn) { time.Sleep(300 * time.Millisecond) }
	for name, serve := range map[string]func(int, *net.TCPConn){"flood": flood, "ends": ends} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) {
				c.Timeouts.Stall, c.Timeouts.Keepalive = time.Second, 500*time.Millisecond
			})
			w.vmServes(serve)
			w.login(guest()).Close()
			before := usageNow(t)
			p := w.login(guest())
			p.tap.deaf.Store(true) // after the answer that it is waiting for
			for range 16 {
				go func() { _, _ = p.jump(vmAddr, 22) }()
			}
			w.wait("all channels are open", func() bool { return w.server.Stats().Open == 16 })
			w.wait("the server has closed the connection", func() bool { return len(w.server.open()) == 0 })
			p.tap.Close()
			w.comesBack(before)
		})
	}
}

// One-byte packets to VMs that take nothing: the SSH library keeps 48 bytes for
// each. The connection is not read any more at the bound that the documentation
// states, and the channels are closed when they don't get on.
func TestAbuseOneBytePackets(t *testing.T) {
	for _, channels := range []int{1, 4} {
		t.Run(fmt.Sprint(channels), func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.catchUp = time.Second })
			w.smallBuffers(8 << 10)
			w.vmServes(hangs)
			w.login(guest()).Close()
			before := usageNow(t)
			p := w.login(guest())
			var open []ssh.Channel
			for range channels {
				open = append(open, p.toVM())
			}
			apart := p.tap.together()
			var sending sync.WaitGroup
			for _, c := range open {
				sending.Go(func() {
					for {
						if _, err := c.Write([]byte{'x'}); err != nil {
							return
						}
					}
				})
			}
			most := int64(0)
			w.wait("all are closed", func() bool {
				if w.server.backlogs.Load() > backlogMax/2 {
					most = max(most, int64(usageNow(t).heap)-int64(before.heap))
				}
				return w.server.Stats().Open == 0
			})
			t.Logf("%.1f MiB of memory", float64(most)/(1<<20))
			if most > backlogMemory+heapSlack {
				t.Errorf("%d bytes of memory, more than %d", most, backlogMemory)
			}
			if most < backlogMemory/2 {
				t.Errorf("%d bytes of memory: what is this test about?", most)
			}
			for range channels {
				w.ended(Stalled)
			}
			sending.Wait()
			apart()
			p.Close()
			w.comesBack(before)
		})
	}
}

// Error output is nothing that clients have to send, and nobody's to read.
func TestAbuseErrorOutput(t *testing.T) {
	w := newWorld(t, nil)
	w.vmServes(echoes)
	w.login(guest()).Close()
	before := usageNow(t)
	p := w.login(guest())
	c := p.toVM()
	apart := p.tap.together()
	errs := c.Stderr()
	for range 1 << 19 { // twice a window
		if _, err := errs.Write([]byte("Error...")); err != nil {
			t.Fatal(err)
		}
	}
	apart()
	if kept := w.server.backlogs.Load(); kept > backlogMax/4 {
		t.Errorf("%d bytes are kept", kept)
	}
	p.works(t)
	p.Close()
	w.comesBack(before)
}

// What must not be ended: a VM that is stuck for a while, with a full window, on
// the connection of another that takes a gigabyte.
func TestHonestNeighbourOfAStuckVM(t *testing.T) {
	w := newWorld(t, nil)
	stuck := make(chan bool)
	var got [2]atomic.Int64
	w.vmServes(func(i int, c *net.TCPConn) {
		if i == 0 {
			<-stuck
		}
		n, _ := io.Copy(struct{ io.Writer }{io.Discard}, c)
		got[i].Store(n)
	})
	w.login(guest()).Close()
	before := usageNow(t)
	p := w.login(guest())
	send := func(c ssh.Channel, size int) {
		b := make([]byte, 32<<10)
		for range size / len(b) {
			if _, err := c.Write(b); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
		must(t, c.CloseWrite())
		_, _ = io.Copy(io.Discard, c) // until the VM has closed
		c.Close()
	}
	const ahead = 16 << 20 // more than fits between
	var first sync.WaitGroup
	slow := p.toVM()
	first.Go(func() { send(slow, ahead) })
	send(p.toVM(), bulkSize)
	w.ended(Finished)
	close(stuck)
	first.Wait()
	if r := w.ended(Finished); r.Up != ahead || got[0].Load() != ahead || got[1].Load() != bulkSize {
		t.Errorf("%d, %d and %d bytes have come", r.Up, got[0].Load(), got[1].Load())
	}
	p.Close()
	w.comesBack(before)
}

// Many uploads at once to VMs that are slow, but not stuck: more than may be kept,
// so that the client is slowed down, and none is ended.
func TestHonestSlowUploads(t *testing.T) {
	const channels, each = 32, 3 << 20
	w := newWorld(t, nil)
	w.smallBuffers(128 << 10)
	var start sync.WaitGroup
	start.Add(1)
	w.vmServes(func(_ int, c *net.TCPConn) {
		start.Wait()
		b := make([]byte, 64<<10)
		for n := 0; ; {
			m, err := c.Read(b)
			if n += m; err != nil {
				break
			}
			if n%(1<<20) < m {
				time.Sleep(100 * time.Millisecond)
			}
		}
	})
	w.login(guest()).Close()
	before := usageNow(t)
	p := w.login(guest())
	var sending sync.WaitGroup
	var open []ssh.Channel
	for range channels {
		open = append(open, p.toVM())
	}
	for _, c := range open {
		sending.Go(func() {
			b := make([]byte, 32<<10)
			for range each / len(b) {
				if _, err := c.Write(b); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
			must(t, c.CloseWrite())
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		})
	}
	w.wait("the bound", func() bool { return w.server.backlogs.Load() > backlogMax })
	start.Done()
	sending.Wait()
	for range channels {
		if r := w.ended(Finished); r.Up != each {
			t.Errorf("%d bytes have come", r.Up)
		}
	}
	p.Close()
	w.comesBack(before)
}

// Channels that are open and idle have no buffers.
func TestIdleChannels(t *testing.T) {
	const channels = 60
	w := newWorld(t, nil)
	w.vmServes(echoes)
	w.login(guest()).Close()
	p := w.login(guest())
	before := usageNow(t)
	var open []ssh.Channel
	for range channels {
		c := p.toVM()
		_, _ = io.WriteString(c, "hello")
		var b [5]byte
		_, err := io.ReadFull(c, b[:])
		must(t, err)
		open = append(open, c)
	}
	// With the client's half, and with the VM, all in this process.
	each := (int64(usageNow(t).heap) - int64(before.heap)) / channels
	t.Logf("%d bytes of heap for each channel", each)
	if each > bufferSize {
		t.Errorf("%d bytes for each idle channel", each)
	}
	for _, c := range open {
		c.Close()
	}
	p.Close()
	w.wait("all has ended", func() bool { return w.server.Stats().Open == 0 })
}
