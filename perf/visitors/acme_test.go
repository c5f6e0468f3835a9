package visitors

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// acmeServer is a certificate authority that looks at a host by connecting to it.
type acmeServer struct {
	directory string
	root      string // what its certificates are trusted by, once it has issued one
}

// pebble starts one at acme.example. It knows the sites by their IPv4 address alone.
func (w *world) pebble() acmeServer {
	w.t.Helper()
	labtest.NeedProgram(w.t, "pebble", "pebble")
	id := w.certs.identity("acme.example")
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "[::]:14000", "managementListenAddress": "[::]:15000",
		"certificate": id.cert, "privateKey": id.key, "httpPort": 80, "tlsPort": 443,
	}})
	must(w.t, err)
	file := filepath.Join(w.dir, "pebble.json")
	w.replace(file, string(config))
	p := exec.Command("pebble", "-config", file, "-dnsserver", caAddr4+":53")
	// It sleeps up to 15 s before it looks, and refuses good nonces, for the sake of
	// its own tests.
	p.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0")
	w.serve(w.ca, 15000, p)
	return acmeServer{directory: "https://acme.example:14000/dir", root: filepath.Join(w.dir, "pebble-root.pem")}
}

// trusted fetches the root of the certificates that were issued.
func (w *world) trusted(a acmeServer) string {
	w.t.Helper()
	out, err := command(w.vm, "curl", "-sS", "--cacert", w.certs.file, "https://acme.example:15000/roots/0")
	must(w.t, err)
	w.replace(a.root, out)
	return a.root
}

// TestACME: VMs get certificates by proving that a host is theirs, and the proof
// comes by way of the proxy.
func TestACME(t *testing.T) {
	t.Parallel()
	sites := []route{
		{"http01.example", vmAddr, ""},
		{"alpn01.example", vmAddr, "http = 0\nhttps = 8443"},
	}
	w := newWorld(t, "", sites...)
	n := w.nginx(w.vm, "nginx", w.certs.identity("http01.example"))
	w.start()
	ca := w.pebble()

	t.Run("http-01 by dehydrated", func(t *testing.T) {
		labtest.NeedProgram(t, "dehydrated", "dehydrated")
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(n.dir, "www/.well-known/acme-challenge"), 0o755))
		config := filepath.Join(dir, "config")
		w.replace(config, fmt.Sprintf("CA=%q\nBASEDIR=%q\nWELLKNOWN=%q\nCURL_OPTS='--cacert %s'\nKEY_ALGO=prime256v1\nACCOUNT_KEY_ALGO=prime256v1\n",
			ca.directory, dir, filepath.Join(n.dir, "www/.well-known/acme-challenge"), w.certs.file))
		dehydrated := func(args ...string) (string, error) {
			return command(w.vm, "dehydrated", append([]string{"--config", config}, args...)...)
		}
		_, err := dehydrated("--register", "--accept-terms")
		must(t, err)
		out, err := dehydrated("--cron", "--domain", "http01.example")
		if err != nil || !strings.Contains(out, "Done!") {
			t.Fatalf("%s, %v", out, err)
		}
		n.logged("80 HTTP/1.1 http01.example /.well-known/acme-challenge/")
		certs := filepath.Join(dir, "certs/http01.example")
		n.restart(identity{cert: filepath.Join(certs, "fullchain.pem"), key: filepath.Join(certs, "privkey.pem")})
		if got, err := w.curl("--cacert", w.trusted(ca), "https://http01.example/who"); err != nil || !strings.HasPrefix(got, "nginx 443 HTTP/2.0 TLSv1.3") {
			t.Errorf("%q, %v", got, err)
		}
	})

	t.Run("tls-alpn-01 by autocert", func(t *testing.T) {
		m := &autocert.Manager{
			Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist("alpn01.example"),
			Client: &acme.Client{DirectoryURL: ca.directory, HTTPClient: &http.Client{Transport: &http.Transport{
				DialContext: w.vm.Dial, TLSClientConfig: &tls.Config{RootCAs: w.certs.pool},
			}}},
		}
		// What a challenge comes by: the hello says which protocol.
		asked := make(chan string, 10)
		config := m.TLSConfig()
		get := config.GetCertificate
		config.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			asked <- strings.Join(h.SupportedProtos, ",")
			return get(h)
		}
		l, err := w.vm.Listen("tcp6", ":8443")
		must(t, err)
		s := &http.Server{TLSConfig: config, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(rw, "certified "+r.TLS.ServerName)
		})}
		t.Cleanup(func() { s.Close() })
		go func() { _ = s.ServeTLS(l, "", "") }()

		// The first visitor has the VM fetch a certificate.
		raw, err := w.visitor.Dial(w.timeout(), "tcp", "alpn01.example:443")
		must(t, err)
		defer raw.Close()
		first := tls.Client(raw, &tls.Config{ServerName: "alpn01.example", InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		must(t, first.HandshakeContext(w.timeout()))
		if a, b := <-asked, <-asked; a != "h2" || b != acme.ALPNProto {
			t.Errorf("the VM was asked for %q, then %q", a, b)
		}
		if got, err := w.curl("--cacert", w.trusted(ca), "https://alpn01.example/"); err != nil || got != "certified alpn01.example" {
			t.Errorf("%q, %v", got, err)
		}
		l1 := w.logged("the CA's visit", func(l line) bool { return l.Host == "alpn01.example" && strings.HasPrefix(l.Client, caAddr4) })
		if l1.Result != "served" || l1.VM != net.JoinHostPort(vmAddr, "8443") {
			t.Errorf("%+v", l1)
		}
	})
}
