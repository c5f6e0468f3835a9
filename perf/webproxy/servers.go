package webproxy

import (
	"fmt"
	"os"
	"os/exec"
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
	start     func(*world, *Options) (*bench.Process, error)
}

// streamModule is what nginx reads the server name with; in Debian a package of its
// own.
const streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

func proxies() []proxy {
	return []proxy{
		{Isthmus, "isthmus", true, func() string { return "" }, startIsthmus},
		{HAProxy, "HAProxy", true, needs("haproxy", "haproxy"), startHAProxy("splice-request", "splice-response")},
		{HAProxyAuto, "HAProxy, auto", false, needs("haproxy", "haproxy"), startHAProxy("splice-auto")},
		{Nginx, "nginx", true, func() string {
			if m := needs("nginx", "nginx libnginx-mod-stream")(); m != "" {
				return m
			}
			if _, err := os.Stat(streamModule); err != nil {
				return "not installed: apt install libnginx-mod-stream"
			}
			return ""
		}, startNginx},
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

// startIsthmus starts the web proxy alone.
func startIsthmus(w *world, o *Options) (*bench.Process, error) {
	if _, err := bench.Keep(w.proxy, "routes.toml", fmt.Appendf(nil,
		"[[route]]\nhost = %q\nbackends = [%q]\n", site, vmAddr)); err != nil {
		return nil, err
	}
	file, err := bench.Keep(w.proxy, "isthmus.toml", []byte(isthmusConfig(o)))
	if err != nil {
		return nil, err
	}
	return bench.StartProcess(w.proxy, w.dir, bench.Pinned(w.theirs, o.Binary, "run", "--only", "proxy", "-c", file))
}

// isthmusConfig has the limits that one machine would reach which plays all clients
// of one site.
func isthmusConfig(o *Options) string {
	return fmt.Sprintf(`
[router]
state_dir = "/var/lib/isthmus"
[metrics]
listen = ""
[control]
socket = "/run/control.sock"
[proxy]
listen_https = ["%s:%d"]
vm_prefixes = ["%s"]
routes_file = "/var/lib/routes.toml"
drain_timeout = "1s"
[proxy.limits]
connections = %[4]d
connections_per_client = %[4]d
connections_per_host = %[4]d
connections_per_project = %[4]d
quic_flows = 1
`, proxyAddr, httpsPort, vms, o.Connections+spare)
}

// spare is how many connections more than those that idle a proxy has to take.
const spare = 100

// startHAProxy has it splice by these options, which it does not by itself. Each of
// its pipes takes two descriptors more, for a quarter of the connections if it isn't
// told.
func startHAProxy(options ...string) func(*world, *Options) (*bench.Process, error) {
	return func(w *world, o *Options) (*bench.Process, error) {
		file, err := bench.Keep(w.proxy, "haproxy.cfg", fmt.Appendf(nil, `
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
  bind %s:%d
  tcp-request inspect-delay 10s
  tcp-request content accept if { req_ssl_hello_type 1 }
  use_backend vm if { req_ssl_sni -i %s }
backend vm
  server vm [%s]:%d
`, o.Connections+spare, strings.Join(options, "\n  option "), proxyAddr, httpsPort, site, vmAddr, httpsPort))
		if err != nil {
			return nil, err
		}
		return bench.StartProcess(w.proxy, w.dir, bench.Pinned(w.theirs, "haproxy", "-db", "-f", file))
	}
}

// startNginx has one worker. A connection of its own is one of either side.
func startNginx(w *world, o *Options) (*bench.Process, error) {
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
    listen %s:%d backlog=4096;
    ssl_preread on;
    proxy_pass $vm;
  }
}
`, streamModule, 2*(o.Connections+2*spare), 2*(o.Connections+spare), site, vmAddr, httpsPort, proxyAddr, httpsPort))
	if err != nil {
		return nil, err
	}
	return bench.StartProcess(w.proxy, w.dir, bench.Pinned(w.theirs, "nginx", "-e", "stderr", "-c", file))
}
