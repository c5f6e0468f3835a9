package jump

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// firstPacket is a KEXINIT without what comes behind the ciphers.
func firstPacket(toUs, fromUs string) []byte {
	payload := append([]byte{20}, make([]byte, 16)...)
	for _, names := range []string{"curve25519-sha256", "ssh-ed25519", toUs, fromUs} {
		payload = appendString(payload, []byte(names))
	}
	const padding = 4
	packet := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	packet = append(packet, padding)
	return append(append(packet, payload...), make([]byte, padding)...)
}

func TestPickCiphers(t *testing.T) {
	openssh := "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com"
	whole := firstPacket(openssh, openssh)
	notKex := slices.Clone(whole)
	notKex[5] = 2 // SSH_MSG_IGNORE
	lying := firstPacket(openssh, openssh)
	binary.BigEndian.PutUint32(lying[22:], 1<<31) // the first list's length
	for _, tt := range []struct {
		name   string
		packet []byte
		want   []string
		whole  bool
	}{
		{"OpenSSH", whole, gcmCiphers, true},
		{"with more behind", append(slices.Clone(whole), 1, 2, 3), gcmCiphers, true},
		{"one of ours", firstPacket("aes256-gcm@openssh.com", "aes128-gcm@openssh.com"), gcmCiphers, true},
		{"none", firstPacket("aes128-ctr", "aes128-ctr"), allCiphers, true},
		{"one direction", firstPacket(openssh, "aes128-ctr"), allCiphers, true},
		{"a name that is longer", firstPacket("aes128-gcm@openssh.com2", openssh), allCiphers, true},
		{"nothing yet", nil, allCiphers, false},
		{"no whole length", whole[:3], allCiphers, false},
		{"no whole packet", whole[:len(whole)-1], allCiphers, false},
		{"another message", notKex, allCiphers, true},
		{"too long", []byte{0, 1, 0, 0}, allCiphers, true},
		{"too short", []byte{0, 0, 0, 1, 20}, allCiphers, true},
		{"empty", []byte{0, 0, 0, 0}, allCiphers, true},
		{"a list that is longer than the packet", lying, allCiphers, true},
	} {
		got, done := pickCiphers(tt.packet)
		if !slices.Equal(got, tt.want) || done != tt.whole {
			t.Errorf("%s: %v, %v; want %v, %v", tt.name, got, done, tt.want, tt.whole)
		}
	}
}

// helloServer is a server on loopback.
func helloServer(t *testing.T) (address string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{VMPrefixes: prefixes("2001:db8:64::/64"), Reach: reachIn("2001:db8:64::/64"), HostKeys: []ssh.Signer{signer}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// delayed is a client that holds back what it writes once it has said its version.
type delayed struct {
	net.Conn
	wait   time.Duration
	writes int
}

func (d *delayed) Write(p []byte) (int, error) {
	if d.writes++; d.writes == 2 {
		time.Sleep(d.wait)
	}
	return d.Conn.Write(p)
}

func TestClientsGetGCMWhereTheyHaveIt(t *testing.T) {
	const ctr = ssh.CipherAES128CTR
	address := helloServer(t)
	for _, tt := range []struct {
		name    string
		ciphers []string
		wait    time.Duration
		want    string
	}{
		{"preferred", []string{gcmCiphers[0], ctr}, 0, gcmCiphers[0]},
		{"liked less", []string{ctr, gcmCiphers[1]}, 0, gcmCiphers[1]},
		{"not there", []string{ctr}, 0, ctr},
		{"not known in time", []string{ctr, gcmCiphers[0]}, 2 * firstPacketWait, ctr},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			conn, _, _, err := ssh.NewClientConn(&delayed{Conn: c, wait: tt.wait}, "", &ssh.ClientConfig{
				Config: ssh.Config{Ciphers: tt.ciphers}, User: DefaultUser, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			})
			if err != nil {
				t.Fatal(err)
			}
			a := conn.(ssh.AlgorithmsConnMetadata).Algorithms()
			if a.Read.Cipher != tt.want || a.Write.Cipher != tt.want {
				t.Errorf("ciphers are %s and %s, want %s", a.Read.Cipher, a.Write.Cipher, tt.want)
			}
			if got := string(conn.ServerVersion()); got != serverVersion {
				t.Errorf("the server calls itself %q", got)
			}
		})
	}
}

func TestHelloOfNoClient(t *testing.T) {
	address := helloServer(t)
	for _, tt := range []struct{ name, says string }{
		{"a version without an end", strings.Repeat("x", 4000)},
		{"a line that is no version", "GET / HTTP/1.1\r\n\r\n"},
		{"nothing", ""},
	} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// The server may have closed before either.
		_, _ = c.Write([]byte(tt.says))
		_ = c.(*net.TCPConn).CloseWrite()
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		for err == nil {
			_, err = c.Read(b)
		}
		if timedOut(err) {
			t.Errorf("%s: the connection stays", tt.name)
		}
	}
}
