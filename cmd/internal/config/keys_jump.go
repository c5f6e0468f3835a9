package config

// jumpSections are the keys of the jump server.
var jumpSections = []section{
	{
		path: "jump",
		doc:  "The SSH jump server: `ssh -J jump@HOST root@VM-ADDRESS`. It reaches port 22 of VMs and nothing else.",
		keys: []key{
			{
				name: "listen", typ: "list of address:port", def: `[]`, example: `["0.0.0.0:22", "[::]:22"]`, restart: true,
				doc: "Where it listens. Empty: there is no jump server.",
				set: func(c *Config, v value) { v.listenList(&c.Jump.Listen) },
			},
			{
				name: "vm_prefixes", typ: "list of IPv6 prefixes", def: `[]`, example: `["2001:db8::/32"]`,
				doc: "Where VMs are; needed with `listen`. Unlike those of [router], they are usually the whole cloud's, since people jump from anywhere to VMs anywhere. Nothing outside is reached, and no address of this host itself.",
				set: func(c *Config, v value) { v.prefixes(&c.Jump.VMPrefixes, family6) },
			},
			{
				name: "vm_opt_out", typ: "list of IPv6 prefixes", def: `[]`, example: `["2001:db8::aa64"]`,
				doc: "VMs that don't want to be reached through the jump server.",
				set: func(c *Config, v value) { v.prefixes(&c.Jump.VMOptOut, family6) },
			},
			{
				name: "user", typ: "string", def: `"jump"`, example: `"relay"`,
				doc: "The user that clients log in as. All others are refused.",
				set: func(c *Config, v value) { v.userName(&c.Jump.User) },
			},
			{
				name: "host", typ: "string, name or address", def: `""`, example: `"jump.example.com"`,
				doc: "This server's name in what users are shown. Empty: POP0.DOMAIN where `pop` and `domain` are set, such as dfw0.infra.example.com; else the address they came to.",
				set: func(c *Config, v value) { v.host(&c.Jump.Host) },
			},
			{
				name: "access", typ: `"anyone" or "listed"`, def: `"anyone"`, example: `"listed"`,
				doc: "Who is let in. anyone: without a question; the VM asks for keys and passwords. listed: who has a key of `authorized_keys` or a token of `tokens`.",
				set: func(c *Config, v value) { v.oneOf(&c.Jump.Access, AccessAnyone, AccessListed) },
			},
			{
				name: "authorized_keys", typ: "string, absolute path", def: `""`, example: `"/etc/isthmus/authorized_keys"`,
				doc: "A file with a public key in each line, in the format of sshd; the comment is the name for the audit log. A reload reads it again.",
				set: func(c *Config, v value) { v.file(&c.Jump.AuthorizedKeys) },
			},
			{
				name: "tokens", typ: "string, absolute path", def: `""`, example: `"/etc/isthmus/tokens"`,
				doc: "A file with a name and the SHA-256 of a token in each line, as `isthmus jump token NAME` makes them; clients send the token as a password. A reload reads it again.",
				set: func(c *Config, v value) { v.file(&c.Jump.Tokens) },
			},
			{
				name: "host_keys", typ: "list of absolute paths", def: `[]`, example: `["/etc/isthmus/ssh_host_ed25519_key"]`,
				doc: "Files of the private keys that clients know this server by, one of each type: Ed25519, and ECDSA (P-256) where clients may use nothing else; for the owner's eyes only. Empty: jump/ssh_host_ed25519_key in `router.state_dir`, which is made on the first start.",
				set: func(c *Config, v value) { v.files(&c.Jump.HostKeys) },
			},
			{
				name: "next_host_keys", typ: "list of absolute paths", def: `[]`, example: `["/etc/isthmus/ssh_host_ed25519_key.next"]`,
				doc: "Keys that are announced to clients but not used yet, so that they know them when they are. Empty: the files of `host_keys` with .next at the end, where there are such.",
				set: func(c *Config, v value) { v.files(&c.Jump.NextHostKeys) },
			},
			{
				name: "host_certificates", typ: "list of absolute paths", def: `[]`, example: `["/etc/isthmus/ssh_host_ed25519_key-cert.pub"]`,
				doc: "Certificates for `host_keys`: clients that trust the authority (@cert-authority in known_hosts) need to know no key. One that has expired is left out, with a warning.",
				set: func(c *Config, v value) { v.files(&c.Jump.HostCertificates) },
			},
			{
				name: "proxy_from", typ: "list of prefixes", def: `[]`, example: `["192.0.2.10/32"]`,
				doc: "Load balancers in front. From them the PROXY protocol's header is needed, and believed, which says where a client comes from.",
				set: func(c *Config, v value) { v.prefixes(&c.Jump.ProxyFrom, familyAny) },
			},
			{
				name: "drain_timeout", typ: "string, duration", def: `"1m"`, example: `"1h"`,
				doc: "How long SIGTERM leaves open sessions time to end by themselves. It stops listening at once; SIGINT ends sessions at once, too. A router in the same process stops only then, so a restart takes as long.",
				set: func(c *Config, v value) { v.duration(&c.Jump.DrainTimeout, 0) },
			},
			{
				name: "audit", typ: `"log", "off" or absolute path`, def: `"log"`, example: `"/var/log/isthmus/jump.json"`,
				doc: "Where one JSON line for each channel goes, opened or refused: isthmus's own log, nowhere, or a file. A reload opens the file anew, for logrotate.",
				set: func(c *Config, v value) { v.audit(&c.Jump.Audit) },
			},
		},
	},
	{
		path: "jump.limits",
		doc:  "What clients of the jump server may use. A source is an IPv4 address or an IPv6 /64. 0: no bound.",
		keys: []key{
			{
				name: "handshakes", typ: "integer, 0 to 100000", def: `0`, example: `32`,
				doc: "Handshakes that are worked on at once. 0: four for each CPU.",
				set: func(c *Config, v value) { v.integer(&c.Jump.Limits.Handshakes, 0, 100_000) },
			},
			{
				name: "startups_drop", typ: limitType, def: `100`, example: `50`,
				doc: "From so many connections on that have not logged in, new ones are dropped at random, the more the more there are (as MaxStartups of sshd).",
				set: func(c *Config, v value) { v.limit(&c.Jump.Limits.StartupsDrop) },
			},
			{
				name: "startups_max", typ: limitType, def: `1000`, example: `500`,
				doc: "From so many on, all are.",
				set: func(c *Config, v value) { v.limit(&c.Jump.Limits.StartupsMax) },
			},
			{
				name: "connections", typ: limitType, def: `10000`, example: `1000`,
				doc: "Connections in all. Each may need as many file descriptors as it has channels, and one.",
				set: func(c *Config, v value) { v.limit(&c.Jump.Limits.Connections) },
			},
			{
				name: "connections_per_source", typ: limitType, def: `64`, example: `16`,
				doc: "Connections of one source.",
				set: func(c *Config, v value) { v.limit(&c.Jump.Limits.ConnectionsPerSource) },
			},
			{
				name: "channels_per_connection", typ: limitType, def: `64`, example: `10`,
				doc: "Channels, which are ways to a VM, of one connection.",
				set: func(c *Config, v value) { v.limit(&c.Jump.Limits.ChannelsPerConnection) },
			},
			{
				name: "channels", typ: limitType, def: `20000`, example: `2000`,
				doc: "Channels in all.",
				set: func(c *Config, v value) { v.limit(&c.Jump.Limits.Channels) },
			},
			{
				name: "targets_per_minute", typ: limitType, def: `60`, example: `10`,
				doc: "Different VMs that one source may connect to in a minute, against scans.",
				set: func(c *Config, v value) { v.limit(&c.Jump.Limits.TargetsPerMinute) },
			},
			{
				name: "dials_per_minute", typ: limitType, def: `60`, example: `10`,
				doc: "Connections of one source to one VM in a minute, against guessing passwords.",
				set: func(c *Config, v value) { v.limit(&c.Jump.Limits.DialsPerMinute) },
			},
			{
				name: "refusals_per_connection", typ: limitType, def: `32`, example: `8`,
				doc: "A connection with more refused channels and requests is closed.",
				set: func(c *Config, v value) { v.limit(&c.Jump.Limits.RefusalsPerConnection) },
			},
			{
				name: "exempt", typ: "list of prefixes", def: `[]`, example: `["192.0.2.0/24"]`,
				doc: "Sources that no limit for each source holds for, such as a company's NAT.",
				set: func(c *Config, v value) { v.prefixes(&c.Jump.Limits.Exempt, familyAny) },
			},
		},
	},
	{
		path: "jump.timeouts",
		doc:  "When the jump server gives up on what does not get on. \"0s\": never.",
		keys: []key{
			{
				name: "login", typ: "string, duration", def: `"20s"`, example: `"10s"`,
				doc: "From connecting until the client is logged in.",
				set: func(c *Config, v value) { v.timeout(&c.Jump.Timeouts.Login) },
			},
			{
				name: "dial", typ: "string, duration", def: `"10s"`, example: `"3s"`,
				doc: "Until a VM answers.",
				set: func(c *Config, v value) { v.timeout(&c.Jump.Timeouts.Dial) },
			},
			{
				name: "unused", typ: "string, duration", def: `"2m"`, example: `"30s"`,
				doc: "A connection without a channel.",
				set: func(c *Config, v value) { v.timeout(&c.Jump.Timeouts.Unused) },
			},
			{
				name: "idle", typ: "string, duration", def: `"24h"`, example: `"1h"`,
				doc: "A channel on which no byte comes or goes.",
				set: func(c *Config, v value) { v.timeout(&c.Jump.Timeouts.Idle) },
			},
			{
				name: "stall", typ: "string, duration", def: `"5m"`, example: `"1m"`,
				doc: "A client or VM that takes nothing of what there is for it.",
				set: func(c *Config, v value) { v.timeout(&c.Jump.Timeouts.Stall) },
			},
			{
				name: "keepalive", typ: "string, duration", def: `"1m"`, example: `"30s"`,
				doc: "Between questions to a silent client whether it is still there; after three without an answer it is gone.",
				set: func(c *Config, v value) { v.timeout(&c.Jump.Timeouts.Keepalive) },
			},
		},
	},
}

const (
	limitType = "integer, 0 to 10000000"
	maxLimit  = 10_000_000
)

func (v value) limit(to *int) { v.integer(to, 0, maxLimit) }
