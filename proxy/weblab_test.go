package proxy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/proxy/routes"
)

// Addresses of the lab, from the ranges set apart for documentation.
const (
	labProxy  = "198.51.100.1"
	labClient = "198.51.100.2"
	labVM     = "2001:db8:64::aa64"
)

// labNginx serves port 80, and port 81 with the PROXY protocol in any version.
const labNginx = `daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr;
events { }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	client_max_body_size 0;
	server {
		listen [::]:80;
		listen [::]:81 proxy_protocol;
		location / { return 200 "$server_port $host $proxy_protocol_addr>$proxy_protocol_server_addr $http_x_forwarded_for $http_x_forwarded_proto\n"; }
		location /file { root %[1]s; }
		location /upload { proxy_pass http://[::1]:82; }
	}
	server {
		listen [::1]:82;
		location / { return 200 "$content_length\n"; }
	}
}
`

// curl and nginx, each in a network of its own:
//
//	client eth0 --- eth0 hypervisor vm0 --- eth0 vm
func TestWebLab(t *testing.T) {
	labtest.NeedProgram(t, "curl", "curl")
	labtest.NeedProgram(t, "nginx", "nginx")
	l := labtest.New(t, "web")
	client, hypervisor, machine := labtest.Host(t, l, "client"), labtest.Host(t, l, "hypervisor"), labtest.Host(t, l, "vm")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fast := lab.LinkConfig{ChecksumOffload: true, GRO: true}
	must(l.Link(client, hypervisor, fast))
	fast.NameB = "vm0"
	must(l.Link(machine, hypervisor, fast))
	must(client.Addr("eth0", labClient+"/24"))
	must(hypervisor.Addr("eth0", labProxy+"/24"))
	must(hypervisor.Addr("vm0", "2001:db8:64::1/64"))
	must(machine.Addr("eth0", labVM+"/64"))

	dir := t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "nginx.conf"), fmt.Appendf(nil, labNginx, dir), 0o644)
	must(err)
	file := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	must(os.WriteFile(filepath.Join(dir, "file"), file, 0o644))
	nginx := exec.Command("nginx", "-c", filepath.Join(dir, "nginx.conf"))
	var said bytes.Buffer
	nginx.Stderr = &said
	must(machine.Start(nginx))
	t.Cleanup(func() {
		_ = nginx.Process.Kill()
		_ = nginx.Wait()
		if t.Failed() {
			t.Logf("nginx: %s", &said)
		}
	})
	eventually(t, "nginx listens", func() bool {
		c, err := hypervisor.Dial(context.Background(), "tcp6", "["+labVM+"]:81")
		if err == nil {
			c.Close()
		}
		return err == nil
	})

	vm := []netip.Addr{netip.MustParseAddr(labVM)}
	s, err := routes.NewSnapshot(1, []routes.Route{
		{Host: "plain.example", Backends: vm, HTTP: 80},
		{Host: "v1.example", Backends: vm, HTTP: 81, Header: routes.HeaderV1},
		{Host: "v2.example", Backends: vm, HTTP: 81, Header: routes.HeaderV2},
	})
	must(err)
	table := &routes.Table{}
	table.Store(s)
	var server *Server
	must(hypervisor.Do(func() (err error) {
		server, err = New(Config{
			HTTP: []netip.AddrPort{netip.MustParseAddrPort(labProxy + ":80")}, Routes: table,
			Reach:  func(netip.Addr) error { return nil },
			Limits: Limits{Connections: 100},
			connect: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
				return hypervisor.Dial(ctx, "tcp6", to.String())
			},
		})
		return err
	}))
	t.Cleanup(func() {
		ended, end := context.WithCancel(context.Background())
		end()
		server.Shutdown(ended)
	})

	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"HTTP/1.1", []string{"http://plain.example/"}, "80 plain.example > " + labClient + " http\n"},
		{"HTTP/1.0", []string{"-0", "http://plain.example/"}, "80 plain.example > " + labClient + " http\n"},
		{"HTTP/2", []string{"--http2-prior-knowledge", "http://plain.example/"}, "80 plain.example > " + labClient + " http\n"},
		{"h2c is not for proxies", []string{"--http2", "http://plain.example/"}, "80 plain.example > " + labClient + " http\n"},
		{"PROXY protocol 1", []string{"http://v1.example/", "http://v1.example/"},
			strings.Repeat("81 v1.example "+labClient+">"+labProxy+" "+labClient+" http\n", 2)},
		{"PROXY protocol 2", []string{"http://v2.example/"}, "81 v2.example " + labClient + ">" + labProxy + " " + labClient + " http\n"},
		{"a file", []string{"http://v2.example/file"}, string(file)},
		{"a file over HTTP/2", []string{"--http2-prior-knowledge", "http://plain.example/file"}, string(file)},
		{"a part of it", []string{"-r", "3-5", "http://plain.example/file"}, "345"},
		{"upload", []string{"-T", filepath.Join(dir, "file"), "http://plain.example/upload"}, fmt.Sprintln(len(file))},
		{"upload after 100-continue", []string{"-H", "Expect: 100-continue", "--expect100-timeout", "60", "-T", filepath.Join(dir, "file"), "http://v1.example/upload"}, fmt.Sprintln(len(file))},
		{"upload in chunks", []string{"-H", "Transfer-Encoding: chunked", "-T", filepath.Join(dir, "file"), "http://plain.example/upload"}, fmt.Sprintln(len(file))},
		{"HEAD", []string{"-I", "-o", "/dev/null", "-w", "%{http_code} %header{content-length}\n", "http://plain.example/file"}, fmt.Sprintf("200 %d\n", len(file))},
		{"no such site", []string{"-o", "/dev/null", "-w", "%{http_code}\n", "http://other.example/"}, "404\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			cmd := exec.Command("curl", append([]string{"-sS", "--max-time", "60", "--connect-to", "::" + labProxy + ":80"}, c.args...)...)
			cmd.Stdout, cmd.Stderr = &out, &errs
			must(client.Start(cmd))
			err := cmd.Wait()
			if err != nil || out.String() != c.want {
				t.Errorf("%v, %.200q, want %.200q; %s", err, &out, c.want, &errs)
			}
		})
	}
}
