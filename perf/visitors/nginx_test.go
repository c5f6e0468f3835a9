package visitors

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// echoPort is where the VM's WebSocket server listens, behind nginx.
const echoPort = 9000

// nginxConf serves the same on ports 80 and 443, and on 81 and 444 to those who
// speak the PROXY protocol first.
const nginxConf = `daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr;
events { }
http {
	include /etc/nginx/mime.types;
	log_format visitor '$server_port $server_protocol $host $uri $status proxy=$proxy_protocol_addr for=$http_x_forwarded_for';
	access_log %[1]s/access visitor;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen [::]:80;
		listen [::]:81 proxy_protocol;
		listen [::]:443 ssl http2;
		listen [::]:444 ssl http2 proxy_protocol;
		ssl_certificate %[2]s; ssl_certificate_key %[3]s;
		ssl_protocols TLSv1.2 TLSv1.3;
		root %[1]s/www;
		location = /who { return 200 "%[4]s $server_port $server_protocol $ssl_protocol $proxy_protocol_addr $http_x_forwarded_for\n"; }
		location = /ws {
			proxy_pass http://[::1]:%[5]d;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection upgrade;
			proxy_set_header Host $host;
		}
	}
}
`

// nginx is one with a document root.
type nginx struct {
	w    *world
	host *lab.Host
	name string
	dir  string
	p    *bench.Process
}

// nginx starts one on a VM. /who tells its name.
func (w *world) nginx(h *lab.Host, name string, id identity) *nginx {
	w.t.Helper()
	labtest.NeedProgram(w.t, "nginx", "nginx")
	n := &nginx{w: w, host: h, name: name, dir: w.t.TempDir()}
	must(w.t, os.Mkdir(filepath.Join(n.dir, "www"), 0o755))
	n.start(id)
	return n
}

func (n *nginx) start(id identity) {
	n.w.t.Helper()
	conf := filepath.Join(n.dir, "nginx.conf")
	must(n.w.t, os.WriteFile(conf, fmt.Appendf(nil, nginxConf, n.dir, id.cert, id.key, n.name, echoPort), 0o644))
	n.p = n.w.serve(n.host, 444, sbin("nginx", "-c", conf, "-e", "stderr"))
}

// restart gives it another certificate.
func (n *nginx) restart(id identity) {
	n.w.t.Helper()
	stop(n.p)
	n.start(id)
}

func (n *nginx) file(name string, content []byte) string {
	n.w.t.Helper()
	path := filepath.Join(n.dir, "www", name)
	must(n.w.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(n.w.t, os.WriteFile(path, content, 0o644))
	return path
}

// noise makes a file that no compression and no mistake can guess.
func (n *nginx) noise(name string, size int) []byte {
	n.w.t.Helper()
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails
	n.file(name, b)
	return b
}

// logged waits for a line of nginx's access log that begins so.
func (n *nginx) logged(want string) {
	n.w.t.Helper()
	var content []byte
	defer func() {
		if n.w.t.Failed() {
			n.w.t.Logf("nginx's log:\n%s", content)
		}
	}()
	n.w.until("nginx logs "+want, func() bool {
		var err error
		content, err = os.ReadFile(filepath.Join(n.dir, "access"))
		must(n.w.t, err)
		return strings.HasPrefix(string(content), want) || strings.Contains(string(content), "\n"+want)
	})
}
