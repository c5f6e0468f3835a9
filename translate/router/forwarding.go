package router

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Switches without which the kernel routes neither what it gets from the
// translator nor what it has for it.
const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

// sysctlDir shows the network namespace of whoever opens a file in it.
const sysctlDir = "/proc/sys"

func sysctl(key string) (string, error) {
	data, err := os.ReadFile(filepath.Join(sysctlDir, key))
	return strings.TrimSpace(string(data)), err
}

func setSysctl(key, value string) error {
	err := os.WriteFile(filepath.Join(sysctlDir, key), []byte(value), 0)
	if err != nil {
		return fmt.Errorf("set %s to %s: %w (run sysctl -w %s=%s, or give isthmus CAP_NET_ADMIN and a writable /proc/sys)", key, value, err, key, value)
	}
	return nil
}

// KernelWarnings are settings of the calling thread's network namespace that keep
// the kernel from doing its part, with the remedy.
func KernelWarnings() []string {
	var w []string
	for _, key := range []string{forward4, forward6} {
		switch v, err := sysctl(key); {
		case errors.Is(err, os.ErrNotExist):
			w = append(w, fmt.Sprintf("this kernel has no %s: that protocol is missing", key))
		case err == nil && v == "0":
			text := fmt.Sprintf("%s is 0: the kernel will not forward packets to and from the translator; run sysctl -w %s=1", key, key)
			if key == forward6 {
				text += afterAccepting()
			}
			w = append(w, text+", or set [router.kernel] forwarding")
		}
	}
	return w
}

// afterAccepting is what must come before the switch is set by hand.
func afterAccepting() (text string) {
	keys, err := advertised()
	if err != nil || len(keys) == 0 {
		return ""
	}
	for _, key := range keys {
		text += fmt.Sprintf(" %s=2", key)
	}
	return ", but first sysctl -w" + text + ", or routes from router advertisements go"
}

// advertised are the settings accept_ra of the interfaces that have routes from
// router advertisements now and would lose them: the kernel drops them, and hears
// no more, once it forwards and the setting is 1 (Linux addrconf_forward_change,
// ipv6_accept_ra). Others are left alone, so that no VM becomes this host's router.
func advertised() (keys []string, err error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6,
		&netlink.Route{Protocol: unix.RTPROT_RA, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes from router advertisements: %w", err)
	}
	seen := map[int]bool{}
	for i := range routes {
		for _, index := range links(&routes[i]) {
			if seen[index] {
				continue
			}
			seen[index] = true
			l, err := netlink.LinkByIndex(index)
			if err != nil {
				continue // gone, and its routes with it
			}
			key := "net/ipv6/conf/" + l.Attrs().Name + "/accept_ra"
			if v, err := sysctl(key); err == nil && v == "1" {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

// links are those that a route leaves by.
func links(r *netlink.Route) (list []int) {
	if len(r.MultiPath) == 0 {
		return []int{r.LinkIndex}
	}
	for _, nh := range r.MultiPath {
		list = append(list, nh.LinkIndex)
	}
	return list
}

// forwarding makes the kernel forward, if that is wished, and otherwise says what
// is missing. What can't be set is told too: with AF_XDP ports the translator
// does without, and somebody else may set it.
func (r *Router) forwarding() {
	if r.config.Kernel.SetForwarding {
		for _, set := range []func() error{r.setForwarding4, r.setForwarding6} {
			if err := set(); err != nil {
				r.log(true, err.Error())
			}
		}
	}
	for _, warning := range KernelWarnings() {
		r.log(true, warning)
	}
}

func (r *Router) setForwarding4() error { return r.set(forward4, "1") }

// setForwarding6 leaves IPv6 as it is where that would cost a route.
func (r *Router) setForwarding6() error {
	if v, err := sysctl(forward6); err != nil || v != "0" {
		return nil
	}
	keys, err := advertised()
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := r.set(key, "2"); err != nil {
			return err
		}
	}
	return r.set(forward6, "1")
}

func (r *Router) set(key, value string) error {
	if v, err := sysctl(key); err != nil || v == value {
		return nil // KernelWarnings tells what is not there
	}
	if err := setSysctl(key, value); err != nil {
		return err
	}
	r.log(false, fmt.Sprintf("%s is set to %s; it stays so when isthmus ends", key, value))
	return nil
}
