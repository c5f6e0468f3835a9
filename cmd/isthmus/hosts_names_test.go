package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aarch64.com/isthmus/cmd/internal/hosts"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestHostsGuide: the guide's four lines come out, by names and by the preset.
func TestHostsGuide(t *testing.T) {
	r := newRunner(t)
	r.resolve("64:ff9b::/96", guide)
	r.want("api.github.com GitHub.com. codeload.github.com ghcr.io github.com", 0, guideLines, "prefix 64:ff9b::/96, by ipv4only.arpa (RFC 7050)")
	r.want("--preset github-runner", 0, guideLines, "*.actions.githubusercontent.com: /etc/hosts holds no wildcards", "broker.actions.githubusercontent.com: there is no such name")

	log := filepath.Join(t.TempDir(), "runner.log")
	noError(t, os.WriteFile(log, []byte("GET https://ghcr.io/v2/\nNetwork is unreachable (api.github.com:443)\nin Program.cs:42 and https://gone.example/\n"), 0o600))
	r.want("--from-log "+log, 0, "64:ff9b::8c52:7906 api.github.com\n64:ff9b::8c52:7922 ghcr.io\n", "1 names of failed connections, 2 others", "gone.example: there is no such name")

	// The real file, which is a mount point here, as in a container; and what
	// programs make of it.
	noError(t, r.Cover(hosts.HostsFile, r.file))
	r.want("--preset github-runner --write", 0, "", "/etc/hosts: 4 lines written")
	r.want("--preset github-runner --write", 0, "", "/etc/hosts is right already")
	labtest.NeedProgram(t, "getent", "libc-bin")
	var out bytes.Buffer
	c := exec.Command("getent", "hosts", "github.com", "ghcr.io")
	c.Stdout = &out
	noError(t, r.Start(c))
	noError(t, c.Wait())
	if got := strings.Join(strings.Fields(out.String()), " "); got != "64:ff9b::8c52:7904 github.com 64:ff9b::8c52:7922 ghcr.io" {
		t.Errorf("getent says %q", got)
	}
	r.want("--remove", 0, "", "/etc/hosts: the block is gone")
	r.want("--remove", 0, "", "/etc/hosts is right already")
	if got := r.content(); got != "127.0.0.1 localhost\n" {
		t.Errorf("the file is %q", got)
	}
}

// TestHostsNames has the kinds of names there are.
func TestHostsNames(t *testing.T) {
	r := newRunner(t)
	u := r.resolve("64:ff9b::/96", labdns.Records{
		"v4.example":      {"198.51.100.3", "198.51.100.2"},
		"dual.example":    {"198.51.100.2", "2001:db8::2"},
		"v6.example":      {"2001:db8::3"},
		"www.example":     {"cdn.example"},
		"cdn.example":     {"edge.example"},
		"edge.example":    {"198.51.100.7"},
		"broken.example":  {"nowhere.example"},
		"private.example": {"10.1.2.3", "198.51.100.2"},
		"blocked.example": {"0.0.0.0"},
		"loop.example":    {"loop.example"},
		"turns.example":   {"198.51.100.8"},
	})
	r.want("v4.example", 0, "64:ff9b::c633:6402 v4.example\n64:ff9b::c633:6403 v4.example\n")
	r.want("dual.example v6.example v4.example", 0, "64:ff9b::c633:6402 v4.example\n64:ff9b::c633:6403 v4.example\n",
		"dual.example: has IPv6 of its own (2001:db8::2), so it needs no line", "v6.example: has IPv6 of its own")
	r.want("www.example", 0, "64:ff9b::c633:6407 www.example\n")
	r.want("*.v4.example www.example", 0, "64:ff9b::c633:6407 www.example\n", "*.v4.example: /etc/hosts holds no wildcards")
	r.want("broken.example www.example", 1, "64:ff9b::c633:6407 www.example\n", "broken.example: there is no such name", "not all names have their lines: broken.example")
	r.want("private.example", 0, "64:ff9b::c633:6402 private.example\n", "private.example: 10.1.2.3 is left out: 10.1.2.3 is not global")
	r.want("blocked.example", 1, "", "blocked.example: has no IPv4 address that can be translated")
	r.want("loop.example", 1, "", "loop.example: could not be looked up")

	// JSON says the same.
	status, out, _ := r.run("-o json www.example dual.example")
	var report hosts.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != 0 {
		t.Fatalf("status %d, %v:\n%s", status, err, out)
	}
	if n := report.Results; report.Prefix != lab.Pool6 || len(n) != 2 || n[0].Canonical != "edge.example" || n[0].Status != hosts.Found ||
		n[1].Status != hosts.HasIPv6 || strings.Join(report.Lines, "") != "64:ff9b::c633:6407 www.example" {
		t.Errorf("JSON:\n%s", out)
	}

	// Records rotate: the block follows. One gets IPv6: its line goes.
	file := " --write --file " + r.file
	r.want("v4.example turns.example"+file, 0, "", "3 lines written")
	noError(t, u.Set(labdns.Records{"v4.example": {"198.51.100.9"}, "turns.example": {"2001:db8::9"}}))
	r.want("v4.example turns.example"+file, 0, "", "turns.example: has IPv6 of its own", "1 lines written")
	written := r.content()
	if !strings.Contains(written, "\n64:ff9b::c633:6409 v4.example\n# END") {
		t.Errorf("after a rotation:\n%s", written)
	}
	r.want("v4.example"+file, 0, "", "is right already")

	// No name server: the lines stay, and it says so.
	u.Stop()
	r.want("v4.example --timeout 200ms --prefix 64:ff9b::/96"+file, 1, "", "kept from the file: 64:ff9b::c633:6409 v4.example", "v4.example: could not be looked up")
	if r.content() != written {
		t.Errorf("a dead name server changed it to\n%s", r.content())
	}
	r.want("v4.example --timeout 200ms"+file, 1, "", "no NAT64 prefix was found; give it with --prefix")
	r.want("v4.example --timeout 200ms --server 127.0.0.1:1 --server 127.0.0.1:2", 1, "", "no NAT64 prefix was found", "127.0.0.1:1", "127.0.0.1:2")
}

// TestHostsPrefixes finds a prefix of each length by unbound's DNS64, and does
// without any where it is given.
func TestHostsPrefixes(t *testing.T) {
	for _, c := range []struct{ prefix, line string }{
		{"2001:db8::/32", "2001:db8:c633:6402::"},
		{"2001:db8:100::/40", "2001:db8:1c6:3364:2::"},
		{"2001:db8:122::/48", "2001:db8:122:c633:64:200::"},
		{"2001:db8:122:300::/56", "2001:db8:122:3c6:33:6402::"},
		{"2001:db8:122:344::/64", "2001:db8:122:344:c6:3364:200:0"},
		{"2001:db8:122:344:0:1::/96", "2001:db8:122:344:0:1:c633:6402"},
	} {
		t.Run(strings.ReplaceAll(c.prefix, "/", "_"), func(t *testing.T) {
			r := newRunner(t, c.prefix)
			r.resolve(c.prefix, labdns.Records{"v4.example": {"198.51.100.2"}, "dual.example": {"198.51.100.2", "2001:db9::2"}})
			r.want("v4.example dual.example", 0, c.line+" v4.example\n", "prefix "+c.prefix+", by ipv4only.arpa (RFC 7050)", "dual.example: has IPv6 of its own")
			// Another one than that of the DNS64, whose answers are no IPv6 still.
			r.want("v4.example --prefix 64:ff9b::/96", 0, "64:ff9b::c633:6402 v4.example\n", "by --prefix")
		})
	}
	t.Run("no DNS64", func(t *testing.T) {
		r := newRunner(t)
		r.resolve("", guide)
		r.want("github.com", 1, "", "no NAT64 prefix was found; give it with --prefix", "router advertisements (RFC 8781): no interface has an IPv6 default route", "ipv4only.arpa (RFC 7050): it has no AAAA record here")
		r.want("github.com --prefix 64:ff9b::/96", 0, "64:ff9b::8c52:7904 github.com\n", "by --prefix")
	})
}

// TestHostsProbe: what does not answer makes no line.
func TestHostsProbe(t *testing.T) {
	r := newRunner(t)
	records := maps.Clone(guide)
	records["elsewhere.example"] = []string{"198.51.100.2"}
	r.resolve("64:ff9b::/96", records)
	// Nobody answers on port 8443, but for one address.
	noError(t, r.Addr("lo", "64:ff9b::8c52:7904/128"))
	l, err := r.Listen("tcp", "[64:ff9b::8c52:7904]:8443")
	noError(t, err)
	defer l.Close()
	r.want("github.com ghcr.io --port 8443", 1, "64:ff9b::8c52:7904 github.com\n", "ghcr.io: 64:ff9b::8c52:7922 is left out: TCP port 8443: connect: connection refused", "not all names have their lines: ghcr.io")
	r.want("github.com ghcr.io --port 8443 --no-probe", 0, "64:ff9b::8c52:7904 github.com\n64:ff9b::8c52:7922 ghcr.io\n")
	// One address of two.
	r.want("--preset github-runner --port 8443", 0, "64:ff9b::8c52:7904 github.com\n", "ghcr.io: none of its addresses answers")

	// Nothing answers at all: the block stays.
	file := " --write --file " + r.file
	r.want("ghcr.io"+file, 0, "", "1 lines written")
	written := r.content()
	r.want("ghcr.io github.com --port 9443"+file, 1, "", "none of the addresses answers on TCP port 9443; is there a NAT64 behind 64:ff9b::/96?", r.file+" stays as it is")
	if r.content() != written {
		t.Errorf("written was\n%s", r.content())
	}
}

// TestHostsSystemdResolved: it answers from /etc/hosts, so those are asked that
// it asks.
func TestHostsSystemdResolved(t *testing.T) {
	r := newRunner(t)
	// unbound answers on this address, too: it must not be asked there.
	r.resolve("64:ff9b::/96", guide)
	noError(t, r.UseResolver(netip.MustParseAddr("127.0.0.53")))
	dir, err := r.OwnFiles()
	noError(t, err)
	const upstream = "run/systemd/resolve/resolv.conf"
	r.want("github.com", 1, "", "/etc/resolv.conf names systemd-resolved only", "/"+upstream, "--server")

	noError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(upstream)), 0o755))
	for server, status := range map[string]int{"127.0.0.1": 0, "127.0.0.53": 1} {
		noError(t, os.WriteFile(filepath.Join(dir, upstream), fmt.Appendf(nil, "nameserver %s\n", server), 0o644))
		lines := map[int]string{0: "64:ff9b::8c52:7904 github.com\n"}[status]
		r.want("github.com", status, lines)
	}
}
