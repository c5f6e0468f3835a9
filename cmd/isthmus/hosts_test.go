package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/cmd/internal/hosts"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// guide is what the service's guide has had people write by hand.
var guide = labdns.Records{
	"api.github.com":      {"140.82.121.6"},
	"github.com":          {"140.82.121.4"},
	"codeload.github.com": {"140.82.121.9"},
	"ghcr.io":             {"140.82.121.34"},
}

const guideLines = `64:ff9b::8c52:7906 api.github.com
64:ff9b::8c52:7904 github.com
64:ff9b::8c52:7909 codeload.github.com
64:ff9b::8c52:7922 ghcr.io
`

// runner is a host with IPv6 only. All addresses of its pool6 are its own, and
// answer on port 443.
type runner struct {
	*lab.Host
	t    *testing.T
	lab  *lab.Lab
	file string // for --file
}

func newRunner(t *testing.T, pool6 ...string) *runner {
	t.Helper()
	l := labtest.New(t, "hosts")
	r := &runner{Host: labtest.Host(t, l, "vm"), t: t, lab: l, file: filepath.Join(t.TempDir(), "hosts")}
	r.put("127.0.0.1 localhost\n")
	nl, err := r.Netlink()
	noError(t, err)
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	noError(t, err)
	for _, p := range append([]string{"64:ff9b::/96"}, pool6...) {
		_, dst, err := net.ParseCIDR(p)
		noError(t, err)
		noError(t, nl.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL}))
	}
	front, err := r.Listen("tcp", "[::]:443")
	noError(t, err)
	t.Cleanup(func() { front.Close() })
	return r
}

// resolve gives it unbound as the resolver.
func (r *runner) resolve(prefix string, records labdns.Records) *labdns.Resolver {
	r.t.Helper()
	labtest.NeedProgram(r.t, labdns.Program, labdns.Program)
	c := labdns.Config{Records: records}
	if prefix != "" {
		c.Prefix = netip.MustParsePrefix(prefix)
	}
	u, err := labdns.StartResolver(r.Host, c)
	noError(r.t, err)
	r.t.Cleanup(u.Stop)
	noError(r.t, r.UseResolver(netip.MustParseAddr("127.0.0.1")))
	return u
}

func (r *runner) put(content string) {
	r.t.Helper()
	noError(r.t, os.WriteFile(r.file, []byte(content), 0o644))
}

func (r *runner) content() string {
	r.t.Helper()
	b, err := os.ReadFile(r.file)
	noError(r.t, err)
	return string(b)
}

// run is `isthmus hosts ARGS` on the host, with the arguments as one text.
func (r *runner) run(args string) (status int, stdout, stderr string) {
	r.t.Helper()
	c := command(append([]string{"hosts"}, strings.Fields(args)...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	noError(r.t, r.Start(c))
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

// want runs it and checks the outcome; each of said has to be in what it says.
func (r *runner) want(args string, status int, stdout string, said ...string) {
	r.t.Helper()
	got, out, errs := r.run(args)
	if got != status || out != stdout {
		r.t.Errorf("isthmus hosts %s: status %d, want %d; printed\n%swant\n%ssaid\n%s", args, got, status, out, stdout, errs)
	}
	for _, s := range said {
		if !strings.Contains(errs, s) {
			r.t.Errorf("isthmus hosts %s: does not say %q but\n%s", args, s, errs)
		}
	}
}

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

// TestHostsFile has the troubles with the file.
func TestHostsFile(t *testing.T) {
	r := newRunner(t)
	r.resolve("64:ff9b::/96", guide)
	file := " --write --file " + r.file

	// A block edited by hand.
	r.want("github.com"+file, 0, "", "1 lines written")
	edited := strings.Replace(r.content(), "# END", "192.0.2.1 mine\n# END", 1)
	r.put(edited)
	for _, args := range []string{"github.com ghcr.io" + file, "--remove --file " + r.file} {
		lines := ""
		if !strings.Contains(args, "--remove") {
			lines = "64:ff9b::8c52:7904 github.com\n64:ff9b::8c52:7922 ghcr.io\n"
		}
		r.want(args, 1, lines, "edited by hand; move your lines out of it, or give --force to lose them")
		if r.content() != edited {
			t.Errorf("%s changed it to\n%s", args, r.content())
		}
	}
	r.want("github.com --force"+file, 0, "", "1 lines written")
	if strings.Contains(r.content(), "mine") {
		t.Errorf("by force:\n%s", r.content())
	}
	r.want("--remove --force --file "+r.file, 0, "", "the block is gone")

	// A line of somebody else for the same name.
	r.put("192.0.2.7 github.com\n")
	r.want("github.com --file "+r.file, 0, "64:ff9b::8c52:7904 github.com\n", "line 1 of the file says 192.0.2.7 for github.com, too, outside the block")

	labtest.NeedProgram(t, "unshare", "util-linux")
	// Read-only: nothing changes, and the lines are there to be copied.
	noError(t, os.Chmod(r.file, 0o444))
	read := r.content()
	c := exec.Command("unshare", "--mount", "sh", "-ec", `mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$0" "$@"`,
		"/proc/self/exe", r.file, "hosts", "github.com", "--write", "--file", r.file)
	self, err := os.Executable()
	noError(t, err)
	c.Args[5] = self
	c.Env = append(os.Environ(), asIsthmus+"=1")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	noError(t, r.Start(c))
	if err := c.Wait(); err == nil || out.String() != "64:ff9b::8c52:7904 github.com\n" || !strings.Contains(errs.String(), "read-only file system; add the lines where that is made") {
		t.Errorf("read-only: %v, printed %q, said %q", err, &out, &errs)
	}
	if r.content() != read {
		t.Errorf("read-only, and now\n%s", r.content())
	}
}

// advertise answers router solicitations on an interface with this message,
// until the function it returns is called.
func advertise(t *testing.T, h *lab.Host, hopLimit int, message []byte) (stop func()) {
	t.Helper()
	conn, err := h.ListenPacket("ip6:ipv6-icmp", "::")
	noError(t, err)
	p := ipv6.NewPacketConn(conn)
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	noError(t, p.SetICMPFilter(&only))
	noError(t, p.SetMulticastHopLimit(hopLimit))
	index, err := h.Ifindex("eth0")
	noError(t, err)
	noError(t, p.JoinGroup(&net.Interface{Index: index}, &net.IPAddr{IP: net.ParseIP("ff02::2")}))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 1500)
		for {
			if _, _, _, err := p.ReadFrom(b); err != nil {
				return
			}
			_, _ = p.WriteTo(message, &ipv6.ControlMessage{IfIndex: index}, &net.IPAddr{IP: net.IPv6linklocalallnodes})
		}
	}()
	return func() {
		conn.Close()
		<-ended
	}
}

// waitLinkLocal waits for the address that the kernel gives an interface some
// time after it is up.
func waitLinkLocal(t *testing.T, h *lab.Host, ifname string) {
	t.Helper()
	nl, err := h.Netlink()
	noError(t, err)
	defer nl.Close()
	link, err := nl.LinkByName(ifname)
	noError(t, err)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		list, err := nl.AddrList(link, netlink.FAMILY_V6)
		noError(t, err)
		if slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s of %s gets no link-local address", ifname, h.Name())
		}
	}
}

// TestHostsAdvertised finds the prefix in a router advertisement (RFC 8781),
// and only in those of the link that the default route leads to.
func TestHostsAdvertised(t *testing.T) {
	r := newRunner(t, "2001:db8:122:344::/64")
	r.resolve("64:ff9b::/96", guide)
	router, stranger := labtest.Host(t, r.lab, "router"), labtest.Host(t, r.lab, "stranger")
	for i, h := range []*lab.Host{router, stranger} {
		port := []string{"eth0", "eth1"}[i]
		noError(t, r.lab.Link(r.Host, h, lab.LinkConfig{NameA: port, NameB: "eth0"}))
		noError(t, r.Addr(port, []string{"2001:db8:1::2/64", "2001:db8:2::2/64"}[i]))
	}
	noError(t, r.Route("default6", "2001:db8:1::1", ""))
	for _, h := range []*lab.Host{r.Host, router, stranger} {
		waitLinkLocal(t, h, "eth0")
	}
	waitLinkLocal(t, r.Host, "eth1")

	bare := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	// Option 38: lifetime 1800 s, prefix length code 1, which is 64 bits.
	with := func(prefix string) []byte {
		a := netip.MustParseAddr(prefix).As16()
		return append(append(bytes.Clone(bare), 38, 2, 0x07, 0x09), a[:12]...)
	}
	const (
		byRouter = "2001:db8:122:344:8c:5279:400:0 github.com\n"
		byDNS    = "64:ff9b::8c52:7904 github.com\n"
	)
	t.Cleanup(advertise(t, stranger, 255, with("2001:db8:bad:1::")))

	stop := advertise(t, router, 255, with("2001:db8:122:344::"))
	r.want("github.com", 0, byRouter, "prefix 2001:db8:122:344::/64, by the router advertisement of fe80::", "%eth0 (PREF64, RFC 8781)")
	r.want("github.com --prefix 64:ff9b::/96", 0, byDNS, "by --prefix")
	r.want("github.com --interface eth1 --no-probe", 0, "2001:db8:bad:1:8c:5279:400:0 github.com\n", "%eth1 (PREF64, RFC 8781)")
	stop()

	stop = advertise(t, router, 255, bare)
	r.want("github.com", 0, byDNS, "by ipv4only.arpa (RFC 7050)")
	stop()

	// From behind another router, RFC 4861 section 6.1.2.
	stop = advertise(t, router, 64, with("2001:db8:122:344::"))
	r.want("github.com", 0, byDNS, "by ipv4only.arpa (RFC 7050)")
	stop()
}

// TestHostsDocker tells of Docker's bridges without IPv6, and of those only.
func TestHostsDocker(t *testing.T) {
	r := newRunner(t)
	r.resolve("64:ff9b::/96", guide)
	const daemon = "/etc/docker/daemon.json"
	if _, _, errs := r.run("github.com"); strings.Contains(errs, daemon) {
		t.Errorf("without Docker it says\n%s", errs)
	}
	nl, err := r.Netlink()
	noError(t, err)
	defer nl.Close()
	for _, name := range []string{"docker0", "br-0123456789ab", "br0"} {
		a := netlink.NewLinkAttrs()
		a.Name = name
		noError(t, nl.LinkAdd(&netlink.Bridge{LinkAttrs: a}))
		noError(t, r.Up(name))
	}
	r.want("github.com", 0, "64:ff9b::8c52:7904 github.com\n", "br-0123456789ab, docker0 have no IPv6: containers there reach no NAT64 address. In "+daemon, `"fixed-cidr-v6"`)
	noError(t, r.Addr("docker0", "fd00:64:64::1/64"))
	r.want("github.com", 0, "64:ff9b::8c52:7904 github.com\n", "br-0123456789ab has no IPv6")
	noError(t, r.Addr("br-0123456789ab", "2001:db8:d::1/64"))
	if _, _, errs := r.run("github.com"); strings.Contains(errs, daemon) {
		t.Errorf("with IPv6 it says\n%s", errs)
	}
}

func TestHostsCommandLine(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "which names?"},
		{"a.example -o xml", "write text or json"},
		{"a.example --remove", "give neither names nor --write"},
		{"a.example --force", "give --write or --remove, too"},
		{"a.example --port 0", "write 1 to 65535"},
		{"a.example --port 65536", "65536"},
		{"a.example --timeout 0s", "positive duration"},
		{"a.example --prefix 64:ff9b::", "is no prefix"},
		{"a.example --prefix 64:ff9b::/95", "RFC 6052 allows 32"},
		{"a.example --prefix 2001:db8::1/96", "has bits behind its length"},
		{"https://a.example/", "is no host name"},
		{"192.0.2.1", "is no host name"},
		{"bücher.example", "xn--"},
		{"--preset gitlab", "there is github-runner"},
		{"a.example --server dns.example", "is no address of a name server"},
	} {
		status, out, errs := isthmus(append([]string{"hosts"}, strings.Fields(c.args)...)...)
		if status != 2 || out != "" || !strings.Contains(errs, c.want) || !strings.Contains(errs, "usage: isthmus hosts") {
			t.Errorf("isthmus hosts %s: status %d, %q, %q; want %q", c.args, status, out, errs, c.want)
		}
	}
	if status, out, errs := isthmus("hosts", "--list-presets"); status != 0 || !strings.HasPrefix(out, "github-runner  ") || errs != "" {
		t.Errorf("--list-presets: status %d\n%s%s", status, out, errs)
	}
	log := filepath.Join(t.TempDir(), "log")
	noError(t, os.WriteFile(log, []byte("nothing of interest in main.go:42\n"), 0o600))
	if status, _, errs := isthmus("hosts", "--from-log", log); status != 1 || !strings.Contains(errs, "no host name was found in the log") {
		t.Errorf("an empty log: status %d, %s", status, errs)
	}
	if status, _, errs := isthmus("hosts", "--from-log", log+"x"); status != 1 || !strings.Contains(errs, "no such file") {
		t.Errorf("no log: status %d, %s", status, errs)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
