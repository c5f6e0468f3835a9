package jump

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestPacketsAreWhole sends packets of all sizes about the library's buffer, each
// after the one before has come: one that was held back for good would end it.
func TestPacketsAreWhole(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, cipher := range allCiphers {
		t.Run(cipher, func(t *testing.T) {
			algorithms := ssh.Config{Ciphers: []string{cipher}, MACs: macs}
			server := &ssh.ServerConfig{Config: algorithms, NoClientAuth: true}
			server.AddHostKey(signer)
			w, out, in := channelPair(t, server, &ssh.ClientConfig{Config: algorithms, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
			w.gcm.Store(slices.Contains(gcmCiphers, cipher))
			b := make([]byte, 32<<10)
			for _, sizes := range [][2]int{{1, 3}, {libraryBuffer - 120, libraryBuffer + 40}, {2*libraryBuffer - 120, 2*libraryBuffer + 40}, {len(b) - 1, len(b)}} {
				for n := sizes[0]; n <= sizes[1]; n++ {
					if _, err := out.Write(b[:n]); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(in, b[:n]); err != nil {
						t.Fatalf("%d bytes: %v", n, err)
					}
				}
			}
		})
	}
}

// sent is a connection that notes what is written to it.
type sent struct {
	net.Conn
	writes []int
}

func (s *sent) Write(p []byte) (int, error) {
	s.writes = append(s.writes, len(p))
	return len(p), nil
}

// TestHeads looks at what becomes of full buffers.
func TestHeads(t *testing.T) {
	large, small := make([]byte, libraryBuffer), make([]byte, libraryBuffer)
	large[2], small[2] = 0x80, 1 // lengths 32768 and 256
	for _, tt := range []struct {
		name   string
		gcm    bool
		writes [][]byte
		want   []int
	}{
		{"a large packet", true, [][]byte{large, {1}}, []int{libraryBuffer, 1}},
		{"alone", true, [][]byte{large}, nil},
		{"its rest fills the buffer, too", true, [][]byte{large, large}, []int{libraryBuffer, libraryBuffer}},
		{"a packet that fills the buffer", true, [][]byte{small}, []int{libraryBuffer}},
		{"a smaller one", true, [][]byte{large[:libraryBuffer-1]}, []int{libraryBuffer - 1}},
		{"another cipher", false, [][]byte{large}, []int{libraryBuffer}},
	} {
		s := &sent{}
		w := newWire(s, new(atomic.Int64))
		w.gcm.Store(tt.gcm)
		for _, p := range tt.writes {
			if n, err := w.Write(p); n != len(p) || err != nil {
				t.Errorf("%s: %d, %v", tt.name, n, err)
			}
		}
		if !slices.Equal(s.writes, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, s.writes, tt.want)
		}
	}
}

// channelPair is a channel from a server on a wire to its client. Either end's
// connection ends after a while.
func channelPair(t *testing.T, s *ssh.ServerConfig, c *ssh.ClientConfig) (w *wire, server, client ssh.Channel) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []net.Conn{near, far} {
		t.Cleanup(func() { end.Close() })
		if err := end.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	w = newWire(far, new(atomic.Int64))
	opened := make(chan ssh.Channel, 1)
	go func() {
		defer close(opened)
		_, channels, requests, err := ssh.NewServerConn(w, s)
		if err != nil {
			t.Error(err)
			return
		}
		go ssh.DiscardRequests(requests)
		for nc := range channels {
			ch, requests, err := nc.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			go ssh.DiscardRequests(requests)
			opened <- ch
		}
	}()
	conn, _, requests, err := ssh.NewClientConn(near, "", c)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	client, clientRequests, err := conn.OpenChannel("test", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(clientRequests)
	server = <-opened
	if server == nil {
		t.FailNow()
	}
	return w, server, client
}
