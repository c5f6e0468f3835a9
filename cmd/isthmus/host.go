package main

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/cmd/internal/config"
)

// checkCapabilities names, in one sentence, every capability that these services
// need and the process lacks.
func checkCapabilities(c *config.Config, chosen []kind) error {
	have, err := effectiveCapabilities()
	if err != nil {
		return err
	}
	var needed []capability
	for _, k := range chosen {
		list, err := k.needs(c)
		if err != nil {
			return err
		}
		needed = append(needed, list...)
	}
	return missingCapabilities(have, needed)
}

// capability is what isthmus needs of capabilities(7).
type capability struct {
	bit     int
	name    string
	purpose string
}

func missingCapabilities(have uint64, needed []capability) error {
	var all, names, purposes []string
	for _, c := range needed {
		all = append(all, c.name)
		// CAP_SYS_ADMIN contains CAP_BPF, and is what kernels before 5.8 ask for.
		admin := c.bit == unix.CAP_BPF && have>>unix.CAP_SYS_ADMIN&1 == 1
		if have>>c.bit&1 == 1 || admin {
			continue
		}
		names = append(names, c.name)
		purposes = append(purposes, c.purpose)
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("%s missing, needed to %s; run isthmus as root, or as a service with AmbientCapabilities=%s (see deploy/isthmus.service)",
		strings.Join(names, " and "), strings.Join(purposes, " and to "), strings.Join(all, " "))
}

func effectiveCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

func prefixStrings(list []netip.Prefix) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
	}
	return out
}
