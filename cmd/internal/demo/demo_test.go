package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// script makes an executable that stands for isthmus.
func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "isthmus")
	must(t, os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755))
	return file
}

func TestIsthmusThatFailsIsQuoted(t *testing.T) {
	labtest.Need(t)
	var out bytes.Buffer
	err := Run(context.Background(), Options{
		Paths: []Path{Kernel}, Out: &out,
		Binary: script(t, "for i in $(seq 30); do echo line $i >&2; done; exit 3"),
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"exit status 3", "line 16\n", "line 30"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "line 15\n") {
		t.Errorf("more than the last lines: %v", err)
	}
	gone(t)
}

func TestInterruptTakesEverythingDown(t *testing.T) {
	labtest.Need(t)
	started := filepath.Join(t.TempDir(), "started")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for {
			if _, err := os.Stat(started); err == nil {
				cancel()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	err := Run(ctx, Options{
		Paths: []Path{XDP}, Out: &bytes.Buffer{},
		Binary: script(t, "trap 'exit 0' INT; touch "+started+"; while :; do sleep 0.05; done"),
	})
	if !errors.Is(err, errInterrupted) {
		t.Errorf("error: %v", err)
	}
	gone(t)
}

// gone fails if a network of the demo is still there that no process holds.
func gone(t *testing.T) {
	t.Helper()
	// Making a lab sweeps; had Run left something, its lock would be our own.
	for _, p := range []Path{Share, XDP, Kernel} {
		l, err := lab.New("demo-" + string(p))
		must(t, err)
		if l.ID() != "demo-"+string(p) {
			t.Logf("another demo is running")
		} else if left, _ := filepath.Glob("/run/netns/isthmus-demo-" + string(p) + "-*"); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
		must(t, l.Close())
	}
}

func TestConfigurationIsAccepted(t *testing.T) {
	vms := []*lab.VM{{Port: "vm0", Addr6: addrs("2001:db8:64::2")[0], Addr4: addrs("192.0.2.2")[0]}}
	for _, c := range []struct {
		path  Path
		ports int
	}{{XDP, 2}, {Kernel, 0}} {
		got, err := config.Parse("demo.toml", []byte(configuration(c.path, vms, "/run/x/control.sock")))
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Router.Ports) != c.ports || len(got.Router.EAM) != 1 || !got.Router.AllowPrivate4 ||
			got.Control.Socket != "/run/x/control.sock" {
			t.Errorf("%s: %+v", c.path, got.Router)
		}
		if w := got.Warnings(); len(w) > 0 {
			t.Errorf("%s: warnings %q", c.path, w)
		}
	}
}

func TestSums(t *testing.T) {
	got, err := sums(`# HELP isthmus_router_port_receive_packets_total IP packets
isthmus_router_port_receive_packets_total{port="vm0",worker="0"} 3
isthmus_router_port_receive_packets_total{port="vm0",worker="1"} 4
isthmus_router_port_receive_packets_total{worker="0",port="isthmus0"} 1e+06
isthmus_router_port_receive_bytes_total{port="vm0",worker="0"} 99
`, receivedMetric, "port")
	if err != nil || fmt.Sprint(got) != "map[isthmus0:1e+06 vm0:7]" {
		t.Error(got, err)
	}
	for _, bad := range []string{"", receivedMetric + "{port=\"vm0\"} many\n", receivedMetric + "{worker=\"0\"} 1\n"} {
		if got, err := sums(bad, receivedMetric, "port"); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestReadable(t *testing.T) {
	for in, want := range map[string]string{
		`{"level":"warn","port":"vm0","n":2,"time":"2026-01-02T03:04:05Z","message":"it is so"}`: "warn  it is so n=2 port=vm0",
		`panic: no`: "panic: no",
		`{"a":1}`:   `{"a":1}`,
	} {
		if got := readable(in); got != want {
			t.Errorf("%s: %q", in, got)
		}
	}
}

// fill writes a report with a long result, a list and a failure.
func fill(o Options) (*report, string) {
	var out bytes.Buffer
	o.Out = &out
	r := newReport(o)
	s := &stage{path: XDP, isthmus: &daemon{took: 213 * time.Millisecond}}
	fmt.Fprintln(&s.isthmus.log, "an error in the log")
	r.intro()
	r.begin(s)
	r.row(Check{From: "vm", To: "server", Name: "HTTP GET"}, result{Said: "seen as 64:ff9b::198.51.100.194", Took: 1234 * time.Microsecond})
	r.row(Check{From: "vm", To: "far", Name: "traceroute"}, result{Said: "2 hops\n 1 2001:db8:64::1\n 2 64:ff9b::198.51.100.194", Took: 12 * time.Second})
	r.row(Check{From: "server", To: "vm", Name: "download 10 MB"}, result{Err: errors.New(strings.Repeat("many words ", 20)), Took: 20 * time.Second})
	r.end(s)
	_ = r.finish()
	return r, out.String()
}

func TestTableFitsATerminal(t *testing.T) {
	r, text := fill(Options{})
	for line := range strings.SplitSeq(text, "\n") {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"FAIL", "1.23 ms", "an error in the log", " 2 64:ff9b::198.51.100.194"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("colours where none were asked for")
	}
	if err := r.verdict(); err == nil || err.Error() != "1 of 3 checks failed" {
		t.Errorf("verdict: %v", err)
	}
	if _, text := fill(Options{Color: true}); !strings.Contains(text, "\x1b[31mFAIL\x1b[0m") {
		t.Error("no colours")
	}
}

func TestJSON(t *testing.T) {
	_, text := fill(Options{JSON: true})
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if d.OK || len(d.Paths) != 1 || d.Paths[0].OK || len(d.Paths[0].Checks) != 3 {
		t.Fatalf("%+v", d)
	}
	p := d.Paths[0]
	if got := fmt.Sprint(p.Checks[1].Addresses); got != "[2001:db8:64::1 64:ff9b::198.51.100.194]" {
		t.Errorf("addresses: %s", got)
	}
	if len(p.Log) != 1 || p.Checks[2].Error == "" || p.Checks[0].Milliseconds != 1.234 {
		t.Errorf("%+v", p)
	}
}

func TestShow(t *testing.T) {
	for in, want := range map[string]string{
		"64:ff9b::c633:6402": "64:ff9b::198.51.100.2",
		"2001:db8::1":        "2001:db8::1",
		"192.0.2.1":          "192.0.2.1",
	} {
		if got := show(addrs(in)[0]); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
