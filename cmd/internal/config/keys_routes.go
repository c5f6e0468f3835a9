package config

// routesSections are the keys of the shared store of routes and of what changes it.
var routesSections = []section{
	{
		path: "routes",
		doc:  "The store of projects and their proxies: what customers set in the proxies tab, and which web proxies serve beside their `routes_file`. See docs/proxies-tab.md.",
		keys: []key{
			{
				name: "engine", typ: `"auto", "bolt", "etcd" or "off"`, def: `"auto"`, example: `"bolt"`, restart: true,
				doc: "bolt: a file of this host, and nothing to install; one process has it, with web proxy and API together. etcd: a cluster that all hosts share. off: there is no store, and no API. auto: etcd with `endpoints` in [routes.etcd]; else bolt with a `file`, with `listen` in [api], or for a web proxy without a `routes_file`; else off.",
				set: func(c *Config, v value) { v.oneOf(&c.Routes.Engine, EngineAuto, EngineBolt, EngineEtcd, EngineOff) },
			},
			{
				name: "file", typ: "string, absolute path", def: `""`, example: `"/var/lib/isthmus/routes.db"`, restart: true,
				doc: "The file of the engine bolt. Empty: routes.db in `state_dir` of [router].",
				set: func(c *Config, v value) { v.file(&c.Routes.File) },
			},
			{
				name: "copy", typ: "string, absolute path", def: `""`, example: `"/var/lib/isthmus/routes.copy"`, restart: true,
				doc: "Where this host keeps its last copy of the store, which it serves from while the store is away. Each process needs one of its own. Empty: routes.copy in `state_dir`; without that none is kept.",
				set: func(c *Config, v value) { v.file(&c.Routes.Copy) },
			},
			{
				name: "node", typ: "string, DNS name", def: `""`, example: `"dfw0"`, restart: true,
				doc: "What this host is called among those that share the store. No two may have the same. Empty: its host name.",
				set: func(c *Config, v value) { v.dnsName(&c.Routes.Node) },
			},
			{
				name: "reconcile", typ: "string, duration", def: `"1m"`, example: `"5m"`, restart: true,
				doc: "How often the copy is compared with the store. Changes come at once; this finds what should not happen.",
				set: func(c *Config, v value) { v.duration(&c.Routes.Reconcile, minReconcile) },
			},
			{
				name: "hold", typ: "string, duration", def: `"168h"`, example: `"24h"`, restart: true,
				doc: "How long a released host name is kept from other projects.",
				set: func(c *Config, v value) { v.duration(&c.Routes.Hold, minHold) },
			},
			{
				name: "grace", typ: "string, duration", def: `"168h"`, example: `"72h"`, restart: true,
				doc: "How long a site is served on after its TXT record has gone.",
				set: func(c *Config, v value) { v.duration(&c.Routes.Grace, minHold) },
			},
			{
				name: "audit", typ: "string, duration", def: `"2160h"`, example: `"8760h"`, restart: true,
				doc: "How long the log of changes is kept.",
				set: func(c *Config, v value) { v.duration(&c.Routes.Audit, minHold) },
			},
			{
				name: "resolvers", typ: "list of address:port", def: `[]`, example: `["[2001:db8::53]:53"]`, restart: true,
				doc: "DNS resolvers that say which name servers a zone has; those are then asked for the TXT records that prove host names. Empty: those of /etc/resolv.conf.",
				set: func(c *Config, v value) { v.addrPorts(&c.Routes.Resolvers) },
			},
			{
				name: "name_servers", typ: "list of prefixes", def: `[]`, example: `["10.0.53.0/24"]`, restart: true,
				doc: "Where else than at public addresses name servers may be asked, such as those of an internal zone. Who owns a zone says where its name servers are.",
				set: func(c *Config, v value) { v.prefixes(&c.Routes.NameServers, familyAny) },
			},
		},
	},
	{
		path: "routes.etcd",
		doc:  "Where etcd is, with `engine = \"etcd\"`. Version 3.5.8 or newer.",
		keys: []key{
			{
				name: "endpoints", typ: "list of URLs", def: `[]`, example: `["https://etcd1.example:2379", "https://etcd2.example:2379"]`, restart: true,
				doc: "Its members. All of them, so that this host can do without one.",
				set: func(c *Config, v value) { v.endpoints(&c.Routes.Etcd.Endpoints) },
			},
			{
				name: "prefix", typ: "string", def: `"/isthmus/"`, example: `"/production/isthmus/"`, restart: true,
				doc: "What all keys begin with, for an etcd that others use, too.",
				set: func(c *Config, v value) { v.etcdPrefix(&c.Routes.Etcd.Prefix) },
			},
			{
				name: "ca_file", typ: "string, absolute path", def: `""`, example: `"/etc/isthmus/etcd-ca.pem"`, restart: true,
				doc: "Certificates of who signs those of the members, as PEM. Empty: whom this host trusts.",
				set: func(c *Config, v value) { v.file(&c.Routes.Etcd.CAFile) },
			},
			{
				name: "cert_file", typ: "string, absolute path", def: `""`, example: `"/etc/isthmus/etcd.pem"`, restart: true,
				doc: "This host's certificate, as PEM; read again for each connection. Empty: none.",
				set: func(c *Config, v value) { v.file(&c.Routes.Etcd.CertFile) },
			},
			{
				name: "key_file", typ: "string, absolute path", def: `""`, example: `"/etc/isthmus/etcd.key"`, restart: true,
				doc: "Its key.",
				set: func(c *Config, v value) { v.file(&c.Routes.Etcd.KeyFile) },
			},
			{
				name: "user", typ: "string", def: `""`, example: `"isthmus"`, restart: true,
				doc: "Who this host is to etcd, if that asks for a password.",
				set: func(c *Config, v value) { v.word(&c.Routes.Etcd.User) },
			},
			{
				name: "password_file", typ: "string, absolute path", def: `""`, example: `"/etc/isthmus/etcd.password"`, restart: true,
				doc: "A file with the password, which nobody else may read.",
				set: func(c *Config, v value) { v.file(&c.Routes.Etcd.PasswordFile) },
			},
		},
	},
	{
		path: "api",
		doc:  "The REST API and the page of the proxies tab. With a store ([routes] engine) they are there on the control socket anyway, for root, as `isthmus routes` needs them.",
		keys: []key{
			{
				name: "listen", typ: "list of address:port", def: `[]`, example: `["[::]:8443"]`, restart: true,
				doc: "Where they listen, with a certificate or on loopback addresses. Empty: on the control socket only.",
				set: func(c *Config, v value) { v.addrPorts(&c.API.Listen) },
			},
			{
				name: "cert_file", typ: "string, absolute path", def: `""`, example: `"/etc/isthmus/api.pem"`, restart: true,
				doc: "Certificate for all of `listen`, as PEM, with those between it and its root. A renewed one is used at once.",
				set: func(c *Config, v value) { v.file(&c.API.CertFile) },
			},
			{
				name: "key_file", typ: "string, absolute path", def: `""`, example: `"/etc/isthmus/api.key"`, restart: true,
				doc: "Its key.",
				set: func(c *Config, v value) { v.file(&c.API.KeyFile) },
			},
			{
				name: "hosts", typ: "list of DNS names", def: `[]`, example: `["isthmus.example.com"]`,
				doc: "Names by which a server in front on this host calls listeners without a certificate, besides localhost.",
				set: func(c *Config, v value) { v.dnsNames(&c.API.Hosts) },
			},
			{
				name: "pops", typ: "list of DNS labels", def: `[]`, example: `["dfw", "ams"]`,
				doc: "Points of presence that customers are shown as POP.proxy.DOMAIN for their CNAME records. Empty: `pop` alone.",
				set: func(c *Config, v value) { v.dnsLabels(&c.API.POPs) },
			},
			{
				name: "requests_per_second", typ: limitType, def: `50`, example: `10`,
				doc: "Requests with one token. 0: no bound.",
				set: func(c *Config, v value) { v.limit(&c.API.PerSecond) },
			},
			{
				name: "burst", typ: limitType, def: `200`, example: `50`,
				doc: "Of them at once. 0: no bound.",
				set: func(c *Config, v value) { v.limit(&c.API.Burst) },
			},
			{
				name: "failures_per_minute", typ: limitType, def: `20`, example: `5`,
				doc: "Wrong tokens from one IPv4 address or IPv6 /64. 0: no bound.",
				set: func(c *Config, v value) { v.limit(&c.API.Failures) },
			},
		},
	},
}
