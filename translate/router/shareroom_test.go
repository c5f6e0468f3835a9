package router

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/translate/router/dynamic"
)

func TestConntrackWarning(t *testing.T) {
	for _, tt := range []struct {
		name            string
		most, vms, each int
		want            string
	}{
		{"enough", 600_000, 141, 4000, ""},
		{"just enough", 564_000, 141, 4000, ""},
		{"the usual default", 65536, 141, 0, "17 of the 141 VMs that can share an address use it up with max_connections = 4000"},
		{"what to do", 65536, 141, 0, "sysctl -w net/netfilter/nf_conntrack_max=564000"},
		{"no limit for a VM", 1_000_000, 141, -1, "one VM can use it up"},
		{"no limit for all", 0, 141, -1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := conntrackWarning(tt.most, tt.vms, tt.each)
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestHostPortsChange: slices avoid the ports that the host has reserved, and a
// change is told once.
func TestHostPortsChange(t *testing.T) {
	n := poolbed(t, false, 1, dynamic.Config{Pool4: lab.Mapped4, Idle: time.Hour})
	n.router.Close()
	if err := n.Hypervisor.Sysctl("net.ipv4.ip_local_reserved_ports", "1300,2000-2100"); err != nil {
		t.Fatal(err)
	}
	n.config.Share.Auto = true
	said := make(chan string, 100)
	n.config.Log = func(warn bool, m string) {
		if warn && strings.Contains(m, "own ports") {
			said <- m
		}
	}
	n.open(t)
	defer n.router.Close()
	for _, port := range []uint16{1300, 2000, 2100} {
		if four, _, ok := n.router.Owner(lab.HypervisorAddr4, port); ok {
			t.Errorf("port %d is reserved, and %v's", port, four)
		}
	}
	if four, _, ok := n.router.Owner(lab.HypervisorAddr4, 1024); !ok || four != netip.MustParseAddr("192.0.2.0") {
		t.Errorf("port 1024 is %v's", four)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.router.watchHostPorts(ctx, time.Millisecond) }()
	defer func() { cancel(); <-done }()
	if err := n.Hypervisor.Sysctl("net.ipv4.ip_local_port_range", "20000 30000"); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-said:
		if !strings.Contains(m, "are 20000-30000, 1300-1300, 2000-2100 now") {
			t.Error(m)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody was told")
	}
}
