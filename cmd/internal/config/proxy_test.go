package config

import (
	"strings"
	"testing"
)

const proxyOn = "[proxy]\nlisten_https = ['[::]:443']\nvm_prefixes = ['2001:db8::/32']\nroutes_file = '/r'\n"

func TestProxyErrors(t *testing.T) {
	for _, tt := range []struct{ name, doc, want string }{
		{"no prefixes", "[proxy]\nlisten_http = ['[::]:80']\nroutes_file = '/r'", `1:2: proxy.vm_prefixes: missing, and the proxy would reach nothing; add the prefixes of the VMs, such as vm_prefixes = ["2001:db8:64::/64"], or remove listen_http, listen_https and listen_quic`},
		{"no routes", "[proxy]\nlisten_quic = ['[::]:443']\nvm_prefixes = ['2001:db8::/32']\n[routes]\nengine = 'off'", `1:2: proxy.routes_file: missing, and the proxy would know no host name; add routes_file = "/etc/isthmus/routes.toml", or leave engine out of [routes]`},
		{"a name", "[proxy]\nlisten_http = ['localhost:80']", `2:16: proxy.listen_http[0]: "localhost:80" is not an address and a port; write "address:port", such as "0.0.0.0:443" or "[::]:443"`},
		{"no address", "[proxy]\nlisten_http = [':80']", `2:16: proxy.listen_http[0]: ":80" is not an address and a port; write "address:port", such as "0.0.0.0:443" or "[::]:443"`},
		{"any port", "[proxy]\nlisten_http = ['[::]:0']", `2:16: proxy.listen_http[0]: "[::]:0" is not an address and a port; write "address:port", such as "0.0.0.0:443" or "[::]:443"`},
		{"twice", proxyOn + "listen_quic = ['[::]:443', '[0::]:443']", `5:28: proxy.listen_quic[1]: [0::]:443 comes twice; remove one`},
		{"HTTP and HTTPS", proxyOn + "listen_http = ['[::]:443']", `2:17: proxy.listen_https[0]: [::]:443 is in listen_http, too; keep it in one of the two`},
		{"relative path", "[proxy]\nroutes_file = 'r'", `2:15: proxy.routes_file: "r" is not an absolute path; write one such as "/etc/isthmus/file", or "" for none`},
		{"no line", "[proxy]\naccess_log_every = 0", `2:20: proxy.access_log_every: 0 is out of range; write an integer from 1 to 1000000`},
		{"name", "[proxy]\nname = 'a b'", `2:8: proxy.name: "a b" is not a DNS name; write labels of lower-case letters, digits and hyphens, such as "infra.example.com", with no dot at the end`},
		{"timeout", "[proxy.timeouts]\nhello = '10ms'", `2:9: proxy.timeouts.hello: "10ms" is not a duration of at least 1s; write a number and h, m or s, such as "24h" or "1h30m"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x", []byte(tt.doc))
			if err == nil || strings.TrimPrefix(err.Error(), "x:") != tt.want {
				t.Errorf("got  %v\nwant x:%s", err, tt.want)
			}
		})
	}
}

func TestProxyWarnings(t *testing.T) {
	const on = "[proxy]\nlisten_https = ['[::]:443']\nroutes_file = '/r'\n"
	for _, tt := range []struct{ doc, want string }{
		{"[proxy]\nroutes_file = '/r'", "there is no web proxy"},
		{on + "vm_prefixes = ['::/0']", "routes could lead to other people's hosts"},
		{on + "vm_prefixes = ['64:ff9b::/64']", "routes could lead to the IPv4 Internet"},
		{proxyOn + "access_log_every = 2", "access_log_every has no effect"},
		{proxyOn + "[proxy.limits]\nconnections = 0", "use up all memory"},
		{proxyOn + "[proxy.timeouts]\nhello = '0s'", "holds a place for good"},
	} {
		c, err := Parse("x", []byte(tt.doc))
		if err != nil {
			t.Errorf("%q: %v", tt.doc, err)
			continue
		}
		if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], tt.want) {
			t.Errorf("%q: got %q, want %s", tt.doc, w, tt.want)
		}
	}
	c, err := Parse("x", []byte(proxyOn))
	if err != nil || c.Warnings() != nil {
		t.Errorf("%v, %v", c.Warnings(), err)
	}
}

func TestProxyName(t *testing.T) {
	for doc, want := range map[string]string{
		"": "isthmus", "pop = 'dfw'": "isthmus", "pop = 'dfw'\ndomain = 'infra.example.com'": "dfw.proxy.infra.example.com",
		"pop = 'dfw'\ndomain = 'example.com'\n[proxy]\nname = 'p.example'": "p.example",
	} {
		c, err := Parse("x", []byte(doc))
		if err != nil || c.ProxyName() != want {
			t.Errorf("%q: name %q, %v, want %q", doc, c.ProxyName(), err, want)
		}
	}
}
