package main

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

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
