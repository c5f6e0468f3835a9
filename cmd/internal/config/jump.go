package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Jump is the [jump] section.
type Jump struct {
	Listen           []string // address:port; none: no jump server
	VMPrefixes       []netip.Prefix
	VMOptOut         []netip.Prefix
	User             string
	Host             string // "": by pop and domain, see JumpHost
	Access           string
	AuthorizedKeys   string   // absolute path, "" for none
	Tokens           string   // absolute path, "" for none
	HostKeys         []string // absolute paths; none: see JumpHostKeys
	NextHostKeys     []string // absolute paths; none: what stands beside HostKeys
	HostCertificates []string // absolute paths
	ProxyFrom        []netip.Prefix
	DrainTimeout     time.Duration
	Audit            string // AuditLog, AuditOff or an absolute path
	Limits           JumpLimits
	Timeouts         JumpTimeouts
}

// JumpLimits is the [jump.limits] section. 0 is no bound, but for Handshakes.
type JumpLimits struct {
	Handshakes            int // 0: by the number of CPUs
	StartupsDrop          int
	StartupsMax           int
	Connections           int
	ConnectionsPerSource  int
	ChannelsPerConnection int
	Channels              int
	TargetsPerMinute      int
	DialsPerMinute        int
	RefusalsPerConnection int
	Exempt                []netip.Prefix
}

// JumpTimeouts is the [jump.timeouts] section. 0 is never.
type JumpTimeouts struct {
	Login, Dial, Unused, Idle, Stall, Keepalive time.Duration
}

// The words that keys of [jump] take.
const (
	AccessAnyone = "anyone"
	AccessListed = "listed"

	AuditLog = "log"
	AuditOff = "off"
)

// JumpHost is the name that users are shown, "" where there is none.
func (c *Config) JumpHost() string {
	if c.Jump.Host == "" && c.POP != "" && c.Domain != "" {
		return c.POP + "0." + c.Domain
	}
	return c.Jump.Host
}

// JumpHostKeys are the files of the keys in use.
func (c *Config) JumpHostKeys() []string {
	if len(c.Jump.HostKeys) == 0 && c.Router.StateDir != "" {
		return []string{filepath.Join(c.Router.StateDir, "jump", "ssh_host_ed25519_key")}
	}
	return c.Jump.HostKeys
}

// checkJump makes sure that the jump server has all that it needs.
func checkJump(d *decoder, root *node) {
	j := &d.config.Jump
	at := func(key string) int { return valueOffset(root, "jump", key) }
	if len(j.Listen) > 0 && len(j.VMPrefixes) == 0 {
		d.add(at("vm_prefixes"), "jump.vm_prefixes", "missing, and the jump server would reach nothing", `add the prefixes of all VMs, such as vm_prefixes = ["2001:db8::/32"], or remove listen`)
	}
	if j.Access == AccessListed && j.AuthorizedKeys == "" && j.Tokens == "" {
		d.add(at("access"), "jump.access", "nobody is listed", "set authorized_keys or tokens to a file")
	}
	if len(j.Listen) > 0 && len(d.config.JumpHostKeys()) == 0 {
		d.add(at("host_keys"), "jump.host_keys", "there is no place for a host key", "set router.state_dir, or host_keys to a file")
	}
	if l := &j.Limits; l.StartupsMax > 0 && l.StartupsDrop > l.StartupsMax {
		d.add(valueOffset(root, "jump", "limits", "startups_drop"), "jump.limits.startups_drop",
			fmt.Sprintf("%d is more than startups_max, which is %d", l.StartupsDrop, l.StartupsMax), "lower it, or raise startups_max")
	}
}

// jumpWarnings names what is allowed and probably not meant.
func (c *Config) jumpWarnings() []string {
	var w []string
	j := &c.Jump
	if len(j.Listen) == 0 {
		if len(j.VMPrefixes) > 0 {
			w = append(w, `jump.listen is empty: there is no jump server; write listen = ["0.0.0.0:22", "[::]:22"]`)
		}
		return w
	}
	for _, p := range j.VMPrefixes {
		switch {
		case p.Bits() < 16:
			w = append(w, fmt.Sprintf("jump.vm_prefixes: %v is more than anybody has: the jump server would be a relay to other people's hosts", p))
		case slices.ContainsFunc(c.Router.Pool6, p.Overlaps):
			w = append(w, fmt.Sprintf("jump.vm_prefixes: %v has addresses of router.pool6: the jump server would be a relay to the IPv4 Internet", p))
		}
	}
	for _, p := range j.VMOptOut {
		if !slices.ContainsFunc(j.VMPrefixes, p.Overlaps) {
			w = append(w, fmt.Sprintf("jump.vm_opt_out: %v is outside vm_prefixes and not reached anyway", p))
		}
	}
	for _, list := range []struct {
		key, what string
		prefixes  []netip.Prefix
	}{
		{"jump.proxy_from", "everybody there can claim to come from any address", j.ProxyFrom},
		{"jump.limits.exempt", "no limit for each source holds there", j.Limits.Exempt},
	} {
		for _, p := range list.prefixes {
			if p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 16 {
				w = append(w, fmt.Sprintf("%s: %v is a large part of the Internet, and %s", list.key, p, list.what))
			}
		}
	}
	if j.Access == AccessAnyone && (j.AuthorizedKeys != "" || j.Tokens != "") {
		w = append(w, `jump.authorized_keys and jump.tokens have no effect with access = "anyone"`)
	}
	if j.Limits.Connections == 0 || j.Limits.Channels == 0 {
		w = append(w, "jump.limits: without a bound for connections and channels the jump server can be made to use up all memory")
	}
	if j.Timeouts.Login == 0 {
		w = append(w, "jump.timeouts.login is never: who connects and says nothing holds a place for good")
	}
	return w
}

// listenList reads addresses and ports.
func (v value) listenList(to *[]string) {
	var list []string
	v.each("a list of addresses and ports", func(item value) {
		var s string
		item.listen(&s)
		switch {
		case s == "" && item.node.text == "":
			item.fail("empty", `write "address:port", such as "[::]:22"`)
		case slices.Contains(list, s):
			item.fail(s+" comes twice", "remove one")
		}
		if s != "" {
			list = append(list, s)
		}
	})
	*to = list
}

// file reads the absolute path of a file, or nothing.
func (v value) file(to *string) {
	s, ok := v.text("a path")
	if !ok {
		return
	}
	if s != "" && (!filepath.IsAbs(s) || strings.ContainsRune(s, 0)) {
		v.fail(fmt.Sprintf("%q is not an absolute path", s), `write one such as "/etc/isthmus/file", or "" for none`)
		return
	}
	*to = s
}

// files reads a list of absolute paths.
func (v value) files(to *[]string) {
	var list []string
	v.each("a list of paths", func(item value) {
		var s string
		item.file(&s)
		if s != "" && slices.Contains(list, s) {
			item.fail(s+" comes twice", "remove one")
		}
		if s != "" {
			list = append(list, s)
		} else if item.node.text == "" {
			item.fail("empty", "write an absolute path")
		}
	})
	*to = list
}

// audit reads "log", "off" or a path.
func (v value) audit(to *string) {
	s, ok := v.text(`"log", "off" or a path`)
	if !ok {
		return
	}
	if s != AuditLog && s != AuditOff && !filepath.IsAbs(s) || strings.ContainsRune(s, 0) {
		v.fail(fmt.Sprintf("%q is not a choice", s), `write "log", "off" or an absolute path such as "/var/log/isthmus/jump.json"`)
		return
	}
	*to = s
}

// userName reads the name that clients log in with.
func (v value) userName(to *string) {
	s, ok := v.text("a user's name")
	if !ok {
		return
	}
	bad := s == "" || len(s) > 32 || s[0] == '-' || strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.')
	})
	if bad {
		v.fail(fmt.Sprintf("%q cannot be a user's name here", s), "write 1 to 32 letters, digits, dots, hyphens and underscores")
		return
	}
	*to = s
}

// host reads a DNS name or an address, or nothing.
func (v value) host(to *string) {
	s, ok := v.text("a name or an address")
	if !ok {
		return
	}
	if net.ParseIP(s) != nil {
		*to = s
		return
	}
	v.dnsName(to)
}

// timeout reads a time span of at least a second, or 0 for never.
func (v value) timeout(to *time.Duration) {
	if v.node.text == "0" || v.node.text == "0s" {
		*to = 0
		return
	}
	v.duration(to, time.Second)
}
