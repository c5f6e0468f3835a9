package config

import (
	"strings"
	"testing"
)

const (
	vmsOn  = "[proxy]\nvm_prefixes = ['2001:db8::/32']\n"
	boltOn = vmsOn + "[routes]\nengine = 'bolt'\n"
	etcdOn = vmsOn + "[routes]\nengine = 'etcd'\n[routes.etcd]\n"
)

func TestRoutesErrors(t *testing.T) {
	const url = `is not the URL of a member of etcd; write one such as "https://etcd1.example:2379"`
	for _, tt := range []struct{ name, doc, want string }{
		{"no such engine", vmsOn + "[routes]\nengine = 'zookeeper'", `4:10: routes.engine: "zookeeper" is not a choice; write "auto", "bolt", "etcd" or "off"`},
		{"no prefixes", "[routes]\nengine = 'bolt'", `1:1: proxy.vm_prefixes: missing, and no project could have a VM; add to [proxy] the prefixes of the VMs, such as vm_prefixes = ["2001:db8:64::/64"]`},
		{"nowhere to keep it", "[router]\nstate_dir = ''\n" + boltOn, `5:2: routes.file: missing, and router.state_dir is empty; add file = "/var/lib/isthmus/routes.db"`},
		{"copy over the file", boltOn + "file = '/f'\ncopy = '/f'", `6:8: routes.copy: is the file of the store; give it a path of its own, or leave it out`},
		{"too often", boltOn + "reconcile = '1s'", `5:13: routes.reconcile: "1s" is not a duration of at least 10s; write a number and h, m or s, such as "24h" or "1h30m"`},
		{"etcd nowhere", vmsOn + "[routes]\nengine = 'etcd'", `3:2: routes.etcd.endpoints: missing, and nobody knows where etcd is; add endpoints = ["https://etcd1.example:2379"] below [routes.etcd]`},
		{"no scheme", etcdOn + "endpoints = ['etcd1:2379']", `6:14: routes.etcd.endpoints[0]: "etcd1:2379" ` + url},
		{"no port", etcdOn + "endpoints = ['https://etcd1']", `6:14: routes.etcd.endpoints[0]: "https://etcd1" ` + url},
		{"a password in it", etcdOn + "endpoints = ['https://a:b@etcd1:1']", `6:14: routes.etcd.endpoints[0]: "https://a:b@etcd1:1" ` + url},
		{"twice", etcdOn + "endpoints = ['https://a:1', 'https://a:1']", `6:29: routes.etcd.endpoints[1]: https://a:1 comes twice; remove one`},
		{"some in clear text", etcdOn + "endpoints = ['https://a:1', 'http://b:1']", `6:29: routes.etcd.endpoints[1]: some have TLS and some have not; write all with https://, or all with http://`},
		{"all in clear text", etcdOn + "endpoints = ['http://a:1']\nca_file = '/ca'", `6:1: routes.etcd.endpoints: certificates are given, but the members are asked in clear text; write them with https://`},
		{"half a pair", etcdOn + "endpoints = ['https://a:1']\ncert_file = '/c'", `7:13: routes.etcd.cert_file: a certificate needs its key; add key_file, or remove cert_file`},
		{"the other half", etcdOn + "endpoints = ['https://a:1']\nkey_file = '/c'", `7:12: routes.etcd.key_file: a key needs its certificate; add cert_file, or remove key_file`},
		{"no password", etcdOn + "endpoints = ['https://a:1']\nuser = 'i'", `7:8: routes.etcd.user: etcd takes a user with a password, or neither; give both user and password_file, or none`},
		{"prefix", etcdOn + "endpoints = ['https://a:1']\nprefix = 'isthmus'", `7:10: routes.etcd.prefix: "isthmus" cannot be the prefix of keys; write one such as "/isthmus/"`},
		{"an API of nothing", vmsOn + "[api]\nlisten = ['[::1]:8443']\n[routes]\nengine = 'off'", `4:1: api.listen: there is no store whose API this could be; leave engine out of [routes], or remove listen`},
		{"clear text", boltOn + "[api]\nlisten = ['[::1]:8443', '192.0.2.1:8443']", `6:25: api.listen[1]: tokens would come to 192.0.2.1:8443 in clear text; add cert_file and key_file, or listen on a loopback address such as "[::1]:8443"`},
		{"no key", boltOn + "[api]\nlisten = ['[::]:8443']\ncert_file = '/c'", `7:13: api.cert_file: a certificate needs its key; add key_file, or remove cert_file`},
		{"the proxy's port", vmsOn + "listen_https = ['[::1]:443']\n[routes]\nengine = 'bolt'\n[api]\nlisten = ['[::1]:443']", `7:11: api.listen[0]: the web proxy listens on [::1]:443; choose another port, such as "[::]:8443"`},
		{"a POP", boltOn + "[api]\npops = ['d.fw']", `6:9: api.pops[0]: "d.fw" is not a DNS label; write 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end`},
		{"an empty POP", boltOn + "[api]\npops = ['']", `6:9: api.pops[0]: empty; write a name, or remove it`},
		{"a host twice", boltOn + "[api]\nhosts = ['a.b', 'a.b']", `6:17: api.hosts[1]: a.b comes twice; remove one`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x", []byte(tt.doc))
			if err == nil || strings.TrimPrefix(err.Error(), "x:") != tt.want {
				t.Errorf("got  %v\nwant x:%s", err, tt.want)
			}
		})
	}
}

func TestRoutesWarnings(t *testing.T) {
	const named = "pop = 'dfw'\ndomain = 'example.com'\n"
	for _, tt := range []struct{ doc, want string }{
		{"[routes]\nengine = 'off'\nfile = '/f'", "there is no store of routes"},
		{named + "[router]\nstate_dir = ''\n" + boltOn + "file = '/f'", "a start while the store is away"},
		{boltOn, "customers can't be told"},
		{named + boltOn + "[control]\nsocket = ''", "nobody can change the store here"},
		{named + boltOn + "[routes.etcd]\nendpoints = ['https://a:1']", `routes.etcd has no effect`},
		{named + boltOn + "[api]\ncert_file = '/c'", `api.cert_file has no effect`},
		{named + vmsOn + "[routes]\nengine = 'etcd'\nfile = '/f'\n[routes.etcd]\nendpoints = ['https://a:1']", `routes.file has no effect`},
		{named + etcdOn + "endpoints = ['http://192.0.2.1:1']", "can read and change all routes"},
		{named + etcdOn + "endpoints = ['http://[::1]:1']", ""},
		{named + boltOn, ""},
		{boltOn + "[api]\npops = ['a']", "customers can't be told"},
	} {
		c, err := Parse("x", []byte(tt.doc))
		if err != nil {
			t.Errorf("%q: %v", tt.doc, err)
			continue
		}
		w := c.Warnings()
		if tt.want == "" && w == nil {
			continue
		}
		if len(w) != 1 || tt.want == "" || !strings.Contains(w[0], tt.want) {
			t.Errorf("%q: got %q, want %s", tt.doc, w, tt.want)
		}
	}
}

func TestEngine(t *testing.T) {
	const proxy = vmsOn + "listen_https = ['[::]:443']\n"
	for _, tt := range []struct{ doc, want string }{
		{"", EngineOff},
		{vmsOn, EngineOff},
		{proxy, EngineBolt},
		{proxy + "[routes]\nengine = 'auto'", EngineBolt},
		{proxy + "routes_file = '/r'", EngineOff},
		{proxy + "routes_file = '/r'\n[api]\nlisten = ['[::1]:8443']", EngineBolt},
		{vmsOn + "[api]\nlisten = ['[::1]:8443']", EngineBolt},
		{proxy + "routes_file = '/r'\n[routes]\nfile = '/f'", EngineBolt},
		{proxy + "routes_file = '/r'\n[routes.etcd]\nendpoints = ['https://a:1']", EngineEtcd},
		{proxy + "[routes]\nengine = 'bolt'\n[routes.etcd]\nendpoints = ['https://a:1']", EngineBolt},
		{vmsOn + "[routes]\nengine = 'off'\nfile = '/f'", EngineOff},
	} {
		c, err := Parse("x", []byte(tt.doc))
		if err != nil || c.Routes.Engine != tt.want {
			t.Errorf("%q: %v, %v; want %s", tt.doc, c, err, tt.want)
		}
	}
}

func TestRoutesPlaces(t *testing.T) {
	for _, tt := range []struct{ doc, file, copied string }{
		{"", "/var/lib/isthmus/routes.db", "/var/lib/isthmus/routes.copy"},
		{"[router]\nstate_dir = '/s'", "/s/routes.db", "/s/routes.copy"},
		{"[router]\nstate_dir = ''", "", ""},
		{vmsOn + "[routes]\nfile = '/f'\ncopy = '/c'", "/f", "/c"},
	} {
		c, err := Parse("x", []byte(tt.doc))
		if err != nil || c.RoutesFile() != tt.file || c.RoutesCopy() != tt.copied {
			t.Errorf("%q: %q, %q, %v", tt.doc, c.RoutesFile(), c.RoutesCopy(), err)
		}
	}
}
