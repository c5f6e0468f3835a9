package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestOutOfTheBox is the README's first promise, with the programs that people
// have: unbound resolves, curl in three VMs fetches by name, isthmus runs without
// a file. The server sees one address; each port leads back to its VM, also after
// a restart.
func TestOutOfTheBox(t *testing.T) {
	labtest.NeedProgram(t, labdns.Program, labdns.Program)
	labtest.NeedProgram(t, "curl", "curl")
	topology, err := labtest.New(t, "outofthebox").Build(lab.TopologyConfig{VMs: 3, Resolver: true, ChecksumOffload: true, GRO: true})
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := labdns.StartResolver(topology.Resolver, labdns.Config{Prefix: lab.Pool6, Records: labdns.Records{
		"ipv4only.example": {lab.ServerAddr4.String()},
		"www.example":      {"ipv4only.example"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer resolver.Stop()
	l, err := topology.Server.Listen("tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, " ", r.RemoteAddr)
	})}
	defer server.Close()
	go func() { _ = server.Serve(l) }()

	dir, err := topology.Hypervisor.OwnFiles()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "run", "isthmus", "control.sock")
	owners := map[string]string{} // what isthmus said of each VM at first
	for range 2 {
		p := start(t, topology.Hypervisor, nil, "run")
		p.wait(`"message":"ready"`)
		for i, vm := range topology.VMs {
			name := []string{"ipv4only.example", "www.example"}[i%2]
			seen := curl(t, vm.Host, name)
			if seen.Addr() != lab.HypervisorAddr4 {
				t.Errorf("%s is seen as %v", vm.Name(), seen)
			}
			code, out, errs := isthmus("map", "owner", seen.Addr().String(), fmt.Sprint(seen.Port()), "--socket", socket)
			if code != 0 || !strings.HasPrefix(out, vm.Addr6.String()+" (100.64.") {
				t.Errorf("owner of %v: %d %s %s; want %v", seen, code, out, errs, vm.Addr6)
			}
			if before := owners[vm.Name()]; before != "" && before != out {
				t.Errorf("%s was %sand is %safter a restart", vm.Name(), before, out)
			}
			owners[vm.Name()] = out
		}
		p.signal(syscall.SIGTERM)
		if status := p.end(); status != 0 {
			t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
		}
	}
	if files, err := filepath.Glob(filepath.Join(dir, "lib", "isthmus", "*")); err != nil || len(files) != 1 {
		t.Errorf("state: %q, %v", files, err)
	}
	if t.Failed() {
		t.Logf("unbound said:\n%s", resolver.Log())
	}
}

// curl fetches the front page of a host by name, as curl does by default, and
// returns whom the host has seen.
func curl(t *testing.T, from *lab.Host, name string) netip.AddrPort {
	t.Helper()
	var out, errs bytes.Buffer
	c := exec.Command("curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", fmt.Sprint(patience.Seconds()), "http://"+name+"/")
	c.Stdout, c.Stderr = &out, &errs
	if err := from.Start(c); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("curl in %s: %v, %s", from.Name(), err, &errs)
	}
	asked, address, _ := strings.Cut(out.String(), " ")
	seen, err := netip.ParseAddrPort(address)
	if err != nil || asked != name {
		t.Fatalf("curl in %s got %q", from.Name(), &out)
	}
	return seen
}
