package jump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/crypto/ssh"
)

// listenVM makes the VM accept connections on port 22, for the test to handle.
func (w *world) listenVM() <-chan *net.TCPConn {
	w.t.Helper()
	l, err := w.vm.Listen("tcp6", "[::]:22")
	must(w.t, err)
	accepted := make(chan *net.TCPConn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c.(*net.TCPConn)
		}
	}()
	w.t.Cleanup(func() { l.Close() })
	return accepted
}

// goClient logs in with Go's SSH client, on a TCP connection as wrap leaves it.
func (w *world) goClient(address string, wrap func(net.Conn) net.Conn) *ssh.Client {
	w.t.Helper()
	tcp, err := w.client.Dial(context.Background(), "tcp", net.JoinHostPort(address, "22"))
	must(w.t, err)
	w.t.Cleanup(func() { tcp.Close() })
	if wrap != nil {
		tcp = wrap(tcp)
	}
	config := &ssh.ClientConfig{User: DefaultUser, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	c, channels, requests, err := ssh.NewClientConn(tcp, address, config)
	must(w.t, err)
	return ssh.NewClient(c, channels, requests)
}

// jumped is a channel to the VM, and the VM's end of it.
func (w *world) jumped(c *ssh.Client, accepted <-chan *net.TCPConn) (channel ssh.Channel, vm *net.TCPConn) {
	w.t.Helper()
	payload := ssh.Marshal(struct {
		Host  string
		Port  uint32
		From  string
		FPort uint32
	}{vmAddr, 22, "127.0.0.1", 1})
	channel, requests, err := c.OpenChannel("direct-tcpip", payload)
	must(w.t, err)
	go ssh.DiscardRequests(requests)
	select {
	case vm = <-accepted:
	case <-time.After(patience):
		w.t.Fatal("no connection at the VM")
	}
	w.t.Cleanup(func() { vm.Close() })
	return channel, vm
}

// Each side may say that it has no more to send and still be sent to.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	accepted := w.listenVM()
	c := w.goClient(jump6, nil)
	question, answer := bytes.Repeat([]byte("question"), 50_000), bytes.Repeat([]byte("answer"), 70_000)
	type halfCloser interface {
		io.ReadWriter
		CloseWrite() error
	}
	for _, clientFirst := range []bool{true, false} {
		channel, vm := w.jumped(c, accepted)
		var first, second halfCloser = channel, vm
		if !clientFirst {
			first, second = vm, channel
		}
		failed := make(chan error, 1)
		go func() {
			_, err := first.Write(question)
			failed <- errors.Join(err, first.CloseWrite())
		}()
		if got, err := io.ReadAll(second); err != nil || !bytes.Equal(got, question) {
			t.Errorf("the second side got %d bytes, %v", len(got), err)
		}
		must(t, <-failed)
		time.Sleep(3 * sweepEvery / 2) // nothing looks at a half-closed channel and ends it
		go func() {
			_, err := second.Write(answer)
			failed <- errors.Join(err, second.CloseWrite())
		}()
		if got, err := io.ReadAll(first); err != nil || !bytes.Equal(got, answer) {
			t.Errorf("the first side got %d bytes, %v", len(got), err)
		}
		must(t, <-failed)
		if r := w.ended(Finished); r.Up+r.Down != uint64(len(question)+len(answer)) {
			t.Errorf("audit: %d up, %d down", r.Up, r.Down)
		}
	}
}

// A client that sends on after its end of file loses its connection: nobody would
// take that.
func TestDataAfterEOF(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.needParamiko()
	w.listenVM()
	script, err := os.ReadFile("testdata/after_eof.py")
	must(t, err)
	w.ok(w.runWith(string(script), python, "-", jump4, vmAddr), "ended\n")
	w.ended(ClientGone)
}

// pausable is a client's connection that can stop reading.
type pausable struct {
	net.Conn
	paused chan struct{} // closed: nothing more is read
}

func (p *pausable) Read(b []byte) (int, error) {
	select {
	case <-p.paused:
		select {}
	default:
		return p.Conn.Read(b)
	}
}

// How a channel ends, and what the audit log says of that.
func TestEnds(t *testing.T) {
	t.Parallel()
	type ending struct {
		name   string
		config func(*Config)
		do     func(w *world, c *ssh.Client, channel ssh.Channel, vm *net.TCPConn)
		want   End
	}
	flood := func(to io.Writer) {
		b := make([]byte, 64<<10)
		for {
			if _, err := to.Write(b); err != nil {
				return
			}
		}
	}
	short := func(c *Config) {
		c.Timeouts = Timeouts{Idle: -1, Unused: -1, Keepalive: -1, Stall: time.Second}
	}
	paused := make(chan struct{})
	for _, e := range []ending{
		{"the client closes the channel", nil, func(_ *world, _ *ssh.Client, channel ssh.Channel, _ *net.TCPConn) { channel.Close() }, Finished},
		{"the client closes the connection", nil, func(_ *world, c *ssh.Client, _ ssh.Channel, _ *net.TCPConn) { c.Close() }, Finished},
		{"both sides close", nil, func(_ *world, _ *ssh.Client, channel ssh.Channel, vm *net.TCPConn) {
			vm.Close()
			_, _ = io.Copy(io.Discard, channel)
			channel.Close()
		}, Finished},
		{"the VM resets the connection", nil, func(w *world, _ *ssh.Client, _ ssh.Channel, vm *net.TCPConn) {
			must(w.t, vm.SetLinger(0))
			vm.Close()
		}, VMGone},
		{"the VM is cut off", func(c *Config) { c.Timeouts.Keepalive = time.Second }, func(w *world, _ *ssh.Client, _ ssh.Channel, _ *net.TCPConn) {
			must(w.t, w.vm.Down("eth0"))
		}, VMGone},
		{"the client is cut off", func(c *Config) { c.Timeouts.Keepalive = time.Second }, func(w *world, _ *ssh.Client, _ ssh.Channel, _ *net.TCPConn) {
			must(w.t, w.client.Down("eth0"))
		}, ClientGone},
		{"nobody says anything", func(c *Config) { c.Timeouts.Idle = time.Second }, func(*world, *ssh.Client, ssh.Channel, *net.TCPConn) {}, Idled},
		{"the VM takes nothing", short, func(_ *world, _ *ssh.Client, channel ssh.Channel, _ *net.TCPConn) { go flood(channel) }, Stalled},
		{"the client takes nothing", short, func(_ *world, _ *ssh.Client, _ ssh.Channel, vm *net.TCPConn) {
			close(paused)
			go flood(vm)
		}, Stalled},
		{"an operator ends the session", nil, func(w *world, _ *ssh.Client, _ ssh.Channel, _ *net.TCPConn) {
			id := w.server.Sessions()[0].ID
			if !w.server.End(id) || w.server.End(id+1) {
				w.t.Error("End is mistaken")
			}
		}, Killed},
		{"the server stops", nil, func(w *world, _ *ssh.Client, _ ssh.Channel, _ *net.TCPConn) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			w.server.Shutdown(ctx)
		}, Drained},
	} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, e.config)
			c := w.goClient(jump4, func(c net.Conn) net.Conn {
				if e.name == "the client takes nothing" {
					return &pausable{c, paused}
				}
				return c
			})
			channel, vm := w.jumped(c, w.listenVM())
			e.do(w, c, channel, vm)
			w.ended(e.want)
			w.wait("the channel is gone", func() bool { return w.server.Stats().Open == 0 })
			_ = vm.SetReadDeadline(time.Now().Add(patience))
			if e.name != "the VM is cut off" && e.name != "the VM resets the connection" {
				if _, err := io.Copy(io.Discard, vm); errors.Is(err, context.DeadlineExceeded) {
					t.Error("the connection to the VM stays")
				}
			}
		})
	}
}

// A connection without a channel does not stay.
func TestUnused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Timeouts.Unused = time.Second })
	accepted := w.listenVM()
	used := w.goClient(jump4, nil)
	channel, _ := w.jumped(used, accepted)
	ended := make(chan error, 1)
	go func() { ended <- w.goClient(jump6, nil).Wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("an unused connection stays")
	}
	if n := w.server.Stats().Open; n != 1 {
		t.Errorf("%d channels stay, want the one that is used", n)
	}
	channel.Close()
	w.ended(Finished)
	if err := used.Wait(); err == nil {
		t.Error("the other connection ended without an error")
	}
}

// A client that answers keepalives stays, however little it has to say.
func TestKeepalive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Timeouts.Keepalive = 200 * time.Millisecond })
	channel, vm := w.jumped(w.goClient(jump4, nil), w.listenVM())
	time.Sleep(4 * sweepEvery)
	_, err := channel.Write([]byte("still here"))
	must(t, err)
	must(t, vm.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 10)
	if _, err := io.ReadFull(vm, b); err != nil {
		t.Errorf("the connection is gone: %v", err)
	}
}

// Load balancers in proxy_from say where a client comes from; from anybody else
// that is not believed, and from them it is required.
func TestProxyHeader(t *testing.T) {
	const from = "203.0.113.7"
	header := func(version byte, command proxyproto.ProtocolVersionAndCommand) []byte {
		h := &proxyproto.Header{
			Version: version, Command: command, TransportProtocol: proxyproto.TCPv4,
			SourceAddr:      &net.TCPAddr{IP: net.ParseIP(from), Port: 4242},
			DestinationAddr: &net.TCPAddr{IP: net.ParseIP(jump4), Port: 22},
		}
		b, err := h.Format()
		must(t, err)
		return b
	}
	header6 := []byte("PROXY TCP6 2001:db8:7::7 " + jump6 + " 4242 22\r\n")
	with := func(h []byte) func(net.Conn) net.Conn {
		return func(c net.Conn) net.Conn {
			_, err := c.Write(h)
			must(t, err)
			return c
		}
	}
	trusted := func(c *Config) {
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix(client4 + "/32"), netip.MustParsePrefix(client6 + "/128")}
	}
	w := newWorld(t, trusted)
	accepted := w.listenVM()
	for _, test := range []struct {
		name   string
		header []byte
		to     string
		want   string
	}{
		{"version 1", header(1, proxyproto.PROXY), jump4, from + ":4242"},
		{"version 2", header(2, proxyproto.PROXY), jump6, from + ":4242"},
		{"version 1, IPv6", header6, jump6, "[2001:db8:7::7]:4242"},
		{"from the load balancer itself", header(2, proxyproto.LOCAL), jump4, client4},
	} {
		channel, _ := w.jumped(w.goClient(test.to, with(test.header)), accepted)
		channel.Close()
		r := w.ended(Finished)
		if got := r.Source.String(); got != test.want && r.Source.Addr().String() != test.want {
			t.Errorf("%s: comes from %s, want %s", test.name, got, test.want)
		}
	}
	refused := func(w *world, h []byte, want Login) {
		t.Helper()
		before := w.logins(want)
		c := w.dial()
		defer c.Close()
		_, err := c.Write(append(h, "SSH-2.0-test\r\n"+strings.Repeat("\x00", 64)...))
		must(t, err)
		gone(t, c)
		w.wait(fmt.Sprintf("%q is refused", h), func() bool { return w.logins(want) == before+1 })
	}
	refused(w, nil, LoginNoHeader)
	refused(w, []byte("PROXY TCP4 203.0.113.999 198.51.100.1 1 22\r\n"), LoginNoHeader)
	stranger := newWorld(t, nil)
	refused(stranger, header(1, proxyproto.PROXY), LoginFailed)
	refused(stranger, header(2, proxyproto.PROXY), LoginFailed)
}
