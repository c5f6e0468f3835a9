package webproxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"aarch64.com/isthmus/perf/internal/bench"
)

// Keys of the proxies, as in [Options] and in the JSON document.
const (
	Isthmus     = "isthmus"
	HAProxy     = "haproxy"      // which splices all it can
	HAProxyAuto = "haproxy-auto" // which splices where it thinks that it pays
	Nginx       = "nginx"
)

// proxy is a program that relays TLS by its server name.
type proxy struct {
	key, name string
	weighed   bool          // its idle connections; one HAProxy is like the other there
	missing   func() string // what to install; "" if there is nothing missing
	// command to run, which listens at the address. Its files are its own.
	command func(w *world, o *Options, at netip.AddrPort) (*exec.Cmd, error)
}

// streamModule is what nginx reads the server name with; in Debian a package of its
// own.
const streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

func proxies() []proxy {
	return []proxy{
		{Isthmus, "isthmus", true, func() string { return "" }, isthmus("isthmus", "")},
		{HAProxy, "HAProxy", true, needs("haproxy", "haproxy"), haproxy(HAProxy, "splice-request", "splice-response")},
		{HAProxyAuto, "HAProxy, auto", false, needs("haproxy", "haproxy"), haproxy(HAProxyAuto, "splice-auto")},
		{Nginx, "nginx", true, func() string {
			if m := needs("nginx", "nginx libnginx-mod-stream")(); m != "" {
				return m
			}
			if _, err := os.Stat(streamModule); err != nil {
				return "not installed: apt install libnginx-mod-stream"
			}
			return ""
		}, nginx},
	}
}

func needs(program, packages string) func() string {
	return func() string {
		if _, err := exec.LookPath(program); err != nil {
			return "not installed: apt install " + packages
		}
		return ""
	}
}

// others are more builds of isthmus, to compare it with itself.
func others(o *Options) (list []proxy) {
	for i, binary := range o.Also {
		name := filepath.Base(binary)
		list = append(list, proxy{binary, name, true, func() string { return "" }, isthmus(fmt.Sprintf("isthmus%d", i), binary)})
	}
	return list
}

// isthmus is the web proxy alone; binary "" is Options.Binary.
func isthmus(name, binary string) func(*world, *Options, netip.AddrPort) (*exec.Cmd, error) {
	return func(w *world, o *Options, at netip.AddrPort) (*exec.Cmd, error) {
		return isthmusCommand(w, o, name, cmp.Or(binary, o.Binary), at)
	}
}

func isthmusCommand(w *world, o *Options, name, binary string, at netip.AddrPort) (*exec.Cmd, error) {
	routes, err := bench.Keep(w.proxy, name+"-routes.toml", fmt.Appendf(nil, "[[route]]\nhost = %q\nbackends = [%q]\n", site, vmAddr))
	if err != nil {
		return nil, err
	}
	file, err := bench.Keep(w.proxy, name+".toml", []byte(isthmusConfig(o, name, routes, at)))
	if err != nil {
		return nil, err
	}
	return bench.Pinned(w.theirs, binary, "run", "--only", "proxy", "-c", file), nil
}

// isthmusConfig has the limits that one machine would reach which plays all clients
// of one site.
func isthmusConfig(o *Options, name, routes string, at netip.AddrPort) string {
	return fmt.Sprintf(`
[router]
state_dir = "/var/lib/%[1]s"
[metrics]
listen = ""
[control]
socket = "/run/%[1]s.sock"
[proxy]
listen_https = ["%[2]s"]
vm_prefixes = ["%[3]s"]
routes_file = "%[4]s"
drain_timeout = "1s"
[proxy.limits]
connections = %[5]d
connections_per_client = %[5]d
connections_per_host = %[5]d
connections_per_project = %[5]d
quic_flows = 1
`, name, at, vms, routes, o.Connections+spare)
}

// spare is how many connections more than those that idle a proxy has to take.
const spare = 100

// haproxy has it splice by these options, which it does not by itself. Each of
// its pipes takes two descriptors more, for a quarter of the connections if it isn't
// told.
func haproxy(key string, options ...string) func(*world, *Options, netip.AddrPort) (*exec.Cmd, error) {
	return func(w *world, o *Options, at netip.AddrPort) (*exec.Cmd, error) {
		file, err := bench.Keep(w.proxy, key+".cfg", fmt.Appendf(nil, `
global
  nbthread 1
  maxconn %d
  maxpipes 64
defaults
  mode tcp
  timeout connect 3s
  timeout client 10m
  timeout server 10m
  option %s
frontend visitors
  bind %s defer-accept
  tcp-request inspect-delay 10s
  tcp-request content accept if { req_ssl_hello_type 1 }
  use_backend vm if { req_ssl_sni -i %s }
backend vm
  server vm [%s]:%d
`, o.Connections+spare, strings.Join(options, "\n  option "), at, site, vmAddr, httpsPort))
		if err != nil {
			return nil, err
		}
		return bench.Pinned(w.theirs, "haproxy", "-db", "-f", file), nil
	}
}

// nginx has one worker. A connection of its own is one of either side.
func nginx(w *world, o *Options, at netip.AddrPort) (*exec.Cmd, error) {
	file, err := bench.Keep(w.proxy, "nginx.conf", fmt.Appendf(nil, `
load_module %s;
daemon off;
worker_processes 1;
worker_rlimit_nofile %d;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections %d; }
stream {
  map $ssl_preread_server_name $vm { %s [%s]:%d; }
  server {
    listen %s backlog=4096;
    ssl_preread on;
    proxy_pass $vm;
  }
}
`, streamModule, 2*(o.Connections+2*spare), 2*(o.Connections+spare), site, vmAddr, httpsPort, at))
	if err != nil {
		return nil, err
	}
	return bench.Pinned(w.theirs, "nginx", "-e", "stderr", "-c", file), nil
}
