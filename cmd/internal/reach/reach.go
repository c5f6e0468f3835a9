// Package reach is the one rule for where services of this host connect to on
// behalf of strangers: addresses of VMs, and nothing that only looks like one.
//
//	jump, proxy ─ Config.Reach ─▶ Rule.Check(address) ─▶ nil or why not
//
// The answers are for strangers' eyes, and the same for all that nobody may reach,
// so that they map no network.
package reach

import (
	"errors"
	"fmt"
	"net/netip"
)

// denied are addresses that are no VM's, whatever the prefixes say.
var denied = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("64:ff9b::/96"), "an IPv4 address"},   // RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), "an IPv4 address"}, // RFC 8215
	{netip.MustParsePrefix("2001::/32"), "an IPv4 address"},      // RFC 4380
	{netip.MustParsePrefix("2002::/16"), "an IPv4 address"},      // RFC 3056
	{netip.MustParsePrefix("::/8"), "a special address"},         // ::, ::1, with IPv4 inside: RFC 4291 2.4, RFC 2765
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
}

var (
	errNoVM = errors.New("no address of a VM")
	errIPv4 = errors.New("VMs have IPv6 addresses only")
	errZone = errors.New("no zone is possible here")
)

// Rule says which addresses are VMs'. Its methods may be called from many
// goroutines.
type Rule struct {
	vms []netip.Prefix
	own func(netip.Addr) bool // tells whether an address is this host's own
}

// New makes the rule for VMs within prefixes.
func New(vms []netip.Prefix) *Rule {
	return &Rule{vms: vms, own: new(kernel).own}
}

// Check is nil, or says why a service must not connect to a.
func (r *Rule) Check(a netip.Addr) error {
	switch {
	case !a.IsValid(), a.Is4(), a.Is4In6():
		return errIPv4
	case a.Zone() != "":
		return errZone
	}
	for i := range denied {
		if denied[i].prefix.Contains(a) {
			return fmt.Errorf("%s is no VM's", denied[i].what)
		}
	}
	for _, p := range r.vms {
		if p.Contains(a) {
			if r.own(a) {
				return errNoVM
			}
			return nil
		}
	}
	return errNoVM
}
