package jump

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// tap is a client's TCP connection that can keep packets together, to send
// many of them at once, and turn deaf.
type tap struct {
	net.Conn
	deaf atomic.Bool

	mu    sync.Mutex
	batch bool
	held  []byte
}

func (c *tap) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.batch {
		return c.Conn.Write(b)
	}
	c.held = append(c.held, b...)
	if len(c.held) < 64<<10 {
		return len(b), nil
	}
	_, err := c.Conn.Write(c.held)
	c.held = c.held[:0]
	return len(b), err
}

// together keeps packets together, a little while, until the function it returns
// is called.
func (c *tap) together() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	flush := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.batch = ctx.Err() == nil
		_, _ = c.Conn.Write(c.held)
		c.held = c.held[:0]
	}
	var flushing sync.WaitGroup
	flushing.Go(func() {
		for ctx.Err() == nil {
			flush()
			time.Sleep(5 * time.Millisecond)
		}
		flush()
	})
	return func() { cancel(); flushing.Wait() }
}

func (c *tap) Read(b []byte) (int, error) {
	for c.deaf.Load() {
		time.Sleep(10 * time.Millisecond)
		if _, err := c.Conn.Write(nil); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

// guest is how this test's clients log in: as everybody does.
func guest() *ssh.ClientConfig {
	return &ssh.ClientConfig{User: DefaultUser, HostKeyCallback: ssh.InsecureIgnoreHostKey(), ClientVersion: "SSH-2.0-abuse"}
}

// peer is a client that has logged in.
type peer struct {
	ssh.Conn
	w   *world
	tap *tap
}

func (w *world) login(config *ssh.ClientConfig) *peer {
	w.t.Helper()
	p, err := w.tryLogin(config)
	must(w.t, err)
	return p
}

func (w *world) tryLogin(config *ssh.ClientConfig) (*peer, error) {
	raw, err := w.client.Dial(context.Background(), "tcp", net.JoinHostPort(jump4, w.port))
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(time.Now().Add(patience))
	tapped := &tap{Conn: raw}
	c, channels, requests, err := ssh.NewClientConn(tapped, "jump", config)
	if err != nil {
		raw.Close()
		return nil, err
	}
	_ = raw.SetDeadline(time.Time{})
	go ssh.DiscardRequests(requests)
	go func() {
		for nc := range channels {
			_ = nc.Reject(ssh.Prohibited, "")
		}
	}()
	w.t.Cleanup(func() { raw.Close() })
	return &peer{c, w, tapped}, nil
}

// jump opens a channel to an address and port.
func (p *peer) jump(host string, port uint32) (ssh.Channel, error) {
	channel, requests, err := p.OpenChannel("direct-tcpip", payload(host, port, "::1"))
	if err == nil {
		go ssh.DiscardRequests(requests)
	}
	return channel, err
}

// toVM opens a channel to the VM.
func (p *peer) toVM() ssh.Channel {
	p.w.t.Helper()
	c, err := p.jump(vmAddr, 22)
	must(p.w.t, err)
	return c
}

// wantGone waits until the server has closed the connection.
func (p *peer) wantGone() {
	p.w.t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.Wait() }()
	select {
	case <-done:
	case <-time.After(patience):
		p.w.t.Error("the server has not closed the connection")
	}
}

// vmServes has the VM serve its port 22 until the test ends.
func (w *world) vmServes(serve func(i int, c *net.TCPConn)) {
	w.t.Helper()
	l, err := w.vm.Listen("tcp6", "[::]:22")
	must(w.t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(i, c.(*net.TCPConn))
			})
		}
	})
	w.t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
}

// smallBuffers has the kernel keep little between the jump server and the VM.
func (w *world) smallBuffers(size int) {
	w.t.Helper()
	must(w.t, w.vm.Sysctl("net/ipv4/tcp_rmem", fmt.Sprintf("4096 %[1]d %[1]d", size)))
	must(w.t, w.hypervisor.Sysctl("net/ipv4/tcp_wmem", fmt.Sprintf("4096 16384 %d", 2*size)))
}

// hangs takes a connection and nothing more, until the peer is gone. It finds out
// by sending urgent data, which needs no reader.
func hangs(_ int, c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		panic(fmt.Sprint("a TCP connection without a descriptor: ", err))
	}
	for !hungUp(raw) {
		time.Sleep(10 * time.Millisecond)
	}
}

// echoes sends back what comes.
func echoes(_ int, c *net.TCPConn) {
	b := make([]byte, 1<<10)
	_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, b)
}

// works checks that a client gets on, with a VM that echoes.
func (p *peer) works(t testing.TB) {
	t.Helper()
	c, err := p.jump(vmAddr, 22)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "hello")
	var b [5]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}
