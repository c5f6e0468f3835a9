package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

const (
	proxyAddr4 = "192.0.2.1"
	shopAddr   = "2001:db8:64::2"
	blogAddr   = "2001:db8:65::2"
)

// proxyLab is a visitor with IPv4 only, a host whose web proxy runs as nobody, and
// two VMs with web servers, which say their name and the request's Host.
type proxyLab struct {
	t             *testing.T
	lab           *lab.Lab
	visitor, host *lab.Host
	dir           string
	socket        string
}

func proxyRoute(host, vm string) string {
	return fmt.Sprintf("[[route]]\nhost = %q\nbackends = [%q]\n", host, vm)
}

var proxyRoutes = proxyRoute("www.shop.example", shopAddr) + "project = 'shop'\n" + proxyRoute("*.blog.example", blogAddr)

func newProxyLab(t *testing.T, more string) *proxyLab {
	t.Helper()
	labtest.NeedProgram(t, "curl", "curl")
	l := labtest.New(t, "proxyd")
	p := &proxyLab{t: t, lab: l, visitor: labtest.Host(t, l, "visitor"), host: labtest.Host(t, l, "host")}
	shop, blog := labtest.Host(t, l, "shop"), labtest.Host(t, l, "blog")
	dir, err := os.MkdirTemp("", "isthmus-proxy-")
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(err, os.Chown(dir, nobody, nobody),
		l.Link(p.visitor, p.host, lab.LinkConfig{NameA: "eth0", NameB: "wan0"}),
		l.Link(p.host, shop, lab.LinkConfig{NameA: "vm0", NameB: "eth0"}),
		l.Link(p.host, blog, lab.LinkConfig{NameA: "vm1", NameB: "eth0"}),
		p.visitor.Addr("eth0", "192.0.2.9/24"), p.host.Addr("wan0", proxyAddr4+"/24"),
		p.host.Addr("vm0", "2001:db8:64::1/64"), shop.Addr("eth0", shopAddr+"/64"),
		p.host.Addr("vm1", "2001:db8:65::1/64"), blog.Addr("eth0", blogAddr+"/64"),
	); err != nil {
		t.Fatal(err)
	}
	webServer(t, shop, "shop", shopAddr)
	webServer(t, blog, "blog", blogAddr)
	p.dir, p.socket = dir, filepath.Join(dir, "control.sock")
	p.write("routes.toml", proxyRoutes)
	p.write("isthmus.toml", fmt.Sprintf(`
[control]
socket = %q
[proxy]
listen_http = ["%s:8080"]
listen_https = ["%[2]s:8443"]
listen_quic = ["%[2]s:8443"]
vm_prefixes = ["2001:db8:64::/64", "2001:db8:65::/64"]
routes_file = "%[3]s/routes.toml"
access_log = "%[3]s/access.json"
%[4]s`, p.socket, proxyAddr4, dir, more))
	return p
}

// webServer serves HTTP and HTTPS on a VM until the test ends. /slow answers a
// second later, and in two parts.
func webServer(t *testing.T, vm *lab.Host, name, address string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
	for port, serve := range map[string]func(*http.Server, net.Listener) error{
		"80": (*http.Server).Serve, "443": func(s *http.Server, l net.Listener) error { return s.ServeTLS(l, "", "") },
	} {
		s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), TLSConfig: config.Clone(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s for %s %s\n", name, r.Host, r.Header.Get("X-Forwarded-For"))
			if r.URL.Path == "/slow" {
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
				fmt.Fprintln(w, "to the end")
			}
		})}
		t.Cleanup(func() { s.Close() })
		l, err := vm.Listen("tcp", net.JoinHostPort(address, port))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = serve(s, l) }()
	}
}

// write replaces a file as a careful writer does.
func (p *proxyLab) write(name, content string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := errors.Join(os.WriteFile(path+".new", []byte(content), 0o600), os.Chown(path+".new", nobody, nobody), os.Rename(path+".new", path)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *proxyLab) start() *process {
	p.t.Helper()
	s := startAs(p.t, p.host, nobody, nil, "run", "--only", "proxy", "-c", filepath.Join(p.dir, "isthmus.toml"))
	s.wait(`"message":"ready"`)
	return s
}

// curl fetches a page as the visitor, and gives what it says.
func (p *proxyLab) curl(url string) (string, error) {
	scheme, rest, _ := strings.Cut(url, "://")
	host, path, _ := strings.Cut(rest, "/")
	port := map[string]string{"http": "8080", "https": "8443"}[scheme]
	c := exec.Command("curl", "-sS", "-k", "--max-time", "20", "--resolve", host+":"+port+":"+proxyAddr4, scheme+"://"+host+":"+port+"/"+path)
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	if err := p.visitor.Start(c); err != nil {
		return "", err
	}
	err := c.Wait()
	return out.String(), err
}

// gets fails unless a page begins with want.
func (p *proxyLab) gets(url, want string) {
	p.t.Helper()
	if got, err := p.curl(url); err != nil || !strings.HasPrefix(got, want) {
		p.t.Errorf("%s: %q, %v, want %s", url, got, err, want)
	}
}

func (p *proxyLab) status() (s status) {
	p.t.Helper()
	code, out, errs := isthmus("status", "--json", "--socket", p.socket)
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil || s.Proxy == nil {
		p.t.Fatalf("status: %d %s %v", code, errs, err)
	}
	return s
}

func TestWebProxy(t *testing.T) {
	p := newProxyLab(t, "")
	s := p.start()
	if found := leftovers(t, p.host, "vm0", "vm1", "wan0"); found != nil {
		t.Errorf("a web proxy alone made %q", found)
	}
	p.gets("http://www.shop.example/", "shop for www.shop.example:8080 192.0.2.9")
	p.gets("https://www.shop.example/", "shop for www.shop.example:8443 ")
	p.gets("http://a.blog.example/", "blog for a.blog.example:8080 192.0.2.9")
	p.gets("https://a.blog.example/", "blog for a.blog.example:8443 ")
	if got, err := p.curl("https://unknown.example/"); err == nil || !strings.Contains(got, "unrecognized name") {
		t.Errorf("an unknown name: %q, %v", got, err)
	}

	// A new route holds for the next visitor, and so does one that has gone.
	p.write("routes.toml", proxyRoutes+proxyRoute("new.example", blogAddr))
	s.wait("1 added, 0 removed, 0 changed")
	p.gets("https://new.example/", "blog for new.example")
	p.gets("http://new.example/", "blog for new.example")
	// A file that is wrong changes nothing, and says where.
	p.write("routes.toml", proxyRoute("www.shop.example", blogAddr)+"[[route]]\nhost = 'b.example'\nbackends = ['::1']\n")
	s.wait(`routes.toml:6:13: \"b.example\".backends[0]: ::1: a special address is no VM's`)
	s.wait("has 1 mistakes and is not used; going on with the 3 routes of before")
	p.gets("https://www.shop.example/", "shop")
	st := p.status()
	if r := st.Proxy.Routes; r.Routes != 3 || r.Revision != 2 || !strings.Contains(r.Problem, "a special address") {
		t.Errorf("routes: %+v", r)
	}
	// As is one that leads to the host itself.
	p.write("routes.toml", proxyRoute("www.shop.example", "2001:db8:64::1"))
	s.wait("2001:db8:64::1: no address of a VM")
	p.gets("http://www.shop.example/", "shop")
	p.write("routes.toml", proxyRoutes)
	s.wait("0 added, 1 removed, 0 changed")

	st = p.status()
	if n := st.Proxy.Results["tls"]; n["served"] < 4 || n["unknown_host"] != 1 {
		t.Errorf("results: %+v", st.Proxy)
	}
	if st.Proxy.Results["http1"]["served"] != 4 || len(st.Proxy.TopRequests) == 0 || st.Proxy.TopRequests[0].Host != "www.shop.example" {
		t.Errorf("results: %+v", st.Proxy)
	}
	_, out, _ := isthmus("status", "--socket", p.socket)
	if !strings.Contains(out, "most requests") || !strings.Contains(out, "routes         2, revision 3") || strings.Contains(out, "pool6") {
		t.Errorf("status:\n%s", out)
	}
	_, body := s.get("/metrics")
	for _, want := range []string{
		`isthmus_proxy_results_total{protocol="http1",result="served"} 4`, `isthmus_proxy_results_total{protocol="tls",result="unknown_host"} 1`,
		`isthmus_proxy_routes 2`, `isthmus_proxy_routes_revision 3`, `isthmus_proxy_routes_file_errors_total 2`, `isthmus_proxy_routes_file_bad 0`,
		`isthmus_proxy_first_byte_seconds_count{protocol="http1"} 4`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("/metrics: no %s", want)
		}
	}
	s.signal(syscall.SIGTERM)
	if status := s.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(s.seen, "\n"))
	}
	content, err := os.ReadFile(filepath.Join(p.dir, "access.json"))
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if err != nil || len(lines) < 9 {
		t.Fatalf("access log: %s, %v", content, err)
	}
	for _, l := range lines {
		var line struct{ Protocol, Client, Result string }
		if err := json.Unmarshal([]byte(l), &line); err != nil || !strings.HasPrefix(line.Client, "192.0.2.9:") || line.Protocol == "" || line.Result == "" {
			t.Errorf("access log: %s, %v", l, err)
		}
	}
}

// The old process ends what it began while the next one serves who comes.
func TestWebProxyTakeover(t *testing.T) {
	p := newProxyLab(t, "drain_timeout = '1m'\n")
	migrate := func(v string) {
		if err := p.host.Sysctl("net.ipv4.tcp_migrate_req", v); err != nil {
			t.Fatal(err)
		}
	}
	warned := func(s *process) bool { return strings.Contains(strings.Join(s.seen, "\n"), "tcp_migrate_req is 0") }
	migrate("0")
	old := p.start()
	if warned(old) {
		t.Error("a warning about a takeover without another process")
	}
	slow := make(chan string, 2)
	for _, url := range []string{"http://www.shop.example/slow", "https://www.shop.example/slow"} {
		go func() {
			out, err := p.curl(url)
			slow <- fmt.Sprintf("%s %v", out, err)
		}()
	}
	for end := time.Now().Add(patience); p.status().Proxy.Connections < 2 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	next := p.start()
	if !warned(next) {
		t.Error("no warning that connections may be lost")
	}
	// The kernel hands over connections that nobody has accepted yet.
	migrate("1")
	old.signal(syscall.SIGTERM)
	old.wait("takes no more visitors")
	for range 10 {
		p.gets("http://www.shop.example/", "shop")
		p.gets("https://a.blog.example/", "blog")
	}
	for range 2 {
		if got := <-slow; !strings.HasSuffix(got, "to the end\n <nil>") {
			t.Errorf("a page under way: %q", got)
		}
	}
	if status := old.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(old.seen, "\n"))
	}
	if st := p.status(); st.PID != next.cmd.Process.Pid {
		t.Errorf("process %d answers on the control socket, not the next one", st.PID)
	}
	next.signal(syscall.SIGINT)
	if status := next.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(next.seen, "\n"))
	}
}

// A reload applies prefixes, unless routes lead outside of them.
func TestWebProxyReload(t *testing.T) {
	p := newProxyLab(t, "")
	s := p.start()
	file := filepath.Join(p.dir, "isthmus.toml")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p.write("isthmus.toml", strings.Replace(string(content), `, "2001:db8:65::/64"]`, "]", 1))
	s.signal(syscall.SIGHUP)
	s.wait("2001:db8:65::2: no address of a VM")
	s.wait("reload rejected")
	p.gets("https://a.blog.example/", "blog")
	p.write("routes.toml", proxyRoute("www.shop.example", shopAddr))
	s.wait("0 added, 1 removed")
	s.signal(syscall.SIGHUP)
	s.wait(`"message":"reloaded"`)
	p.write("routes.toml", proxyRoutes)
	s.wait("2001:db8:65::2: no address of a VM")
	p.gets("https://www.shop.example/", "shop")
}

func TestWebProxyThatCannotStart(t *testing.T) {
	p := newProxyLab(t, "")
	p.write("routes.toml", "[[route]]\n")
	for _, want := range []string{"routes.toml:1:3: route[0].host: missing", "no such file; make it"} {
		s := startAs(t, p.host, nobody, nil, "run", "--only", "proxy", "-c", filepath.Join(p.dir, "isthmus.toml"))
		if status := s.end(); status != 1 || !strings.Contains(strings.Join(s.seen, "\n"), want) {
			t.Errorf("status %d; it said\n%s\nwant %s", status, strings.Join(s.seen, "\n"), want)
		}
		os.Remove(filepath.Join(p.dir, "routes.toml"))
	}
}
