package config

import (
	"slices"
	"strings"
	"testing"
)

const jumpOn = "[jump]\nlisten = ['[::]:22']\nvm_prefixes = ['2001:db8::/32']\n"

func TestJumpErrors(t *testing.T) {
	for _, tt := range []struct{ name, doc, want string }{
		{"no prefixes", "[jump]\nlisten = ['[::]:22']", `1:2: jump.vm_prefixes: missing, and the jump server would reach nothing; add the prefixes of all VMs, such as vm_prefixes = ["2001:db8::/32"], or remove listen`},
		{"IPv4 prefixes", "[jump]\nvm_prefixes = ['192.0.2.0/24']", `2:16: jump.vm_prefixes[0]: "192.0.2.0/24" is not an IPv6 prefix; write one such as "2001:db8::/64"`},
		{"listen without a port", "[jump]\nlisten = ['::']", `2:11: jump.listen[0]: "::" is not an address and a port; write "address:port", such as "[::1]:9464", or "" for none`},
		{"listen twice", "[jump]\nlisten = [':22', ':22']\nvm_prefixes = ['2001:db8::/32']", `2:18: jump.listen[1]: :22 comes twice; remove one`},
		{"listen to nothing", "[jump]\nlisten = ['']\nvm_prefixes = ['2001:db8::/32']", `2:11: jump.listen[0]: empty; write "address:port", such as "[::]:22"`},
		{"nobody listed", jumpOn + "access = 'listed'", `4:10: jump.access: nobody is listed; set authorized_keys or tokens to a file`},
		{"no place for a key", jumpOn + "[router]\nstate_dir = ''", `1:2: jump.host_keys: there is no place for a host key; set router.state_dir, or host_keys to a file`},
		{"relative path", jumpOn + "tokens = 'tokens'", `4:10: jump.tokens: "tokens" is not an absolute path; write one such as "/etc/isthmus/file", or "" for none`},
		{"empty path", jumpOn + "host_keys = ['']", `4:14: jump.host_keys[0]: empty; write an absolute path`},
		{"key twice", jumpOn + "host_keys = ['/a', '/a']", `4:20: jump.host_keys[1]: /a comes twice; remove one`},
		{"user", jumpOn + "user = 'a b'", `4:8: jump.user: "a b" cannot be a user's name here; write 1 to 32 letters, digits, dots, hyphens and underscores`},
		{"audit", jumpOn + "audit = 'on'", `4:9: jump.audit: "on" is not a choice; write "log", "off" or an absolute path such as "/var/log/isthmus/jump.json"`},
		{"timeout", "[jump.timeouts]\nlogin = '10ms'", `2:9: jump.timeouts.login: "10ms" is not a duration of at least 1s; write a number and h, m or s, such as "24h" or "1h30m"`},
		{"startups", "[jump.limits]\nstartups_max = 50", `1:7: jump.limits.startups_drop: 100 is more than startups_max, which is 50; lower it, or raise startups_max`},
		{"proxy from a mapped address", "[jump]\nproxy_from = ['::ffff:192.0.2.1']", `2:15: jump.proxy_from[0]: "::ffff:192.0.2.1" is not an IP prefix; write one such as "192.0.2.0/24"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x", []byte(tt.doc))
			if err == nil || strings.TrimPrefix(err.Error(), "x:") != tt.want {
				t.Errorf("got  %v\nwant x:%s", err, tt.want)
			}
		})
	}
}

func TestJumpWarnings(t *testing.T) {
	for _, tt := range []struct{ doc, want string }{
		{"[jump]\nvm_prefixes = ['2001:db8::/32']", "jump.listen is empty"},
		{"[jump]\nlisten = [':22']\nvm_prefixes = ['::/0']", "a relay to other people's hosts"},
		{"[jump]\nlisten = [':22']\nvm_prefixes = ['64:ff9b::/64']", "a relay to the IPv4 Internet"},
		{jumpOn + "vm_opt_out = ['2001:db9::1']", "2001:db9::1/128 is outside vm_prefixes"},
		{jumpOn + "proxy_from = ['0.0.0.0/0']", "everybody there can claim to come from any address"},
		{jumpOn + "[jump.limits]\nexempt = ['::/0']", "no limit for each source holds there"},
		{jumpOn + "tokens = '/etc/tokens'", `no effect with access = "anyone"`},
		{jumpOn + "[jump.limits]\nchannels = 0", "use up all memory"},
		{jumpOn + "[jump.timeouts]\nlogin = '0s'", "holds a place for good"},
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
	c, err := Parse("x", []byte(jumpOn+"vm_opt_out = ['2001:db8::1']\nproxy_from = ['192.0.2.1']"))
	if err != nil || c.Warnings() != nil {
		t.Errorf("%v, %v", c.Warnings(), err)
	}
}

func TestJumpDefaultsFromElsewhere(t *testing.T) {
	for doc, want := range map[string]string{
		"": "", "pop = 'dfw'": "", "pop = 'dfw'\ndomain = 'infra.example.com'": "dfw0.infra.example.com",
		"pop = 'dfw'\ndomain = 'example.com'\n[jump]\nhost = '2001:db8::22'": "2001:db8::22",
	} {
		c, err := Parse("x", []byte(doc))
		if err != nil || c.JumpHost() != want {
			t.Errorf("%q: host %q, %v, want %q", doc, c.JumpHost(), err, want)
		}
	}
	for doc, want := range map[string][]string{
		"":                                {"/var/lib/isthmus/jump/ssh_host_ed25519_key"},
		"[router]\nstate_dir = '/s'":      {"/s/jump/ssh_host_ed25519_key"},
		"[router]\nstate_dir = ''":        nil,
		"[jump]\nhost_keys = ['/a','/b']": {"/a", "/b"},
	} {
		c, err := Parse("x", []byte(doc))
		if err != nil || !slices.Equal(c.JumpHostKeys(), want) {
			t.Errorf("%q: %q, %v", doc, c.JumpHostKeys(), err)
		}
	}
}
