package labdns_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// The VMs of a topology find names by its resolver: our own Dial, a program that
// is started in one, and one started by `ip netns exec`.
func TestNamesInATopology(t *testing.T) {
	labtest.NeedProgram(t, "ip", "iproute2")
	l := labtest.New(t, "names")
	topo, err := l.Build(lab.TopologyConfig{VMs: 2, Resolver: true})
	must(t, err)
	vm, peer := topo.VMs[1], topo.VMs[0]
	s, err := labdns.Serve(topo.Resolver, netip.AddrPortFrom(lab.ResolverAddr6, 53), labdns.Config{
		// The hypervisor has an IPv4 address, but no VM could connect to it.
		Prefix: lab.Pool6, Records: labdns.Records{"peer.example": {peer.Addr6.String(), "192.0.2.1"}, "v4.example": {"192.0.2.7"}},
	})
	must(t, err)
	defer s.Close()

	front, err := peer.Listen("tcp", ":80")
	must(t, err)
	defer front.Close()
	go func() {
		for {
			c, err := front.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "here")
			c.Close()
		}
	}()
	c, err := vm.Dial(t.Context(), "tcp", "peer.example:80")
	must(t, err)
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "here" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = vm.Dial(t.Context(), "tcp", "nobody.example:80")
	if said := (*net.DNSError)(nil); !errors.As(err, &said) || !said.IsNotFound {
		t.Errorf("a name that is not there: %v", err)
	}

	for _, run := range []struct {
		how   string
		start func(*exec.Cmd) error
		args  string
	}{
		{"Start", vm.Start, "getent ahostsv6 v4.example"},
		{"ip netns exec", (*exec.Cmd).Start, "ip netns exec " + vm.NetNS() + " getent ahostsv6 v4.example"},
	} {
		var out bytes.Buffer
		args := strings.Fields(run.args)
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &out
		must(t, run.start(cmd))
		if err := cmd.Wait(); err != nil || !strings.HasPrefix(out.String(), "64:ff9b::c000:207 ") {
			t.Errorf("%s: %v, %s", run.how, err, &out)
		}
	}
	must(t, l.Close())
	if left, _ := filepath.Glob("/etc/netns/" + vm.NetNS()); left != nil {
		t.Errorf("left behind: %v", left)
	}
}
