package config

import (
	"slices"
	"time"

	"aarch64.com/isthmus/translate/router/nat44"
)

// A section is one [table] of the file, or one [[table]] that may come several
// times.
type section struct {
	path string // dotted, "" for the top of the file
	many bool
	doc  string
	keys []key
	// enter makes room for one more table of a section that may come several
	// times.
	enter func(*Config)
}

// A key is one line of the file.
type key struct {
	name     string
	typ      string // for people
	def      string // TOML, read by the same code as the file; "" with required
	example  string // TOML, a value other than the default
	required bool
	restart  bool // a running daemon cannot change it
	doc      string
	set      func(*Config, value)
}

// fullName is the key as errors and documentation call it.
func (s *section) fullName(name string) string {
	if s.path == "" {
		return name
	}
	return s.path + "." + name
}

// header is the line that opens the section in a file.
func (s *section) header() string {
	if s.many {
		return "[[" + s.path + "]]"
	}
	return "[" + s.path + "]"
}

// language is the whole language of the file.
var language = slices.Concat(routerSections, proxySections, routesSections, jumpSections, daemonSections)

// routerSections are the top of the file and the keys of the router.
var routerSections = []section{
	{
		doc: "What this host is called. Both may stay empty.",
		keys: []key{
			{
				name: "pop", typ: "string", def: `""`, example: `"dfw"`, restart: true,
				doc: "Name of this point of presence, one DNS label. It appears in the metric `isthmus_instance_info`, and in what users of the jump server are shown.",
				set: func(c *Config, v value) { v.dnsLabel(&c.POP) },
			},
			{
				name: "domain", typ: "string", def: `""`, example: `"infra.example.com"`, restart: true,
				doc: "DNS suffix of this installation. It appears in the metric `isthmus_instance_info`, and in what users of the jump server are shown.",
				set: func(c *Config, v value) { v.dnsName(&c.Domain) },
			},
		},
	},
	{
		path: "router",
		doc:  "The translator between IPv6 and IPv4.",
		keys: []key{
			{
				name: "pool6", typ: "list of IPv6 prefixes", def: `["64:ff9b::/96"]`, example: `["2001:db8:64::/96"]`,
				doc: "IPv6 prefixes that stand for the whole of IPv4 (RFC 6052). Lengths: /32, /40, /48, /56, /64 or /96. The first one is used when an IPv4 address has to be written as IPv6.",
				set: func(c *Config, v value) { v.pool6(&c.Router.Pool6) },
			},
			{
				name: "eam", typ: "list of { ipv6, ipv4 }", def: `[]`, example: `[{ ipv6 = "2001:db8:64::2/128", ipv4 = "192.0.2.2/32" }]`,
				doc: "Explicit address mappings (RFC 7757). An entry beats pool6, and the longest prefix wins. An address without a length stands for itself.",
				set: func(c *Config, v value) { v.eam(&c.Router.EAM) },
			},
			{
				name: "lowest_ipv6_mtu", typ: "integer, 1280 to 65535", def: `1280`, example: `1500`,
				doc: "IPv4 packets that may be fragmented become IPv6 packets no larger than this (RFC 7915 section 4). Raise it only if no link on the IPv6 side is smaller.",
				set: func(c *Config, v value) { v.integer(&c.Router.LowestIPv6MTU, 1280, 65535) },
			},
			{
				name: "tcp_mss_clamp", typ: `"off", "auto" or 536 to 65515`, def: `"off"`, example: `"auto"`,
				doc: "Lowers the maximum segment size that the SYNs of TCP connections offer, in both directions, for networks that lose ICMP errors and with them path MTU discovery. In bytes of segment without headers. auto: to what fits the links by which this host reaches the two ends, such as 1440 where both have an MTU of 1500. It is never raised, and a SYN without the option gets none.",
				set: func(c *Config, v value) { v.mssClamp(&c.Router.MSSClamp) },
			},
			{
				name: "udp_zero_checksum", typ: `"compute" or "drop"`, def: `"compute"`, example: `"drop"`,
				doc: "What happens to an IPv4 UDP packet without a checksum, which IPv6 does not allow (RFC 7915 section 4.5). Fragments without one are always dropped.",
				set: func(c *Config, v value) { v.oneOf(&c.Router.UDPZeroChecksum, UDPZeroCompute, UDPZeroDrop) },
			},
			{
				name: "tos", typ: `"copy", "zero" or 0 to 255`, def: `"copy"`, example: `"zero"`,
				doc: "Traffic class and type of service: carried over, cleared, or set to a value, in both directions (RFC 7915 sections 4.1 and 5.1).",
				set: func(c *Config, v value) { v.tos(&c.Router.TOS) },
			},
			{
				name: "icmp_source4", typ: "list of IPv4 prefixes", def: `[]`, example: `["192.0.2.128/25"]`,
				doc: "IPv4 sources for ICMP errors from IPv6 routers whose address has no mapping (RFC 6791), and for our own. Empty: an address of this host.",
				set: func(c *Config, v value) { v.prefixes(&c.Router.ICMPSource4, family4) },
			},
			{
				name: "icmp_source6", typ: "list of IPv6 prefixes", def: `[]`, example: `["2001:db8:ff::/120"]`,
				doc: "IPv6 sources for our own ICMPv6 errors, and for translated ones whose IPv4 source has no mapping. Empty: an address of this host.",
				set: func(c *Config, v value) { v.prefixes(&c.Router.ICMPSource6, family6) },
			},
			{
				name: "deny4", typ: "list of IPv4 prefixes", def: `[]`, example: `["198.51.100.0/24"]`,
				doc: "IPv4 destinations that are never reached through the translator, besides the built-in ones (0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, multicast, 240.0.0.0/4).",
				set: func(c *Config, v value) { v.prefixes(&c.Router.Deny4, family4) },
			},
			{
				name: "allow_private4", typ: "boolean", def: `false`, example: `true`,
				doc: "Lets 64:ff9b::/96 carry IPv4 addresses that are not global, such as 10.0.0.0/8, which RFC 6052 section 3.1 forbids.",
				set: func(c *Config, v value) { v.boolean(&c.Router.AllowPrivate4) },
			},
			{
				name: "hairpin", typ: `"intrinsic", "simple" or "off"`, def: `"intrinsic"`, example: `"off"`,
				doc: "How two mapped IPv6 hosts reach each other by their IPv4 addresses (RFC 7757 section 4).",
				set: func(c *Config, v value) {
					v.oneOf(&c.Router.Hairpin, HairpinIntrinsic, HairpinSimple, HairpinOff)
				},
			},
			{
				name: "icmp_error_rate", typ: "integer, 0 to 1000000", def: `100`, example: `1000`, restart: true,
				doc: "How many ICMP errors of its own each worker sends per second, with half a second's worth at once (RFC 4443 section 2.4(f), RFC 1812 section 4.3.2.8). Those held back are counted. 0: none is sent (RFC 7915 sections 4.4 and 5.4), and path MTU discovery through this host ends.",
				set: func(c *Config, v value) { v.integer(&c.Router.ICMPErrorRate, 0, 1_000_000) },
			},
			{
				name: "vm_prefixes", typ: `"auto" or list of IPv6 prefixes`, def: `[]`, example: `"auto"`,
				doc: "Where the VMs of this host are, against forged sources (RFC 2827): any other IPv6 source is dropped without an answer, mapped or not; only ICMPv6 errors of routers get through. auto: what this host reaches otherwise than by the way to the Internet, which is the prefixes on its links, and those behind a gateway on another link than that of the default route; the routes are followed. Empty: all sources.",
				set: func(c *Config, v value) { v.vmPrefixes(&c.Router) },
			},
			{
				name: "state_dir", typ: "string, absolute path", def: `"/var/lib/isthmus"`, example: `"/var/lib/other"`, restart: true,
				doc: "The directory for what is kept across restarts, such as who has which address of the dynamic pool, and the jump server's host key. Empty: nothing is kept.",
				set: func(c *Config, v value) { v.directory(&c.Router.StateDir) },
			},
		},
	},
	{
		path: "router.port", many: true,
		doc:   "A network interface that AF_XDP sockets serve. One section per interface; none: traffic takes the kernel path only.",
		enter: func(c *Config) { c.Router.Ports = append(c.Router.Ports, Port{}) },
		keys: []key{
			{
				name: "interface", typ: "string", example: `"enp1s0"`, required: true, restart: true,
				doc: "The interface's name.",
				set: func(c *Config, v value) { v.ifname(&c.port().Interface) },
			},
			{
				name: "queues", typ: `"all" or list of integers`, def: `"all"`, example: `[0, 1]`, restart: true,
				doc: "Which of its queues. Worker 0 serves the first of them on every port, worker 1 the second, and so on.",
				set: func(c *Config, v value) { v.queues(&c.port().Queues) },
			},
			{
				name: "zero_copy", typ: `"auto", "require" or "off"`, def: `"auto"`, example: `"require"`, restart: true,
				doc: "Whether the driver hands over its buffers. With auto the kernel decides, with require anything else is an error on start.",
				set: func(c *Config, v value) { v.oneOf(&c.port().ZeroCopy, ZeroCopyAuto, ZeroCopyRequire, ZeroCopyOff) },
			},
			{
				name: "attach", typ: `"auto", "driver" or "generic"`, def: `"auto"`, example: `"generic"`, restart: true,
				doc: "Where the XDP program is attached. With auto the driver, and the generic hook when the driver has none.",
				set: func(c *Config, v value) { v.oneOf(&c.port().Attach, AttachAuto, AttachDriver, AttachGeneric) },
			},
			{
				name: "checksum", typ: `"trust" or "complete"`, def: `"trust"`, example: `"complete"`, restart: true,
				doc: "Use complete where senders leave the L4 checksum for the hardware to finish, as local virtual interfaces do: it is then computed in full.",
				set: func(c *Config, v value) { v.oneOf(&c.port().Checksum, ChecksumTrust, ChecksumComplete) },
			},
			{
				name: "frame_size", typ: `"auto", 2048 or 4096`, def: `"auto"`, example: `4096`, restart: true,
				doc: "Bytes of memory per frame, 282 of which are not for the packet; the largest of all ports holds. With auto 2048 where the MTU fits and zero_copy does not need more (igb, igc and ixgbe do), else 4096. Larger packets take the kernel path.",
				set: func(c *Config, v value) { v.frameSize(&c.port().FrameSize) },
			},
		},
	},
	{
		path: "router.dynamic",
		doc:  "Addresses for IPv6 hosts that have no mapping: each gets one from a pool with its first packet, and keeps it. The pool is routed to the translator; what leaves this host needs a NAT for it, or routes that lead back here.",
		keys: []key{
			{
				name: "pool4", typ: "string, IPv4 prefix", def: `""`, example: `"100.64.0.0/16"`, restart: true,
				doc: "The pool. Empty: hosts without a mapping are refused. Mappings in `eam` win.",
				set: func(c *Config, v value) { v.optionalPrefix(&c.Router.Dynamic.Pool4, family4) },
			},
			{
				name: "idle", typ: "string, duration", def: `"168h"`, example: `"24h"`, restart: true,
				doc: "A host that sends and receives nothing for so long loses its address, give or take an eighth.",
				set: func(c *Config, v value) { v.duration(&c.Router.Dynamic.Idle, time.Second) },
			},
			{
				name: "max_per_64", typ: "integer, 0 to 1000000", def: `256`, example: `16`, restart: true,
				doc: "How many addresses of the pool one /64, which often is one VM, may have at a time. 0: no bound.",
				set: func(c *Config, v value) { v.integer(&c.Router.Dynamic.MaxPer64, 0, 1_000_000) },
			},
		},
	},
	{
		path: "router.share",
		doc:  "Lets the hosts of the dynamic pool share addresses of this host, by a NAT in an nftables table `isthmus`. Each host has ports of its own, so that none takes those of another and any (address, port) leads back to its host (`isthmus map owner`). Kernel path only.",
		keys: []key{
			{
				name: "address", typ: `"auto", IPv4 address or list of them`, def: `""`, example: `"auto"`, restart: true,
				doc: "The shared addresses. auto: that of the interface which the default route leaves by. Empty: the pool leaves as it is.",
				set: func(c *Config, v value) { v.share(&c.Router.Share) },
			},
			{
				name: "ports_per_vm", typ: "integer, 16 to 16384", def: `256`, example: `1024`, restart: true,
				doc: "Ports of each host, and ICMP identifiers. Ports below 1024 and those of net.ipv4.ip_local_port_range and ip_local_reserved_ports are the host's own; the rest, divided by this, is how many hosts one address serves.",
				set: func(c *Config, v value) {
					v.integer(&c.Router.Share.PortsPerVM, nat44.MinPortsPerVM, nat44.MaxPortsPerVM)
				},
			},
			{
				name: "max_connections", typ: "integer, 0 to 1000000", def: `4000`, example: `1000`, restart: true,
				doc: "Connections that one host may have at a time; more are refused. 0: no bound.",
				set: func(c *Config, v value) { v.integer(&c.Router.Share.MaxConnections, 0, 1_000_000) },
			},
			{
				name: "new_per_second", typ: "integer, 0 to 1000000", def: `400`, example: `100`, restart: true,
				doc: "Connections that one host may open per second, and at once; more are refused. 0: no bound.",
				set: func(c *Config, v value) { v.integer(&c.Router.Share.NewPerSecond, 0, 1_000_000) },
			},
			{
				name: "keep", typ: "boolean", def: `true`, example: `false`, restart: true,
				doc: "Leaves the table in the kernel on SIGTERM, so that connections outlive a restart, and replaces it on the next start. SIGINT, as from Ctrl-C and systemctl stop, always removes it. With false SIGTERM does so, too: the kernel then resets the connections.",
				set: func(c *Config, v value) { v.boolean(&c.Router.Share.Keep) },
			},
		},
	},
	{
		path: "router.kernel",
		doc:  "The TUN device through which the kernel hands over what it routes to the translator, and gets back what a worker cannot send itself.",
		keys: []key{
			{
				name: "interface", typ: "string", def: `"isthmus0"`, example: `"siit0"`, restart: true,
				doc: "Its name. The device is made on start and removed on stop.",
				set: func(c *Config, v value) { v.ifname(&c.Router.Kernel.Interface) },
			},
			{
				name: "forwarding", typ: `"check" or "set"`, def: `"check"`, example: `"set"`, restart: true,
				doc: "The sysctls net.ipv4.ip_forward and net.ipv6.conf.all.forwarding of this network namespace, without which the kernel routes nothing to and from the translator. With check isthmus warns if they are off; with set it switches them on at the start, and leaves them on. Before IPv6 forwarding it sets accept_ra = 2 on interfaces with routes from router advertisements, which the kernel would drop. A host that forwards is a router for everybody who can reach it: mind its firewall.",
				set: func(c *Config, v value) { v.oneOf(&c.Router.Kernel.Forwarding, ForwardingCheck, ForwardingSet) },
			},
			{
				name: "fast_path", typ: `"auto" or "off"`, def: `"auto"`, example: `"off"`, restart: true,
				doc: "With auto, a BPF program on the device translates plain packets inside the kernel (Linux 6.2 or newer); where it cannot be had, isthmus says why and works without.",
				set: func(c *Config, v value) { v.oneOf(&c.Router.Kernel.FastPath, FastPathAuto, FastPathOff) },
			},
			{
				name: "fast_path_interfaces", typ: "array of strings", def: `[]`, example: `["vm0", "wan0"]`, restart: true,
				doc: "Ethernet interfaces where it does so as soon as a packet comes in, and sends it straight to its next hop: those of the VMs for packets from IPv6, the uplink for packets from IPv4. Faster, but past nftables (firewall, NAT, connection tracking) and packet captures behind that point. VMs that share an address ([router.share]) keep to the normal way, and so does all that routing would not lead to the TUN device or whose source is not where it comes from. Where a bridge has the address, name the bridge, not its ports. Interfaces may come and go.",
				set: func(c *Config, v value) { v.ifnames(&c.Router.Kernel.FastPathInterfaces) },
			},
		},
	},
}

// daemonSections are the keys of the process itself.
var daemonSections = []section{
	{
		path: "metrics",
		doc:  "The HTTP endpoint with /metrics for Prometheus, /healthz and /readyz.",
		keys: []key{
			{
				name: "listen", typ: "string, address:port", def: `"[::1]:9464"`, example: `"127.0.0.1:9464"`, restart: true,
				doc: "Where it listens. Empty: no endpoint.",
				set: func(c *Config, v value) { v.listen(&c.Metrics.Listen) },
			},
		},
	},
	{
		path: "control",
		doc:  "The Unix socket on which a running isthmus answers subcommands such as `isthmus status`.",
		keys: []key{
			{
				name: "socket", typ: "string, absolute path", def: `"/run/isthmus/control.sock"`, example: `"/run/isthmus/other.sock"`, restart: true,
				doc: "Its path; only the user that isthmus runs as may open it. Empty: no socket.",
				set: func(c *Config, v value) { v.path(&c.Control.Socket) },
			},
		},
	},
}

// port is the [[router.port]] that is being read.
func (c *Config) port() *Port { return &c.Router.Ports[len(c.Router.Ports)-1] }

// defaultNode is the default as if it stood in the file.
func (k *key) defaultNode() *node {
	doc := []byte(k.name + " = " + k.def)
	rep := &report{file: "default of " + k.name, doc: doc}
	root := parseTree(rep, doc)
	if root == nil {
		// Only a wrong entry above gets here; TestDefaults reads them all.
		panic(rep.err())
	}
	return root.members[0].node
}
