package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"aarch64.com/isthmus/perf/lab/labtest"
)

func TestMap(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "map"), "host")
	dir := t.TempDir()
	socket := filepath.Join(dir, "control.sock")
	file := writeConfig(t, fmt.Sprintf("[router]\nstate_dir = %q\n[router.dynamic]\npool4 = '100.64.0.0/24'\n[control]\nsocket = %q\n", filepath.Join(dir, "state"), socket))
	p := start(t, h, nil, "run", "-c", file)
	p.wait(`"message":"ready"`)
	for _, step := range []struct {
		args   string
		status int
		says   string // on standard output, or error
	}{
		{"list", 0, "IPv4  IPv6"},
		{"add 2001:db8::2 100.64.0.2", 0, ""},
		{"add 2001:db8::2 100.64.0.2", 0, ""},
		{"list", 0, "100.64.0.2  2001:db8::2"},
		{"list --json", 0, `"ipv6": "2001:db8::2"`},
		{"add 2001:db8::3 100.64.0.2", 1, "100.64.0.2 is taken by 2001:db8::2; remove that mapping first"},
		{"add 2001:db8::3 192.0.2.1", 1, "not an address for a host in 100.64.0.0/24"},
		{"add 192.0.2.1 100.64.0.3", 2, "192.0.2.1 is no IPv6 address"},
		{"add 2001:db8::3 2001:db8::4", 2, "2001:db8::4 is no IPv4 address"},
		{"add 2001:db8::3", 2, "accepts 2 arg"},
		{"remove 100.64.0.2", 0, ""},
		{"remove 100.64.0.2", 1, "no such mapping for 100.64.0.2"},
		{"remove nobody", 2, "nobody is no IP address"},
		{"add 2001:db8::9 100.64.0.9", 0, ""},
	} {
		code, out, errs := isthmus(append(append([]string{"map"}, strings.Fields(step.args)...), "--socket", socket)...)
		if code != step.status || !strings.Contains(out+errs, step.says) {
			t.Errorf("map %s: status %d, %s%s; want %d, %q", step.args, code, out, errs, step.status, step.says)
		}
	}
	if _, body := p.get("/metrics"); !strings.Contains(body, "isthmus_router_dynamic_mappings 1\n") {
		t.Error("the metric does not say 1 mapping")
	}
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
	}

	// It is still there after a restart.
	p = start(t, h, nil, "run", "-c", file)
	p.wait(`"message":"ready"`)
	if code, out, errs := isthmus("map", "list", "--socket", socket); code != 0 || !strings.Contains(out, "100.64.0.9  2001:db8::9") {
		t.Errorf("after a restart: %d %s %s", code, out, errs)
	}
}
