package jump

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// usage is what a process can run out of.
type usage struct {
	goroutines, files int
	heap              uint64
}

func usageNow(t testing.TB) usage {
	t.Helper()
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return usage{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

// heapSlack is what a test may leave: counters, its own records, pools.
const heapSlack = 4 << 20

// comesBack fails the test unless all that was used after before is free again.
func (w *world) comesBack(before usage) {
	w.t.Helper()
	var now usage
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		now = usageNow(w.t)
		if now.goroutines <= before.goroutines && now.files <= before.files && now.heap <= before.heap+heapSlack {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("still in use: %+v, before: %+v", now, before)
		}
	}
	if a, b, c, _ := w.server.admission.counts(); a != 0 || b != 0 || c != 0 {
		w.t.Errorf("%d connections, %d handshakes and %d channels are left", a, b, c)
	}
}

// dial connects the client to the jump server, without a word.
func (w *world) dial() net.Conn {
	w.t.Helper()
	c, err := w.client.Dial(context.Background(), "tcp", net.JoinHostPort(jump4, w.port))
	must(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c
}

// logins is how often a login came to this.
func (w *world) logins(l Login) uint64 { return w.server.logins[l].Load() }

// gone waits until the server has closed a connection, and gives what it said.
func gone(t testing.TB, c net.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server has not closed the connection")
	}
	return string(b)
}

// packet is one of the SSH transport before there are keys (RFC 4253 section 6).
func packet(payload []byte) []byte {
	pad := 8 - (5+len(payload))%8
	if pad < 4 {
		pad += 8
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+pad))
	b = append(append(b, byte(pad)), payload...)
	return append(b, make([]byte, pad)...)
}

// kexInit asks for a key exchange (RFC 4253 section 7.1) with one method.
func kexInit(method string) []byte {
	b := append([]byte{20}, make([]byte, 16)...)
	for _, list := range []string{method, "ssh-ed25519", "aes128-gcm@openssh.com", "aes128-gcm@openssh.com", "", "", "none", "none", "", ""} {
		b = appendString(b, []byte(list))
	}
	return append(b, 0, 0, 0, 0, 0)
}

// ecdhInit begins the exchange for curve25519 (RFC 8731), with the base point.
func ecdhInit() []byte {
	point := make([]byte, 32)
	point[0] = 9
	return appendString([]byte{30}, point)
}

// Clients that open a connection and do something else than log in. Each round
// has an honest client that gets in meanwhile, although only two handshakes are
// worked on at once.
func TestAbuseHandshake(t *testing.T) {
	const hello = "SSH-2.0-abuse\r\n"
	forever := func(what string) func(net.Conn) {
		return func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, what); err != nil {
					return
				}
			}
		}
	}
	once := func(what string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, what) }
	}
	exchange := hello + string(packet(kexInit("curve25519-sha256")))
	const many = 15 // of each
	for _, c := range []struct {
		name string
		want Login
		do   []func(net.Conn)
	}{
		{"slow", LoginTimeout, []func(net.Conn){
			once(""),
			once(hello),
			once(exchange),
			once(exchange + string(packet(ecdhInit()))),
			func(c net.Conn) {
				for _, b := range []byte(hello) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(200 * time.Millisecond)
				}
			},
		}},
		{"HTTP", LoginFailed, []func(net.Conn){once("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}},
		{"lines before the version, without end", LoginFailed, []func(net.Conn){forever("Hello!\r\n")}},
		{"a version without end", LoginFailed, []func(net.Conn){forever("SSH-2.0-x")}},
		{"empty lines", LoginFailed, []func(net.Conn){forever("\n")}},
		{"a packet of 4 GiB", LoginFailed, []func(net.Conn){once(hello + "\xff\xff\xff\xff\x04" + strings.Repeat("x", 100))}},
		{"a packet without a length", LoginFailed, []func(net.Conn){once(hello + strings.Repeat("\x00", 100))}},
		{"lists of a quarter million names", LoginFailed, []func(net.Conn){once(hello + string(packet(kexInit(strings.Repeat(",", 200<<10)))))}},
		{"ignored packets without end", LoginFailed, []func(net.Conn){func(c net.Conn) {
			once(hello)(c)
			forever(string(packet([]byte{2, 0, 0, 0, 0})))(c)
		}}},
		{"a key exchange and away", LoginGone, []func(net.Conn){func(c net.Conn) {
			once(exchange + string(packet(ecdhInit())))(c)
			_ = c.(*net.TCPConn).CloseWrite()
		}}},
		{"a point that is none", LoginFailed, []func(net.Conn){once(exchange + string(packet(appendString([]byte{30}, make([]byte, 32)))))}},
		{"Diffie-Hellman", LoginFailed, []func(net.Conn){
			once(hello + string(packet(kexInit("diffie-hellman-group1-sha1")))),
			once(hello + string(packet(kexInit("diffie-hellman-group14-sha256")))),
			once(hello + string(packet(kexInit("diffie-hellman-group16-sha512")))),
			once(hello + string(packet(kexInit("diffie-hellman-group-exchange-sha256")))),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(config *Config) {
				config.Limits.Handshakes = 2
				config.Limits.Exempt = prefixes(client4 + "/32")
				if c.want == LoginTimeout {
					config.Timeouts.Login = 2 * time.Second
				}
			})
			w.login(guest()).Close()
			before, was, n := usageNow(t), w.logins(c.want), many*len(c.do)
			var conns []net.Conn
			var doing sync.WaitGroup
			for i := range n {
				conn := w.dial()
				conns = append(conns, conn)
				doing.Go(func() { c.do[i%len(c.do)](conn) })
			}
			honest, err := w.tryLogin(guest())
			if err != nil {
				t.Errorf("an honest client meanwhile: %v", err)
			} else {
				honest.Close()
			}
			for _, conn := range conns {
				gone(t, conn)
				conn.Close()
			}
			doing.Wait()
			now := uint64(0)
			for deadline := time.Now().Add(patience); now != was+uint64(n) && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				now = w.logins(c.want)
			}
			if now != was+uint64(n) {
				t.Errorf("%d of %d logins ended as %v; in all: %v", now-was, n, c.want, w.server.Stats().Logins)
			}
			w.comesBack(before)
		})
	}
}

// Key exchanges that come to nothing (CVE-2002-20001 with what is left of it) end
// with the source being told to stay away for a while.
func TestAbuseKeyExchanges(t *testing.T) {
	w := newWorld(t, nil)
	w.login(guest()).Close()
	before := usageNow(t)
	attack := "SSH-2.0-abuse\r\n" + string(packet(kexInit("curve25519-sha256"))) + string(packet(ecdhInit()))
	answered := 0
	for ; ; answered++ {
		c := w.dial()
		_, err := io.WriteString(c, attack)
		must(t, err)
		_ = c.(*net.TCPConn).CloseWrite()
		said := gone(t, c)
		c.Close()
		if strings.HasPrefix(said, "Not now: too many failures from your address.") {
			break
		}
		if answered > 2*int(tooMuch/penaltyLogin) {
			t.Fatal("the server goes on answering")
		}
	}
	if answered < int(tooMuch/penaltyLogin) {
		t.Errorf("turned away after %d times", answered)
	}
	if _, err := w.tryLogin(guest()); err == nil {
		t.Error("a login is possible in spite of the penalty")
	}
	w.comesBack(before)
}

// Two thousand half-open connections: the server keeps no more than Full, and
// who tries again gets in before that.
func TestAbuseHalfOpen(t *testing.T) {
	const start, full = 50, 500
	w := newWorld(t, func(c *Config) {
		c.Limits.Start, c.Limits.Full = start, full
		c.Limits.Exempt = prefixes(client4 + "/32")
		c.Timeouts.Login = 20 * time.Second
	})
	w.login(guest()).Close()
	before := usageNow(t)
	var conns []net.Conn
	for range 2000 {
		conns = append(conns, w.dial())
		if _, waiting, _, _ := w.server.admission.counts(); waiting > full {
			t.Fatalf("%d connections wait to log in", waiting)
		}
	}
	if n := w.logins(LoginDropped); n < 1000 {
		t.Errorf("%d were dropped", n)
	}
	w.wait("an honest client gets in", func() bool {
		honest, err := w.tryLogin(guest())
		if err == nil {
			honest.Close()
		}
		return err == nil
	})
	for _, c := range conns {
		c.Close()
	}
	w.comesBack(before)
}

// One source, with as many connections as it may have.
func TestAbuseManyConnections(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.ConnectionsPerSource = 3 })
	w.login(guest()).Close()
	w.wait("it has left", func() bool { return w.server.Stats().Connections == 0 })
	before := usageNow(t)
	peers := []*peer{w.login(guest()), w.login(guest()), w.login(guest())}
	c := w.dial()
	if said := gone(t, c); !strings.HasPrefix(said, "Not now: too many connections from your address.") {
		t.Errorf("the fourth is told %q", said)
	}
	c.Close()
	peers[0].Close()
	w.wait("room for another", func() bool {
		p, err := w.tryLogin(guest())
		if err == nil {
			peers[0] = p
		}
		return err == nil
	})
	for _, p := range peers {
		p.Close()
	}
	w.comesBack(before)
}

// Others than the user jump, and what they are told.
func TestAbuseUsers(t *testing.T) {
	w := newWorld(t, nil)
	w.login(guest()).Close()
	before := usageNow(t)
	for _, user := range []string{"root", "", "jump\x00", "Jump", strings.Repeat("x", 30<<10)} {
		banner := ""
		config := guest()
		config.User = user
		config.Auth = []ssh.AuthMethod{ssh.Password("x")}
		config.BannerCallback = func(message string) error { banner += message; return nil }
		if _, err := w.tryLogin(config); err == nil {
			t.Errorf("user %q is let in", user)
		}
		if !strings.Contains(banner, `its user is "jump"`) {
			t.Errorf("user %q is told %q", user, banner)
		}
	}
	w.comesBack(before)
}
