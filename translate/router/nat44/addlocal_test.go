package nat44

import (
	"bytes"
	"net"
	"net/netip"
	"os/exec"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// addLocal makes all addresses of a prefix the host's own ("ip route add local").
func addLocal(h *lab.Host, p netip.Prefix) error {
	nl, err := h.Netlink()
	if err != nil {
		return err
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return err
	}
	return nl.RouteReplace(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Scope: netlink.SCOPE_HOST, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL,
		Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)},
	})
}

func (w *world) hypervisorRun(name string, args ...string) (out []byte, err error) {
	var b bytes.Buffer
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = &b, &b
	if err := w.hypervisor.Start(c); err != nil {
		return nil, err
	}
	err = c.Wait()
	return b.Bytes(), err
}
