package sniff

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labtest"
	"github.com/quic-go/quic-go"
)

// saidBy gives what a client says first, and answers it with an alert.
func saidBy(t testing.TB, c net.Conn) []byte {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	var said []byte
	var s TLS
	buf := make([]byte, 700)
	for {
		n, err := c.Read(buf)
		said = append(said, buf[:n]...)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(said), err)
		}
		if _, err = s.ClientHello(said); err == ErrIncomplete {
			continue
		}
		c.Write(UnrecognizedName.Record())
		return said
	}
}

// fromGo gives the ClientHello of crypto/tls, and the error with which it ends.
func fromGo(t testing.TB, config *tls.Config) (said []byte, err error) {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	done := make(chan error, 1)
	client.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { done <- tls.Client(client, config).Handshake() }()
	said = saidBy(t, server)
	return said, <-done
}

func TestGoClient(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config *tls.Config
	}{
		{"default", &tls.Config{}},
		{"TLS 1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}},
		{"TLS 1.3 only", &tls.Config{MinVersion: tls.VersionTLS13}},
		{"X25519", &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}},
		{"X25519MLKEM768", &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}},
		{"all post-quantum", &tls.Config{CurvePreferences: []tls.CurveID{tls.SecP384r1MLKEM1024, tls.SecP256r1MLKEM768, tls.X25519MLKEM768}}},
		{"acme-tls/1", &tls.Config{NextProtos: []string{"acme-tls/1"}}},
		{"h2", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.ServerName = "Shop.example.com"
			said, err := fromGo(t, tt.config)
			h, perr := ClientHello(said)
			if perr != nil || h.Host != "shop.example.com" || list(&h) != strings.Join(tt.config.NextProtos, ",") {
				t.Errorf("%q, %q, %v", h.Host, list(&h), perr)
			}
			if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("the client says: %v", err)
			}
			everySplit(t, said, "shop.example.com")
		})
	}
}

// RFC 9849 section 6.1: the name outside is the one that is routed.
func TestEncryptedClientHello(t *testing.T) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	config := []byte{7, 0, 0x20} // id, DHKEM(X25519)
	config = append(config, vec16(key.PublicKey().Bytes())...)
	config = append(config, vec16([]byte{0, 1, 0, 1})...) // HKDF-SHA256, AES-128-GCM
	config = append(config, 32)                           // longest name
	config = append(config, vec8([]byte("public.example"))...)
	config = append(config, 0, 0) // no extensions
	config = append(binary.BigEndian.AppendUint16(nil, 0xfe0d), vec16(config)...)
	said, _ := fromGo(t, &tls.Config{ServerName: "secret.example", EncryptedClientHelloConfigList: vec16(config)})
	if h, err := ClientHello(said); err != nil || h.Host != "public.example" {
		t.Errorf("%q, %v", h.Host, err)
	}
}

// The programs people look at: what do they make of the alert?
func TestPrograms(t *testing.T) {
	for _, tt := range []struct {
		name, pkg, arguments string
		alpn                 string
	}{
		{"curl", "curl", "-sS --resolve example.com:PORT:127.0.0.1 https://example.com:PORT/", "h2,http/1.1"},
		{"curl", "curl", "-sS --http1.1 --tlsv1.2 --tls-max 1.2 --resolve example.com:PORT:127.0.0.1 https://example.com:PORT/", "http/1.1"},
		{"curl", "curl", "-sS --tlsv1.3 --resolve EXAMPLE.com.:PORT:127.0.0.1 https://EXAMPLE.com.:PORT/", "h2,http/1.1"},
		{"openssl", "openssl", "s_client -connect 127.0.0.1:PORT -servername example.com", ""},
		{"openssl", "openssl", "s_client -connect 127.0.0.1:PORT -servername example.com -tls1_2 -alpn acme-tls/1", "acme-tls/1"},
		// Records of 512 bytes, and key shares that need several of them.
		{"openssl", "openssl", "s_client -connect 127.0.0.1:PORT -servername example.com -tls1_3 -split_send_frag 512 -max_send_frag 512 -groups ffdhe8192", ""},
	} {
		t.Run(tt.name+" "+tt.arguments, func(t *testing.T) {
			labtest.NeedProgram(t, tt.name, tt.pkg)
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
			_, port, _ := net.SplitHostPort(l.Addr().String())
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			type result struct {
				out string
				err error
			}
			done := make(chan result, 1)
			go func() {
				out, err := exec.CommandContext(ctx, tt.name, strings.Fields(strings.ReplaceAll(tt.arguments, "PORT", port))...).CombinedOutput()
				done <- result{string(out), err}
			}()
			c, err := l.Accept()
			if err != nil {
				cancel()
				t.Fatalf("%v; %s", err, (<-done).out)
			}
			defer c.Close()
			said := saidBy(t, c)
			c.(*net.TCPConn).CloseWrite()
			r := <-done
			h, perr := ClientHello(said)
			if perr != nil || h.Host != "example.com" || list(&h) != tt.alpn {
				t.Errorf("%q, %q, %v", h.Host, list(&h), perr)
			}
			if r.err == nil || !strings.Contains(r.out, "unrecognized name") {
				t.Errorf("%v: %s", r.err, r.out)
			}
			everySplit(t, said, "example.com")
		})
	}
}

// quic-go as the client: its datagrams are read, and it takes the refusal.
func TestQUICClient(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version quic.Version
		config  *tls.Config
	}{
		{"RFC 9000", quic.Version1, &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}},
		{"RFC 9369", quic.Version2, &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}},
		{"RFC 9000 several Initials", quic.Version1, &tls.Config{}},
		{"RFC 9369 several Initials", quic.Version2, &tls.Config{CurvePreferences: []tls.CurveID{tls.SecP384r1MLKEM1024, tls.X25519MLKEM768}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			server.SetReadDeadline(time.Now().Add(20 * time.Second))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			tt.config.ServerName, tt.config.NextProtos = "Shop.example.com", []string{"h3"}
			tt.config.RootCAs = x509.NewCertPool()
			done := make(chan error, 1)
			go func() {
				c, err := quic.DialAddr(ctx, server.LocalAddr().String(), tt.config, &quic.Config{Versions: []quic.Version{tt.version}})
				if err == nil {
					c.CloseWithError(0, "")
				}
				done <- err
			}()
			var q QUIC
			buf := make([]byte, 1500)
			for datagrams := 1; ; datagrams++ {
				n, from, err := server.ReadFromUDPAddrPort(buf)
				if err != nil {
					t.Fatal(err)
				}
				h, err := q.Datagram(buf[:n])
				if err == ErrIncomplete {
					continue
				}
				if err != nil || h.Host != "shop.example.com" || list(&h) != "h3" {
					t.Fatalf("%q, %q, %v", h.Host, list(&h), err)
				}
				t.Logf("%d datagrams, %d bytes of CRYPTO", datagrams, q.stream.next)
				head, ok := ParseLongHeader(buf[:n])
				if !ok {
					t.Fatal("no long header")
				}
				answer, err := Refuse(head, UnrecognizedName.TransportError())
				if err != nil {
					t.Fatal(err)
				}
				if len(answer) > n {
					t.Errorf("%d bytes answer %d", len(answer), n)
				}
				server.WriteToUDPAddrPort(answer, from)
				break
			}
			var refused *quic.TransportError
			if err := <-done; !errors.As(err, &refused) || !refused.Remote || refused.ErrorCode != 0x100+quic.TransportErrorCode(UnrecognizedName) {
				t.Errorf("the client says: %v", err)
			}
		})
	}
}
