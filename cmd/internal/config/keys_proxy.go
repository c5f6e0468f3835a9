package config

// proxySections are the keys of the web proxy.
var proxySections = []section{
	{
		path: "proxy",
		doc:  "The web proxy: visitors with IPv4 only reach web sites on VMs by their host names. TLS ends on the VM.",
		keys: []key{
			{
				name: "listen_http", typ: "list of address:port", def: `[]`, example: `["0.0.0.0:80"]`, restart: true,
				doc: "Where it listens for HTTP. Empty: no HTTP. With this and the next two empty there is no proxy.",
				set: func(c *Config, v value) { v.addrPorts(&c.Proxy.ListenHTTP) },
			},
			{
				name: "listen_https", typ: "list of address:port", def: `[]`, example: `["0.0.0.0:443"]`, restart: true,
				doc: "Where it listens for HTTPS over TCP.",
				set: func(c *Config, v value) { v.addrPorts(&c.Proxy.ListenHTTPS) },
			},
			{
				name: "listen_quic", typ: "list of address:port", def: `[]`, example: `["0.0.0.0:443"]`, restart: true,
				doc: "Where it listens for HTTP/3, which is QUIC over UDP.",
				set: func(c *Config, v value) { v.addrPorts(&c.Proxy.ListenQUIC) },
			},
			{
				name: "vm_prefixes", typ: "list of IPv6 prefixes", def: `[]`, example: `["2001:db8:64::/64"]`,
				doc: "Where VMs are; needed with a `listen_...`, and for a store of routes ([routes]), whose projects' prefixes have to lie in these. No route leads outside, nor to an address of this host itself; that is looked at when routes are read and again when a VM is connected to.",
				set: func(c *Config, v value) { v.prefixes(&c.Proxy.VMPrefixes, family6) },
			},
			{
				name: "routes_file", typ: "string, absolute path", def: `""`, example: `"/etc/isthmus/routes.toml"`, restart: true,
				doc: "The file that says which host name leads to which VM, see docs/proxy.md; needed with a `listen_...` unless there is a store ([routes]), whose routes give way to those of the file. It is read again whenever it changes. A file with a mistake is reported and changes nothing.",
				set: func(c *Config, v value) { v.file(&c.Proxy.RoutesFile) },
			},
			{
				name: "name", typ: "string, DNS name", def: `""`, example: `"proxy.example.com"`,
				doc: "What the proxy calls itself in the headers Via and Forwarded. Empty: POP.proxy.DOMAIN where `pop` and `domain` are set, such as dfw.proxy.infra.example.com; else isthmus.",
				set: func(c *Config, v value) { v.dnsName(&c.Proxy.Name) },
			},
			{
				name: "access_log", typ: `"log", "off" or absolute path`, def: `"off"`, example: `"/var/log/isthmus/access.json"`,
				doc: "Where one JSON line for each request goes, and for each connection of TLS and QUIC: isthmus's own log, nowhere, or a file. A reload opens the file anew, for logrotate.",
				set: func(c *Config, v value) { v.audit(&c.Proxy.AccessLog) },
			},
			{
				name: "access_log_every", typ: "integer, 1 to 1000000", def: `1`, example: `100`,
				doc: "Writes one line in so many, chosen at random. Requests and connections that failed for a reason on this side (result forbidden, unreachable, slow_backend, broken_by_vm, too_many, loop) are all written.",
				set: func(c *Config, v value) { v.integer(&c.Proxy.AccessLogEvery, 1, 1_000_000) },
			},
			{
				name: "drain_timeout", typ: "string, duration", def: `"1m"`, example: `"10m"`,
				doc: "How long SIGTERM leaves open connections time to end by themselves. It stops listening at once; SIGINT ends connections at once, too.",
				set: func(c *Config, v value) { v.duration(&c.Proxy.DrainTimeout, 0) },
			},
		},
	},
	{
		path: "proxy.limits",
		doc:  "What visitors may use. A client is an IPv4 address or an IPv6 /64. 0: no bound.",
		keys: []key{
			{
				name: "connections", typ: limitType, def: `50000`, example: `10000`,
				doc: "TCP connections in all, HTTP and HTTPS together. Each takes two file descriptors.",
				set: func(c *Config, v value) { v.limit(&c.Proxy.Limits.Connections) },
			},
			{
				name: "connections_per_client", typ: limitType, def: `500`, example: `100`,
				doc: "Of one client. Many people share an IPv4 address behind the NAT of a mobile network.",
				set: func(c *Config, v value) { v.limit(&c.Proxy.Limits.ConnectionsPerClient) },
			},
			{
				name: "connections_per_host", typ: limitType, def: `20000`, example: `1000`,
				doc: "To one host name.",
				set: func(c *Config, v value) { v.limit(&c.Proxy.Limits.ConnectionsPerHost) },
			},
			{
				name: "connections_per_project", typ: limitType, def: `20000`, example: `1000`,
				doc: "To all host names of one project.",
				set: func(c *Config, v value) { v.limit(&c.Proxy.Limits.ConnectionsPerProject) },
			},
			{
				name: "requests_per_connection", typ: limitType, def: `100`, example: `20`,
				doc: "Requests at a time on one connection of HTTP/2.",
				set: func(c *Config, v value) { v.limit(&c.Proxy.Limits.RequestsPerConnection) },
			},
			{
				name: "request_header", typ: limitType, def: `65536`, example: `16384`,
				doc: "Bytes of a request's line and header fields.",
				set: func(c *Config, v value) { v.limit(&c.Proxy.Limits.RequestHeader) },
			},
			{
				name: "quic_flows", typ: limitType, def: `50000`, example: `10000`,
				doc: "Connections of QUIC in all.",
				set: func(c *Config, v value) { v.limit(&c.Proxy.Limits.QUICFlows) },
			},
			{
				name: "quic_flows_per_client", typ: limitType, def: `200`, example: `50`,
				doc: "Of one client.",
				set: func(c *Config, v value) { v.limit(&c.Proxy.Limits.QUICFlowsPerClient) },
			},
			{
				name: "quic_pending", typ: limitType, def: `1000`, example: `200`,
				doc: "Clients of QUIC whose first message is not complete yet; forged source addresses fill no more than this.",
				set: func(c *Config, v value) { v.limit(&c.Proxy.Limits.QUICPending) },
			},
		},
	},
	{
		path: "proxy.timeouts",
		doc:  "When the proxy gives up on what does not get on. \"0s\": never.",
		keys: []key{
			{
				name: "hello", typ: "string, duration", def: `"10s"`, example: `"5s"`,
				doc: "From connecting until a visitor has said where to: the TLS hello, or the head of an HTTP request.",
				set: func(c *Config, v value) { v.timeout(&c.Proxy.Timeouts.Hello) },
			},
			{
				name: "connect", typ: "string, duration", def: `"3s"`, example: `"1s"`,
				doc: "Until a VM takes the connection; after that the next of the route's VMs is tried.",
				set: func(c *Config, v value) { v.timeout(&c.Proxy.Timeouts.Connect) },
			},
			{
				name: "response", typ: "string, duration", def: `"2m"`, example: `"30s"`,
				doc: "Until a VM begins to answer an HTTP request.",
				set: func(c *Config, v value) { v.timeout(&c.Proxy.Timeouts.Response) },
			},
			{
				name: "idle", typ: "string, duration", def: `"10m"`, example: `"1h"`,
				doc: "A connection on which no byte comes or goes, also a WebSocket.",
				set: func(c *Config, v value) { v.timeout(&c.Proxy.Timeouts.Idle) },
			},
			{
				name: "keep_open", typ: "string, duration", def: `"1m"`, example: `"15s"`,
				doc: "An HTTP connection between two requests.",
				set: func(c *Config, v value) { v.timeout(&c.Proxy.Timeouts.KeepOpen) },
			},
			{
				name: "quic_idle", typ: "string, duration", def: `"2m"`, example: `"30s"`,
				doc: "A connection of QUIC without a datagram.",
				set: func(c *Config, v value) { v.timeout(&c.Proxy.Timeouts.QUICIdle) },
			},
		},
	},
}
