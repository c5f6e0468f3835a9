package main

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/cmd/internal/config"
)

// migrateFile is the sysctl by which the kernel hands connections that nobody has
// accepted over to another listener of the same address.
const migrateFile = "/proc/sys/net/ipv4/tcp_migrate_req"

// takeoverWarning says what a new process would lose of the old one's connections,
// or "".
func takeoverWarning() string {
	v, err := os.ReadFile(migrateFile) // Linux before 5.14 has none
	if err != nil || strings.TrimSpace(string(v)) != "0" {
		return ""
	}
	return "net.ipv4.tcp_migrate_req is 0: when a new isthmus takes over from an old one, connections that are just being made are lost; " +
		"install deploy/sysctl.d/50-isthmus.conf, or run sysctl -w net.ipv4.tcp_migrate_req=1"
}

// listensTCP are the addresses that another process may share.
func listensTCP(c *config.Config, names []string) []netip.AddrPort {
	var list []netip.AddrPort
	if slices.Contains(names, "proxy") {
		list = slices.Concat(c.Proxy.ListenHTTP, c.Proxy.ListenHTTPS)
	}
	if slices.Contains(names, "api") {
		list = append(list, c.API.Listen...)
	}
	if slices.Contains(names, "jump") {
		for _, s := range c.Jump.Listen {
			if a, err := netip.ParseAddrPort(s); err == nil {
				list = append(list, a)
			}
		}
	}
	return list
}

// taken tells whether somebody listens at an address already.
func taken(a netip.AddrPort) bool {
	family := unix.AF_INET6
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	if ip := a.Addr().Unmap(); ip.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// Without SO_REUSEPORT; with SO_REUSEADDR only listeners are in the way.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	return errors.Is(unix.Bind(fd, sa), unix.EADDRINUSE)
}
