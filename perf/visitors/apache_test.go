package visitors

import (
	"fmt"
	"os"
	"path/filepath"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// apacheConf expects the PROXY protocol on ports 81 and 444, of either version, and
// tells who the visitor is.
const apacheConf = `ServerRoot %[1]s
ServerName apache
PidFile %[1]s/pid
DefaultRuntimeDir %[1]s
Mutex pthread
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule remoteip_module /usr/lib/apache2/modules/mod_remoteip.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule include_module /usr/lib/apache2/modules/mod_include.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
ErrorLog /dev/stderr
StartServers 1
ServerLimit 1
ThreadsPerChild 8
MaxRequestWorkers 8
Listen [::]:81
Listen [::]:444 https
RemoteIPProxyProtocol On
DocumentRoot %[1]s
<Directory %[1]s>
	Options +Includes
	SetOutputFilter INCLUDES
	ForceType text/html
</Directory>
<VirtualHost *:81>
</VirtualHost>
<VirtualHost *:444>
	SSLEngine on
	SSLCertificateFile %[2]s
	SSLCertificateKeyFile %[3]s
</VirtualHost>
`

// apache starts one on a VM. /who tells by which address it knows the visitor.
func (w *world) apache(h *lab.Host, id identity) {
	w.t.Helper()
	labtest.NeedProgram(w.t, "apache2", "apache2-bin")
	dir := w.t.TempDir()
	conf := filepath.Join(dir, "apache2.conf")
	must(w.t, os.WriteFile(conf, fmt.Appendf(nil, apacheConf, dir, id.cert, id.key), 0o644))
	must(w.t, os.WriteFile(filepath.Join(dir, "who"), []byte("apache <!--#echo var=\"REMOTE_ADDR\" -->\n"), 0o644))
	w.serve(h, 444, sbin("apache2", "-DFOREGROUND", "-f", conf))
}
