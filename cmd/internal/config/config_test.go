package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aarch64.com/isthmus/translate"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

var byPrefix = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func TestDefaults(t *testing.T) {
	want := &Config{
		Router: Router{
			Pool6:           prefixes("64:ff9b::/96"),
			LowestIPv6MTU:   1280,
			UDPZeroChecksum: UDPZeroCompute,
			Hairpin:         HairpinIntrinsic,
			ICMPErrorRate:   100,
			StateDir:        "/var/lib/isthmus",
			Dynamic:         Dynamic{Idle: 168 * time.Hour, MaxPer64: 256},
			Share:           Share{PortsPerVM: 256, MaxConnections: 4000, NewPerSecond: 400, Keep: true},
			Kernel:          Kernel{Interface: "isthmus0", FastPath: FastPathAuto, Forwarding: ForwardingCheck},
		},
		Proxy: Proxy{
			AccessLog: AuditOff, AccessLogEvery: 1, DrainTimeout: time.Minute,
			Limits: ProxyLimits{
				Connections: 50_000, ConnectionsPerClient: 500, ConnectionsPerHost: 20_000, ConnectionsPerProject: 20_000,
				RequestsPerConnection: 100, RequestHeader: 65536, QUICFlows: 50_000, QUICFlowsPerClient: 200, QUICPending: 1000,
			},
			Timeouts: ProxyTimeouts{
				Hello: 10 * time.Second, Connect: 3 * time.Second, Response: 2 * time.Minute, Idle: 10 * time.Minute,
				KeepOpen: time.Minute, QUICIdle: 2 * time.Minute,
			},
		},
		Routes: Routes{
			Engine: EngineOff, Reconcile: time.Minute, Hold: 168 * time.Hour, Grace: 168 * time.Hour, Audit: 2160 * time.Hour,
			Etcd: Etcd{Prefix: "/isthmus/"},
		},
		API: API{PerSecond: 50, Burst: 200, Failures: 20},
		Jump: Jump{
			User: "jump", Access: AccessAnyone, DrainTimeout: time.Minute, Audit: AuditLog,
			Limits: JumpLimits{
				StartupsDrop: 100, StartupsMax: 1000, Connections: 10_000, ConnectionsPerSource: 64, ChannelsPerConnection: 64,
				Channels: 20_000, TargetsPerMinute: 60, DialsPerMinute: 60, RefusalsPerConnection: 32,
			},
			Timeouts: JumpTimeouts{
				Login: 20 * time.Second, Dial: 10 * time.Second, Unused: 2 * time.Minute, Idle: 24 * time.Hour,
				Stall: 5 * time.Minute, Keepalive: time.Minute,
			},
		},
		Metrics: Metrics{Listen: "[::1]:9464"},
		Control: Control{Socket: "/run/isthmus/control.sock"},
	}
	if diff := cmp.Diff(want, Default(), byPrefix); diff != "" {
		t.Errorf("Default() (-want +got):\n%s", diff)
	}
}

func TestWholeFile(t *testing.T) {
	got, err := Parse("test.toml", []byte(`
pop    = "dfw"
domain = "infra.example.com"

[router]
pool6 = ["64:ff9b::/96", "2001:db8:1::/48"]
eam = [
  { ipv6 = "2001:db8:64::2/128", ipv4 = "192.0.2.2/32" },
  { ipv6 = "2001:db8:64::3", ipv4 = "192.0.2.3" },  # addresses alone
]
lowest_ipv6_mtu   = 1_500
tcp_mss_clamp = "auto"
udp_zero_checksum = "drop"
tos = 0x2e
icmp_source4 = ["192.0.2.128/25"]
icmp_source6 = ["2001:db8:ff::1"]
deny4 = ["198.51.100.0/24"]
allow_private4 = true
hairpin = "off"
icmp_error_rate = 7
vm_prefixes = ["2001:db8::/32"]
state_dir = ""

[router.dynamic]
pool4 = "100.64.0.0/16"
idle = "1h30m"
max_per_64 = 0

[router.share]
ports_per_vm = 512
max_connections = 0
new_per_second = 1
keep = false

[[router.port]]
interface = "enp1s0"
queues    = [1, 0]
zero_copy = "require"
attach    = "generic"
checksum  = "complete"
frame_size = 4096

[[router.port]]
interface = "enp2s0"

[router.kernel]
interface = "siit0"
fast_path = "off"
forwarding = "set"
fast_path_interfaces = ["vm0", "wan0"]

[proxy]
listen_http = ["0.0.0.0:80", "[::]:80"]
listen_https = ["192.0.2.1:443"]
listen_quic = ["192.0.2.1:443"]
vm_prefixes = ["2001:db8:64::/64"]
routes_file = "/etc/isthmus/routes.toml"
name = "proxy.example.com"
access_log = "/var/log/access.json"
access_log_every = 100
drain_timeout = "0s"

[proxy.limits]
connections = 1
connections_per_client = 2
connections_per_host = 3
connections_per_project = 4
requests_per_connection = 5
request_header = 6
quic_flows = 7
quic_flows_per_client = 8
quic_pending = 0

[proxy.timeouts]
hello = "1s"
connect = "2s"
response = "3s"
idle = "0s"
keep_open = "5s"
quic_idle = "6s"

[routes]
engine = "etcd"
file = "/var/lib/isthmus/a.db"
copy = "/var/lib/isthmus/a.copy"
node = "dfw0.example.com"
reconcile = "5m"
hold = "1h"
grace = "2h"
audit = "3h"
resolvers = ["[2001:db8::53]:53"]
name_servers = ["10.0.53.0/24", "2001:db8::/32"]

[routes.etcd]
endpoints = ["https://etcd1.example:2379", "https://[2001:db8::e]:2379"]
prefix = "/a/b/"
ca_file = "/etc/isthmus/ca.pem"
cert_file = "/etc/isthmus/etcd.pem"
key_file = "/etc/isthmus/etcd.key"
user = "isthmus"
password_file = "/etc/isthmus/password"

[api]
listen = ["[::]:8443"]
cert_file = "/etc/isthmus/api.pem"
key_file = "/etc/isthmus/api.key"
hosts = ["isthmus.example.com"]
pops = ["dfw", "ams"]
requests_per_second = 1
burst = 2
failures_per_minute = 0

[jump]
listen = ["0.0.0.0:22", "[::]:22"]
vm_prefixes = ["2001:db8::/32"]
vm_opt_out = ["2001:db8::aa64"]
user = "relay"
host = "jump.example.com"
access = "listed"
authorized_keys = "/etc/isthmus/authorized_keys"
tokens = "/etc/isthmus/tokens"
host_keys = ["/etc/isthmus/key"]
next_host_keys = ["/etc/isthmus/key2"]
host_certificates = ["/etc/isthmus/key-cert.pub"]
proxy_from = ["192.0.2.10", "2001:db8:9::/48"]
drain_timeout = "0s"
audit = "/var/log/jump.json"

[jump.limits]
handshakes = 1
startups_drop = 2
startups_max = 3
connections = 4
connections_per_source = 5
channels_per_connection = 6
channels = 7
targets_per_minute = 8
dials_per_minute = 9
refusals_per_connection = 0
exempt = ["192.0.2.0/24"]

[jump.timeouts]
login = "1s"
dial = "2s"
unused = "3s"
idle = "0s"
stall = "5s"
keepalive = "6s"

[metrics]
listen = ""

[control]
socket = "/run/other.sock"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		POP: "dfw", Domain: "infra.example.com",
		Router: Router{
			Pool6: prefixes("64:ff9b::/96", "2001:db8:1::/48"),
			EAM: []translate.EAM{
				{IPv6: netip.MustParsePrefix("2001:db8:64::2/128"), IPv4: netip.MustParsePrefix("192.0.2.2/32")},
				{IPv6: netip.MustParsePrefix("2001:db8:64::3/128"), IPv4: netip.MustParsePrefix("192.0.2.3/32")},
			},
			LowestIPv6MTU: 1500, MSSClamp: translate.MSSClamp{Auto: true}, UDPZeroChecksum: UDPZeroDrop, TOS: translate.TOS{Fixed: true, Value: 0x2e},
			ICMPSource4: prefixes("192.0.2.128/25"), ICMPSource6: prefixes("2001:db8:ff::1/128"),
			Deny4: prefixes("198.51.100.0/24"), AllowPrivate4: true, Hairpin: HairpinOff, ICMPErrorRate: 7,
			VMPrefixes: prefixes("2001:db8::/32"),
			Dynamic:    Dynamic{Pool4: netip.MustParsePrefix("100.64.0.0/16"), Idle: 90 * time.Minute},
			Share:      Share{PortsPerVM: 512, NewPerSecond: 1},
			Ports: []Port{
				{"enp1s0", []int{0, 1}, ZeroCopyRequire, AttachGeneric, ChecksumComplete, 4096},
				{"enp2s0", nil, ZeroCopyAuto, AttachAuto, ChecksumTrust, 0},
			},
			Kernel: Kernel{Interface: "siit0", FastPath: FastPathOff, Forwarding: ForwardingSet, FastPathInterfaces: []string{"vm0", "wan0"}},
		},
		Proxy: Proxy{
			ListenHTTP: addrPorts("0.0.0.0:80", "[::]:80"), ListenHTTPS: addrPorts("192.0.2.1:443"), ListenQUIC: addrPorts("192.0.2.1:443"),
			VMPrefixes: prefixes("2001:db8:64::/64"), RoutesFile: "/etc/isthmus/routes.toml", Name: "proxy.example.com",
			AccessLog: "/var/log/access.json", AccessLogEvery: 100,
			Limits: ProxyLimits{
				Connections: 1, ConnectionsPerClient: 2, ConnectionsPerHost: 3, ConnectionsPerProject: 4, RequestsPerConnection: 5,
				RequestHeader: 6, QUICFlows: 7, QUICFlowsPerClient: 8,
			},
			Timeouts: ProxyTimeouts{Hello: time.Second, Connect: 2 * time.Second, Response: 3 * time.Second, KeepOpen: 5 * time.Second, QUICIdle: 6 * time.Second},
		},
		Routes: Routes{
			Engine: EngineEtcd, File: "/var/lib/isthmus/a.db", Copy: "/var/lib/isthmus/a.copy", Node: "dfw0.example.com",
			Reconcile: 5 * time.Minute, Hold: time.Hour, Grace: 2 * time.Hour, Audit: 3 * time.Hour,
			Resolvers: addrPorts("[2001:db8::53]:53"), NameServers: prefixes("10.0.53.0/24", "2001:db8::/32"),
			Etcd: Etcd{
				Endpoints: []string{"https://etcd1.example:2379", "https://[2001:db8::e]:2379"}, Prefix: "/a/b/",
				CAFile: "/etc/isthmus/ca.pem", CertFile: "/etc/isthmus/etcd.pem", KeyFile: "/etc/isthmus/etcd.key",
				User: "isthmus", PasswordFile: "/etc/isthmus/password",
			},
		},
		API: API{
			Listen: addrPorts("[::]:8443"), CertFile: "/etc/isthmus/api.pem", KeyFile: "/etc/isthmus/api.key",
			Hosts: []string{"isthmus.example.com"}, POPs: []string{"dfw", "ams"}, PerSecond: 1, Burst: 2,
		},
		Jump: Jump{
			Listen: []string{"0.0.0.0:22", "[::]:22"}, VMPrefixes: prefixes("2001:db8::/32"), VMOptOut: prefixes("2001:db8::aa64/128"),
			User: "relay", Host: "jump.example.com", Access: AccessListed,
			AuthorizedKeys: "/etc/isthmus/authorized_keys", Tokens: "/etc/isthmus/tokens",
			HostKeys: []string{"/etc/isthmus/key"}, NextHostKeys: []string{"/etc/isthmus/key2"}, HostCertificates: []string{"/etc/isthmus/key-cert.pub"},
			ProxyFrom: prefixes("192.0.2.10/32", "2001:db8:9::/48"), Audit: "/var/log/jump.json",
			Limits: JumpLimits{
				Handshakes: 1, StartupsDrop: 2, StartupsMax: 3, Connections: 4, ConnectionsPerSource: 5, ChannelsPerConnection: 6,
				Channels: 7, TargetsPerMinute: 8, DialsPerMinute: 9, Exempt: prefixes("192.0.2.0/24"),
			},
			Timeouts: JumpTimeouts{Login: time.Second, Dial: 2 * time.Second, Unused: 3 * time.Second, Stall: 5 * time.Second, Keepalive: 6 * time.Second},
		},
		Control: Control{Socket: "/run/other.sock"},
	}
	if diff := cmp.Diff(want, got, byPrefix); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOutOfTheBox(t *testing.T) {
	c := OutOfTheBox()
	if c.Router.Dynamic.Pool4 != netip.MustParsePrefix("100.64.0.0/16") || !c.Router.Share.Auto || !c.Router.AutoVMs || c.Router.Kernel.Forwarding != ForwardingSet || len(c.Router.Ports) != 0 {
		t.Errorf("%+v", c.Router)
	}
}

func TestSharedAddresses(t *testing.T) {
	pool := "[router.dynamic]\npool4 = '100.64.0.0/16'\n[router.share]\naddress = "
	for doc, want := range map[string][]string{
		"'203.0.113.7'":                  {"203.0.113.7"},
		"['203.0.113.7', '203.0.113.8']": {"203.0.113.7", "203.0.113.8"},
		"[]":                             nil,
		"''":                             nil,
	} {
		c, err := Parse("x", []byte(pool+doc))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		var got []string
		for _, a := range c.Router.Share.Addresses {
			got = append(got, a.String())
		}
		if c.Router.Share.Auto || !slices.Equal(got, want) {
			t.Errorf("%s: got %v", doc, got)
		}
	}
}

// Other spellings that TOML has for the same thing.
func TestSpellings(t *testing.T) {
	for name, doc := range map[string]string{
		"dotted":           "router.kernel.interface = \"siit0\"\nrouter.port = [{ interface = \"a\" }]\nrouter.eam = [{ ipv4 = \"192.0.2.1\", ipv6 = \"2001:db8::1\" }]",
		"inline":           `router = { kernel = { interface = "siit0" }, port = [{ interface = "a" }], eam = [{ ipv6 = "2001:db8::1", ipv4 = "192.0.2.1" }] }`,
		"headers":          "[router.kernel]\ninterface = 'siit0'\n[[router.eam]]\nipv4 = '192.0.2.1'\nipv6 = '2001:db8::1'\n[[router.port]]\ninterface = \"\"\"a\"\"\"",
		"quoted keys":      "[\"router\".'kernel']\n\"interface\" = \"siit0\"\n[[router.\"port\"]]\ninterface = \"\\u0061\"\n[router]\neam = [{ \"ipv6\" = \"2001:db8::1\", 'ipv4' = '192.0.2.1' }]",
		"Windows newlines": "[router.kernel]\r\ninterface = \"siit0\"\r\n[[router.port]]\r\ninterface = \"a\"\r\n[[router.eam]]\r\nipv4 = \"192.0.2.1\"\r\nipv6 = \"2001:db8::1\"\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("x", []byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			if c.Router.Kernel.Interface != "siit0" || len(c.Router.Ports) != 1 || c.Router.Ports[0].Interface != "a" || len(c.Router.EAM) != 1 {
				t.Errorf("got %+v", c.Router)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name, doc string
		want      []string // each error, without the file name
	}{
		{"unknown key, near", "[router]\npoll6 = []", []string{"2:1: router.poll6: unknown key; did you mean pool6?"}},
		{"unknown key, other section", "pool6 = []", []string{"1:1: pool6: unknown key; it belongs below [router]"}},
		{"unknown key of the top", "[router]\npop = 'dfw'", []string{"2:1: router.pop: unknown key; it belongs at the top of the file, before the first section"}},
		{"unknown key, far", "[metrics]\n  password = 'x'", []string{"2:3: metrics.password: unknown key; remove it; this section has listen"}},
		{"unknown key, quoted", "[metrics]\n\"a b\" = 'x'", []string{`2:1: metrics."a b": unknown key; remove it; this section has listen`}},
		{"unknown key in a port", "[[router.port]]\ninterface = 'a'\nzerocopy = 'off'", []string{"3:1: router.port[0].zerocopy: unknown key; did you mean zero_copy?"}},
		{"unknown key in a mapping", "[router]\neam = [{ ipv6 = '2001:db8::1', ip4 = '192.0.2.1' }]", []string{
			`2:8: router.eam[0]: ipv4 is missing; add ipv4 = "192.0.2.0/24"`, "2:32: router.eam[0].ip4: unknown key; a mapping has ipv6 and ipv4"}},
		{"unknown section", "[squid]\nlisten = ':80'", []string{"1:2: squid: unknown section; remove it; there are [router], [[router.port]], [router.dynamic], [router.share], [router.kernel], [proxy], [proxy.limits], [proxy.timeouts], [routes], [routes.etcd], [api], [jump], [jump.limits], [jump.timeouts], [metrics], [control]"}},
		{"unknown section, near", "[routers]", []string{"1:2: routers: unknown section; did you mean [router]?"}},
		{"unknown section, inner", "[router.kernal]\ninterface = 'x'", []string{"1:9: router.kernal: unknown section; did you mean [router.kernel]?"}},
		{"syntax", "[router]\npool6 = [", []string{"2:9: array is incomplete; correct the TOML syntax"}},
		{"no quotes", "pop = dfw", []string{"1:7: unexpected character U+0064 'd' at start of value; correct the TOML syntax (strings need quotes)"}},
		{"twice", "pop = 'a'\npop = 'b'", []string{"2:1: key pop is already defined; keep one of them"}},
		{"section twice", "[router]\n[router]", []string{"2:2: table router already exists; keep one of them"}},
		{"byte order mark", "\xef\xbb\xbfpop = 'a'", []string{"1:1: the file starts with a byte order mark; save it as plain UTF-8"}},
		{"type", "[router]\npool6 = '64:ff9b::/96'", []string{"2:9: router.pool6: want a list of IPv6 prefixes, have a string"}},
		{"type of an element", "[router]\ndeny4 = [\n  '192.0.2.0/24',\n  7,\n]", []string{"4:3: router.deny4[1]: want an IPv4 prefix, have an integer"}},
		{"types", "[router]\nallow_private4 = 'yes'\nlowest_ipv6_mtu = 1.5\neam = 1979-05-27\nhairpin = {}\ntos = []", []string{
			"2:18: router.allow_private4: want true or false, have a string",
			"3:19: router.lowest_ipv6_mtu: want an integer from 1280 to 65535, have a decimal number",
			`4:7: router.eam: want a list of mappings, such as { ipv6 = "2001:db8::1/128", ipv4 = "192.0.2.1/32" }, have a date or time`,
			`5:11: router.hairpin: want "intrinsic", "simple" or "off", have a table`,
			`6:1: router.tos: want "copy", "zero" or an integer from 0 to 255, have a list`}},
		{"range", "[router]\nlowest_ipv6_mtu = 1279", []string{"2:19: router.lowest_ipv6_mtu: 1279 is out of range; write an integer from 1280 to 65535"}},
		{"range of int64", "[router]\ntos = 99999999999999999999", []string{"2:7: router.tos: 99999999999999999999 is out of range; write an integer from 0 to 255"}},
		{"pool of the wrong family", "[router.dynamic]\npool4 = '2001:db8::/64'", []string{`2:9: router.dynamic.pool4: "2001:db8::/64" is not an IPv4 prefix; write one such as "192.0.2.0/24"`}},
		{"duration", "[router.dynamic]\nidle = '7d'", []string{`2:8: router.dynamic.idle: "7d" is not a duration of at least 1s; write a number and h, m or s, such as "24h" or "1h30m"`}},
		{"relative state_dir", "[router]\nstate_dir = 'state'", []string{`2:13: router.state_dir: "state" is not an absolute path; write one such as "/var/lib/isthmus", or "" for none`}},
		{"shared address", "[router.share]\naddress = 'dhcp'", []string{`2:11: router.share.address: "dhcp" is not an IPv4 address; write "auto", an address such as "203.0.113.7", a list of such, or "" for none`}},
		{"share without a pool", "[router.share]\naddress = 'auto'", []string{`2:11: router.share.address: there is no pool whose hosts could share it; set [router.dynamic] pool4, such as "100.64.0.0/16"`}},
		{"share with a port", "[router.dynamic]\npool4 = '100.64.0.0/16'\n[router.share]\naddress = 'auto'\n[[router.port]]\ninterface = 'a'", []string{`4:11: router.share.address: what leaves by an AF_XDP port passes no NAT of the kernel; remove the [[router.port]] sections, or this`}},
		{"frame size", "[[router.port]]\ninterface = 'a'\nframe_size = 3000", []string{"3:14: router.port[0].frame_size: 3000 is not a choice; write 2048 or 4096"}},
		{"choice", "[router]\nudp_zero_checksum = 'Drop'", []string{`2:21: router.udp_zero_checksum: "Drop" is not a choice; write "compute" or "drop"`}},
		{"pool6 length", "[router]\npool6 = ['64:ff9b::/95']", []string{"2:10: router.pool6[0]: /95 is not a length of RFC 6052; write /32, /40, /48, /56, /64 or /96"}},
		{"pool6 u octet", "[router]\npool6 = ['2001:db8:0:0:ff00::/96']", []string{"2:10: router.pool6[0]: bits 64 to 71 are not zero, as RFC 6052 section 2.2 demands; choose a prefix with zeros there"}},
		{"pool6 multicast", "[router]\npool6 = ['ff00::/32']", []string{`2:10: router.pool6[0]: ff00::/32 cannot be routed; choose a prefix of your own, or "64:ff9b::/96"`}},
		{"pool6 overlap", "[router]\npool6 = ['2001:db8::/32', '2001:db8:1::/48']", []string{"2:27: router.pool6[1]: 2001:db8:1::/48 overlaps 2001:db8::/32; keep one of them"}},
		{"pool6 too many", "[router]\npool6 = [" + strings.Repeat("'64:ff9b::/96',", 65) + "]", []string{"2:1: router.pool6: 65 prefixes; give at most 64"}},
		{"prefix family", "[router]\ndeny4 = ['2001:db8::/32']", []string{`2:10: router.deny4[0]: "2001:db8::/32" is not an IPv4 prefix; write one such as "192.0.2.0/24"`}},
		{"prefix with host bits", "[router]\ndeny4 = ['192.0.2.1/24']", []string{`2:10: router.deny4[0]: "192.0.2.1/24" has bits set behind its length; write "192.0.2.0/24"`}},
		{"prefix with a zone", "[router]\nicmp_source6 = ['fe80::1%eth0']", []string{`2:17: router.icmp_source6[0]: "fe80::1%eth0" is not an IPv6 prefix; write one such as "2001:db8::/64"`}},
		{"prefix twice", "[router]\ndeny4 = ['192.0.2.1', '192.0.2.1/32']", []string{"2:23: router.deny4[1]: 192.0.2.1/32 comes twice; remove one"}},
		{"IPv4-mapped", "[router]\npool6 = ['::ffff:0:0/96']", []string{`2:10: router.pool6[0]: "::ffff:0:0/96" is not an IPv6 prefix; write one such as "2001:db8::/64"`}},
		{"mapping twice", "[router]\neam = [\n{ ipv6 = '2001:db8::1', ipv4 = '192.0.2.1' },\n{ ipv6 = '2001:db8::2', ipv4 = '192.0.2.1/32' },\n]", []string{
			"4:32: router.eam[1].ipv4: 192.0.2.1/32 is mapped by router.eam[0] already; remove one of the two"}},
		{"mapping of a wrong type", "[router]\neam = ['a']", []string{`2:8: router.eam[0]: want a mapping, such as { ipv6 = "2001:db8::1/128", ipv4 = "192.0.2.1/32" }, have a string`}},
		{"port without interface", "\n[[router.port]]\nqueues = 'all'", []string{`2:10: router.port[0].interface: missing; add interface = "enp1s0"`}},
		{"port twice", "[[router.port]]\ninterface = 'a'\n[[router.port]]\ninterface = 'a'", []string{"4:13: router.port[1].interface: a has a port already; keep one section per interface"}},
		{"port is the TUN device", "[[router.port]]\ninterface = 'isthmus0'", []string{"2:13: router.port[0].interface: isthmus0 is the TUN device of [router.kernel]; name the TUN device differently there, or remove this port"}},
		{"fast path on the TUN device", "[router.kernel]\nfast_path_interfaces = ['isthmus0']", []string{"2:25: router.kernel.fast_path_interfaces[0]: isthmus0 is the TUN device, which has the fast path by itself; remove it"}},
		{"fast path on a port", "[router.kernel]\nfast_path_interfaces = ['a', 'b']\n[[router.port]]\ninterface = 'b'", []string{"2:30: router.kernel.fast_path_interfaces[1]: b has a [[router.port]], which takes its packets before; remove it from one of the two"}},
		{"fast path interface twice", "[router.kernel]\nfast_path_interfaces = ['a', 'a']", []string{"2:30: router.kernel.fast_path_interfaces[1]: a comes twice; remove one"}},
		{"fast path interface's name", "[router.kernel]\nfast_path_interfaces = ['a/b']", []string{`2:25: router.kernel.fast_path_interfaces[0]: "a/b" cannot be an interface's name; write 1 to 15 characters without spaces, / and :`}},
		{"port in one bracket", "[router.port]\ninterface = 'a'", []string{"1:9: router.port: this section may come several times; write [[router.port]] with two brackets"}},
		{"port as a list of names", "[router]\nport = ['a']", []string{"2:9: router.port: not a table; write [[router.port]] and its keys below"}},
		{"section in two brackets", "[[metrics]]", []string{"1:3: metrics: this section comes only once; write [metrics] with one bracket"}},
		{"section as a key", "router = 1", []string{"1:1: router: this is a section, not a key; write [router] and its keys below"}},
		{"queues word", "[[router.port]]\ninterface = 'a'\nqueues = 'some'", []string{`3:10: router.port[0].queues: "some" is not a choice; write "all" or a list of queue numbers, such as [0, 1]`}},
		{"queues number", "[[router.port]]\ninterface = 'a'\nqueues = 2", []string{`3:10: router.port[0].queues: want "all" or a list of queue numbers, such as [0, 1], have an integer`}},
		{"queues empty", "[[router.port]]\ninterface = 'a'\nqueues = []", []string{`3:1: router.port[0].queues: no queue; write "all" or a list of queue numbers, such as [0, 1]`}},
		{"queues twice", "[[router.port]]\ninterface = 'a'\nqueues = [0, 0]", []string{"3:14: router.port[0].queues[1]: queue 0 comes twice; remove one"}},
		{"queues negative", "[[router.port]]\ninterface = 'a'\nqueues = [-1]", []string{"3:11: router.port[0].queues[0]: -1 is out of range; write an integer from 0 to 4095"}},
		{"interface name", "[router.kernel]\ninterface = 'much-too-long-name'", []string{`2:13: router.kernel.interface: "much-too-long-name" cannot be an interface's name; write 1 to 15 characters without spaces, / and :`}},
		{"listen without port", "[metrics]\nlisten = '::1'", []string{`2:10: metrics.listen: "::1" is not an address and a port; write "address:port", such as "[::1]:9464", or "" for none`}},
		{"listen on a bad port", "[metrics]\nlisten = '[::1]:http'", []string{`2:10: metrics.listen: "http" is not a port number; write "address:port", such as "[::1]:9464", or "" for none`}},
		{"listen on a name", "[metrics]\nlisten = 'example.com:1'", []string{`2:10: metrics.listen: "example.com" is not an IP address; write "address:port", such as "[::1]:9464", or "" for none`}},
		{"socket", "[control]\nsocket = 'run/x'", []string{`2:10: control.socket: "run/x" cannot be a socket's path; write an absolute path of at most 107 bytes, or "" for none`}},
		{"pop", "pop = 'DFW'", []string{`1:7: pop: "DFW" is not a DNS label; write 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end`}},
		{"domain", "domain = 'example.com.'", []string{`1:10: domain: "example.com." is not a DNS name; write labels of lower-case letters, digits and hyphens, such as "infra.example.com", with no dot at the end`}},
		{"mapping of a martian", "[router]\neam = [\n{ ipv6 = '2001:db8::1', ipv4 = '192.0.2.1' },\n{ ipv6 = '2001:db8::2', ipv4 = '127.0.0.1' },\n{ ipv6 = '2001:db8::3', ipv4 = '192.0.2.3' },\n]", []string{
			"4:1: router.eam[1]: 127.0.0.1/32 overlaps 127.0.0.0/8, which is never translated"}},
		{"mapping without room", "[router]\neam = [{ ipv6 = '2001:db8::/120', ipv4 = '192.0.2.0/23' }]", []string{
			"2:8: router.eam[0]: 2001:db8::/120 leaves 8 bits for the 9 bits that 192.0.2.0/23 leaves (RFC 7757 3.1); lengthen 192.0.2.0/23 to /24 or more"}},
		{"source that nobody accepts", "[router]\nicmp_source4 = ['192.0.2.1', '224.0.0.0/24']\nicmp_source6 = ['fe80::/64']", []string{
			"2:30: router.icmp_source4[1]: 224.0.0.0/24 overlaps 224.0.0.0/4, which nobody accepts as a source",
			"3:17: router.icmp_source6[0]: fe80::/64 lies in loopback, link-local or multicast space"}},
		{"all in the order of the lines", "pops = 1\n[metrics]\nlisten = 7\n[router]\nhairpin = 'on'\nx = 1", []string{
			"1:1: pops: unknown key; did you mean pop?",
			"3:10: metrics.listen: want an address and a port, have an integer",
			`5:11: router.hairpin: "on" is not a choice; write "intrinsic", "simple" or "off"`,
			"6:1: router.x: unknown key; remove it; this section has pool6, eam, lowest_ipv6_mtu, tcp_mss_clamp, udp_zero_checksum, tos, icmp_source4, icmp_source6, deny4, allow_private4, hairpin, icmp_error_rate, vm_prefixes, state_dir"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("test.toml", []byte(tt.doc))
			if err == nil {
				t.Fatalf("no error; got %+v", c)
			}
			want := "test.toml:" + strings.Join(tt.want, "\ntest.toml:")
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !IsInvalid(err) {
				t.Error("IsInvalid is false")
			}
			var one *Error
			if !errors.As(err, &one) || one.Line == 0 || one.Column == 0 {
				t.Errorf("the first error has no place: %+v", one)
			}
		})
	}
}

func TestManyErrorsAreCounted(t *testing.T) {
	var doc strings.Builder
	for i := range 100 {
		doc.WriteString("key" + strings.Repeat("x", i) + " = 1\n")
	}
	_, err := Parse("x", []byte(doc.String()))
	var all *Errors
	if !errors.As(err, &all) || len(all.List) != maxErrors || all.Omitted != 100-maxErrors {
		t.Fatalf("got %v", err)
	}
	if !strings.HasSuffix(err.Error(), "and 80 more") {
		t.Errorf("got %q", err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "isthmus.toml")
	if err := os.WriteFile(path, []byte("pop = 'dfw'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil || c.POP != "dfw" {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := Load(path + ".missing"); err == nil || IsInvalid(err) || !strings.Contains(err.Error(), "no such file; give the right path with -c") {
		t.Errorf("missing file: got %v", err)
	}
	if _, err := Load(filepath.Dir(path)); err == nil || IsInvalid(err) {
		t.Errorf("directory: got %v", err)
	}
	if _, err := load("/dev/zero", 1<<20); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("endless file: got %v", err)
	}
}

// Each key's example differs from its default, and whether a change of it asks
// for a restart is what the table says.
func TestNeedRestart(t *testing.T) {
	const port = "\n[[router.port]]\ninterface = 'base'\n"
	const pool = "[router.dynamic]\npool4 = '100.64.0.0/16'\n" // what there is to share
	parse := func(t *testing.T, doc string) *Config {
		t.Helper()
		c, err := Parse("x", []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range language {
		s := &language[i]
		for _, k := range s.keys {
			t.Run(s.fullName(k.name), func(t *testing.T) {
				base := parse(t, port)
				doc := s.header() + "\n" + k.name + " = " + k.example + port
				switch {
				case s.path == "router.share":
					base = parse(t, pool)
					doc = pool + s.header() + "\n" + k.name + " = " + k.example
				case k.name == "listen" && s.path == "jump":
					const besides = "\nvm_prefixes = ['2001:db8::/32']" + port
					base = parse(t, s.header()+besides)
					doc = s.header() + "\n" + k.name + " = " + k.example + besides
				case strings.HasPrefix(k.name, "listen_"):
					const besides = "\nvm_prefixes = ['2001:db8::/32']\nroutes_file = '/r'" + port
					base = parse(t, s.header()+besides)
					doc = s.header() + "\n" + k.name + " = " + k.example + besides
				case s.path == "routes" && (k.name == "engine" || k.name == "file"), k.name == "endpoints":
					const besides = "\n[proxy]\nvm_prefixes = ['2001:db8::/32']" + port
					base = parse(t, s.header()+besides)
					doc = s.header() + "\n" + k.name + " = " + k.example + besides
				case s.path == "api" && k.name == "listen":
					const besides = "\ncert_file = '/c'\nkey_file = '/k'\n[routes]\nengine = 'bolt'\n[proxy]\nvm_prefixes = ['2001:db8::/32']" + port
					base = parse(t, s.header()+besides)
					doc = s.header() + "\n" + k.name + " = " + k.example + besides
				case k.name == "access":
					const besides = "\ntokens = '/etc/tokens'" + port
					base = parse(t, s.header()+besides)
					doc = s.header() + "\n" + k.name + " = " + k.example + besides
				case s.path == "":
					doc = k.name + " = " + k.example + port
				case s.many && k.required:
					doc = s.header() + "\n" + k.name + " = " + k.example
				case s.many:
					doc = port + k.name + " = " + k.example
				}
				next := parse(t, doc)
				if cmp.Equal(base, next, byPrefix) {
					t.Error("the example is the default")
				}
				if got := len(base.NeedRestart(next)) > 0; got != k.restart {
					t.Errorf("NeedRestart says %v, the table says %v", base.NeedRestart(next), k.restart)
				}
			})
		}
	}
	base := parse(t, port)
	if got := base.NeedRestart(base); got != nil {
		t.Errorf("no change: got %v", got)
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		doc  string
		want []string // a part of each warning
	}{
		{"", nil},
		{"[router]\npool6 = []", []string{"nothing will be translated"}},
		{"[router]\npool6 = ['2001:db8::/96']\nallow_private4 = true", []string{"allow_private4 has no effect"}},
		{"[router]\nvm_prefixes = ['2001:db8:1::/48']\neam = [{ ipv6 = '2001:db8:1::2', ipv4 = '192.0.2.2' }]", nil},
		{"[router]\nvm_prefixes = ['2001:db8:1::/64']\neam = [{ ipv6 = '2001:db8:1::2', ipv4 = '192.0.2.2' }, { ipv6 = '2001:db8:1::/48', ipv4 = '192.0.2.3' }]", []string{"router.eam[1]: 2001:db8:1::/48"}},
		{"[router]\nvm_prefixes = 'auto'\neam = [{ ipv6 = '2001:db8:1::2', ipv4 = '192.0.2.2' }]", nil},
		{"[metrics]\nlisten = ':9464'", []string{"can be reached from other hosts"}},
		{"[metrics]\nlisten = '0.0.0.0:9464'", []string{"can be reached from other hosts"}},
		{"[metrics]\nlisten = '127.0.0.1:9464'", nil},
		{"[metrics]\nlisten = 'localhost:9464'", nil},
		{"[metrics]\nlisten = ''", nil},
	} {
		c, err := Parse("x", []byte(tt.doc))
		if err != nil {
			t.Fatalf("%s: %v", tt.doc, err)
		}
		got := c.Warnings()
		if len(got) != len(tt.want) {
			t.Errorf("%s: got %q, want %q", tt.doc, got, tt.want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], tt.want[i]) {
				t.Errorf("%s: got %q, want %q", tt.doc, got[i], tt.want[i])
			}
		}
	}
}

func addrPorts(list ...string) (p []netip.AddrPort) {
	for _, s := range list {
		p = append(p, netip.MustParseAddrPort(s))
	}
	return p
}
