package proxy

import (
	"bytes"
	cryptotls "crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/proxy/routes"
)

// nginxVM is a VM with nginx at [::1], which expects the PROXY protocol and says
// who the visitor is.
type nginxVM struct {
	port  uint16
	roots string // file
}

func newNginx(t *testing.T, host string) nginxVM {
	t.Helper()
	labtest.NeedProgram(t, "nginx", "nginx")
	labtest.NeedProgram(t, "curl", "curl")
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, _ := certificate(t, host)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	crt := file("crt.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	port := freePort(t, "::1")
	conf := file("nginx.conf", fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	server {
		listen [::1]:%[2]d ssl http2 proxy_protocol;
		ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate %[3]s; ssl_certificate_key %[4]s;
		location / { return 200 "$proxy_protocol_addr $proxy_protocol_server_addr $proxy_protocol_server_port $server_protocol"; }
	}
}
`, dir, port, crt, file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))))
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx"
	}
	cmd := exec.Command(program, "-c", conf, "-e", filepath.Join(dir, "error"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort("::1", fmt.Sprint(port)))
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return nginxVM{port, crt}
}

func (w *world) curl(host string, args ...string) (string, error) {
	args = append([]string{"-sS", "--max-time", "20", "--connect-to", host + ":443:" + w.at.String(), "https://" + host + "/"}, args...)
	var out, complaint bytes.Buffer
	cmd := exec.Command("curl", args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, complaint.String())
	}
	return out.String(), nil
}

func TestTLSCurlAndNginx(t *testing.T) {
	vm := newNginx(t, "www.example.com")
	for _, header := range []routes.Header{routes.HeaderV1, routes.HeaderV2} {
		r := route("www.example.com", vm.port)
		r.Header = header
		w := newWorld(t, nil, r)
		for _, c := range []struct{ flag, protocol string }{
			{"--http1.1", "HTTP/1.1"}, {"--http2", "HTTP/2.0"}, {"--tls-max=1.2", "HTTP/2.0"}, {"--tlsv1.3", "HTTP/2.0"},
		} {
			args := []string{"--cacert", vm.roots, c.flag}
			if c.flag == "--tls-max=1.2" {
				args = []string{"--cacert", vm.roots, "--tls-max", "1.2"}
			}
			got, err := w.curl("www.example.com", args...)
			want := fmt.Sprintf("127.0.0.1 127.0.0.1 %d %s", w.at.Port(), c.protocol)
			if err != nil || got != want {
				t.Errorf("PROXY v%d, %s: %q, %v, want %q", header, c.flag, got, err, want)
			}
		}
		_, err := w.curl("unknown.example.com")
		if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("curl says of an unknown name: %v", err)
		}
	}
}

// dribble sends byte by byte.
type dribble struct{ net.Conn }

func (d dribble) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func TestTLSSingleBytes(t *testing.T) {
	a := newVM(t, "a", "a.example")
	w := newWorld(t, nil, route("a.example", a.port))
	raw, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	// With a post-quantum key share, more than one packet anyway.
	c := cryptotls.Client(dribble{raw}, &cryptotls.Config{ServerName: "a.example", RootCAs: a.roots})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "a \n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestTLSOpenSSL(t *testing.T) {
	labtest.NeedProgram(t, "openssl", "openssl")
	a := newVM(t, "a", "a.example")
	w := newWorld(t, nil, route("a.example", a.port))
	for _, args := range [][]string{{"-tls1_2"}, {"-tls1_3"}, {"-tls1_3", "-groups", "X448:P-256"}, {"-alpn", "acme-tls/1"}} {
		cmd := exec.Command("openssl", append([]string{"s_client", "-quiet", "-connect", w.at.String(), "-servername", "a.example"}, args...)...)
		in, err := cmd.StdinPipe() // held open: s_client ends with it
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		b := make([]byte, 2)
		_, err = io.ReadFull(out, b)
		if err != nil || string(b) != "a " {
			t.Errorf("%v: %q, %v", args, b, err)
		}
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		stop.Stop()
	}
}
