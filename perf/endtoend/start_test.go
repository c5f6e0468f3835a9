package endtoend

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// stateFile is where the dynamic map is kept, in state_dir.
const stateFile = "dynamic-map"

// TestDamagedState: isthmus starts with what is no state file of its own, says
// so, and keeps what it was.
func TestDamagedState(t *testing.T) {
	w := newWorld(t, lab.TopologyConfig{})
	w.configure(shared, "")
	w.start()
	l := w.listen(w.Server, "tcp4", servicePort)
	w.tryNew(w.VMs[0].Host, l)
	w.stop(syscall.SIGTERM)
	path := filepath.Join(w.dir, stateFile)
	whole, err := os.ReadFile(path)
	must(t, err)
	for _, tt := range []struct {
		name    string
		content []byte
	}{
		{"torn", whole[:len(whole)-7]},
		{"empty", nil},
		{"changed", bytes.Replace(whole, []byte("100.64."), []byte("100.65."), 1)},
		{"foreign", []byte("PNG\x00\x01 of something else\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			must(t, os.WriteFile(path, tt.content, 0o600))
			w.start()
			if said := w.daemon.said(); strings.Count(said, "it is kept as "+path+".") != 1 {
				t.Errorf("it said\n%s", said)
			}
			w.tryNew(w.VMs[0].Host, l)
			w.stop(syscall.SIGTERM)
			aside, err := filepath.Glob(path + ".*")
			must(t, err)
			if len(aside) != 1 {
				t.Fatalf("set aside: %q", aside)
			}
			kept, err := os.ReadFile(aside[0])
			must(t, err)
			if !bytes.Equal(kept, tt.content) {
				t.Errorf("kept was %q", kept)
			}
			must(t, os.Remove(aside[0]))
			if now, err := os.ReadFile(path); err != nil || bytes.Count(now, []byte("\n")) != 3 {
				t.Errorf("the new state: %q, %v", now, err)
			}
		})
	}
}

// nft opens the hypervisor's nftables.
func (w *world) nft() *nftables.Conn {
	w.t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(w.Hypervisor.NS())))
	must(w.t, err)
	return c
}

// tables lists the IPv4 tables of the hypervisor, each with its number of rules.
func (w *world) tables() []string {
	w.t.Helper()
	c := w.nft()
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	must(w.t, err)
	var found []string
	for _, x := range tables {
		chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
		must(w.t, err)
		n := 0
		for _, chain := range chains {
			if chain.Table.Name == x.Name {
				rules, err := c.GetRules(x, chain)
				must(w.t, err)
				n += len(rules)
			}
		}
		if x.Name == "isthmus" && n > 1 {
			found = append(found, "ours")
			continue
		}
		found = append(found, fmt.Sprintf("%s, %d rules", x.Name, n))
	}
	slices.Sort(found)
	return found
}

// makeTable makes a table of somebody else with one rule, which counts what
// leaves.
func (w *world) makeTable(name string) {
	w.t.Helper()
	c := w.nft()
	x := c.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{
		Name: "forward", Table: x, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	c.AddRule(&nftables.Rule{Table: x, Chain: chain, Exprs: []expr.Any{&expr.Counter{}}})
	must(w.t, c.Flush())
}

// deviceLeft tells whether the TUN device is there.
func (w *world) deviceLeft() bool {
	_, err := w.Hypervisor.Ifindex("isthmus0")
	return err == nil
}

// TestTableOfSomebodyElse: tables of others are not touched; one with our name
// stops isthmus, which says so and leaves nothing.
func TestTableOfSomebodyElse(t *testing.T) {
	w := newWorld(t, lab.TopologyConfig{})
	w.configure(shared, "")
	w.makeTable("filter")
	l := w.listen(w.Server, "tcp4", servicePort)
	w.start()
	w.tryNew(w.VMs[0].Host, l)
	if got := w.tables(); !slices.Equal(got, []string{"filter, 1 rules", "ours"}) {
		t.Errorf("while running: %q", got)
	}
	w.stop(syscall.SIGINT)
	if got := w.tables(); !slices.Equal(got, []string{"filter, 1 rules"}) {
		t.Errorf("after the end: %q", got)
	}

	w.makeTable("isthmus")
	said := w.refused()
	if !strings.Contains(said, "table ip isthmus exists, but without the comment") || !strings.Contains(said, "delete it") {
		t.Errorf("it said\n%s", said)
	}
	if got := w.tables(); !slices.Equal(got, []string{"filter, 1 rules", "isthmus, 1 rules"}) {
		t.Errorf("after the refusal: %q", got)
	}
}

// refused wants isthmus not to start, and returns what it said.
func (w *world) refused() string {
	w.t.Helper()
	p := w.launch()
	select {
	case <-p.ended:
	case <-p.ready:
		w.t.Fatalf("it started; it said\n%s", p.said())
	case <-time.After(patience):
		w.t.Fatalf("it does not end; it said\n%s", p.said())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		w.t.Errorf("status %d; it said\n%s", code, p.said())
	}
	if w.deviceLeft() {
		w.t.Errorf("the device is left; it said\n%s", p.said())
	}
	return p.said()
}

// backstops are the unreachable routes of the hypervisor.
func (w *world) backstops() []string {
	w.t.Helper()
	nl, err := w.Hypervisor.Netlink()
	must(w.t, err)
	defer nl.Close()
	var found []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := nl.RouteListFiltered(family, &netlink.Route{Type: unix.RTN_UNREACHABLE}, netlink.RT_FILTER_TYPE)
		must(w.t, err)
		for _, r := range routes {
			found = append(found, fmt.Sprintf("%s proto %d", r.Dst, r.Protocol))
		}
	}
	return found
}

// TestWhatStays: the NAT and unreachable routes stay for a next start, and go
// for good.
func TestWhatStays(t *testing.T) {
	w := newWorld(t, lab.TopologyConfig{})
	check := func(when string, table, routes bool) {
		t.Helper()
		want := []string(nil)
		if table {
			want = []string{"ours"}
		}
		if got := w.tables(); !slices.Equal(got, want) {
			t.Errorf("after %s: %q", when, got)
		}
		if want = nil; routes {
			want = []string{pool4 + " proto 64", "64:ff9b::/96 proto 64"}
		}
		if got := w.backstops(); !slices.Equal(got, want) {
			t.Errorf("after %s: routes %q", when, got)
		}
		if w.deviceLeft() {
			t.Errorf("after %s the device is left", when)
		}
	}
	w.configure(shared, "")
	for _, tt := range []struct {
		signal syscall.Signal
		stays  bool
	}{{syscall.SIGTERM, true}, {syscall.SIGINT, false}, {syscall.SIGKILL, true}} {
		w.start()
		w.stop(tt.signal)
		check(tt.signal.String(), tt.stays, tt.stays)
	}
	// A start that fails leaves the table that it finds, and else none.
	must(t, w.Hypervisor.Route("64:ff9b::/96", "", "vm0"))
	w.refused()
	check("a start that failed", true, true)
	must(t, w.Hypervisor.DelRoute("64:ff9b::/96", "", "vm0"))
	w.configure(shared, "keep = false")
	w.start()
	w.stop(syscall.SIGTERM)
	check("SIGTERM without keep", false, true)
	// What an earlier run has left for other prefixes goes.
	w.configure(setup{}, "")
	w.start()
	if got, want := w.backstops(), []string{w.VMs[0].Addr4.String() + "/32 proto 64", "64:ff9b::/96 proto 64"}; !slices.Equal(got, want) {
		t.Errorf("with a static mapping: %q, want %q", got, want)
	}
	w.stop(syscall.SIGINT)
	check("SIGINT", false, false)
	w.configure(shared, "")
	must(t, w.Hypervisor.Route("64:ff9b::/96", "", "vm0"))
	if said := w.refused(); !strings.Contains(said, "64:ff9b::/96") || !strings.Contains(said, "route") {
		t.Errorf("it said\n%s", said)
	}
	check("a first start that failed", false, false)
}
