package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// asIsthmus makes this test binary behave as the isthmus command.
const asIsthmus = "ISTHMUS_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asIsthmus) == "1" {
		main()
	}
	os.Exit(m.Run())
}

// command is `isthmus args...` as a process of its own.
func command(args ...string) *exec.Cmd {
	c := labtest.Self(args...)
	// With the race detector each process would sleep for a second at its end.
	c.Env = append(os.Environ(), asIsthmus+"=1", "GORACE=atexit_sleep_ms=0")
	return c
}

// isthmus runs a command line within this process.
func isthmus(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = execute(args, &out, &errs)
	return status, out.String(), errs.String()
}

func writeConfig(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "isthmus.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongCommandLines(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string
	}{
		{"chekc", "isthmus: unknown command \"chekc\"; did you mean check?\nusage: isthmus"},
		{"frobnicate", "isthmus: unknown command \"frobnicate\"\nusage: isthmus"},
		{"--frobnicate", "isthmus: unknown flag: --frobnicate\nusage: isthmus"},
		{"run --frobnicate", "isthmus: unknown flag: --frobnicate\nusage: isthmus run [-c FILE]"},
		{"run -c", "isthmus: flag needs an argument: 'c' in -c\nusage: isthmus run [-c FILE]"},
		{"run --only squid", "isthmus: --only squid: there is no such service; there are router, proxy, api, jump\nusage: isthmus run [-c FILE]"},
		{"run --log-level loud", "isthmus: --log-level: \"loud\" is not a level; write debug, info, warn, error\nusage: isthmus run [-c FILE]"},
		{"run file.toml", "isthmus: unknown command \"file.toml\" for \"isthmus run\"\nusage: isthmus run [-c FILE]"},
		{"check file.toml", "usage: isthmus check [-c FILE]"},
		{"version please", "usage: isthmus version"},
		{"routes lst", "isthmus: unknown command \"lst\"; did you mean list or set?\nusage: isthmus routes"},
		{"routes add www.shop.example", "isthmus: requires at least 2 arg(s), only received 1\nusage: isthmus routes add HOST VM..."},
		{"routes add www.shop.example vm1", "isthmus: \"vm1\" is no IP address; give the IPv6 address of a VM\nusage: isthmus routes add"},
		{"routes list -o yaml", "isthmus: --output yaml: there are table, json\nusage: isthmus routes list"},
		{"routes list --token-file /t", "isthmus: --token-file and --ca-file are for --server, which is missing\nusage: isthmus routes list"},
		{"routes list --server https://a.example", "isthmus: https://a.example wants a token: give a file that has it with --token-file\nusage: isthmus routes list"},
		{"routes audit -n 0", "isthmus: -n 0: at least 1\nusage: isthmus routes audit"},
		{"routes export --format csv", "isthmus: --format csv: there are toml, json, routes\nusage: isthmus routes export"},
		{"routes migrate --from bolt:/a", "isthmus: --from and --to are both needed, such as"},
		{"routes migrate --from bolt:/a --to bolt:/a", "isthmus: --from and --to are the same store\nusage: isthmus routes migrate"},
		{"routes migrate --from sqlite:/a --to bolt:/b", "isthmus: --from sqlite:/a: write bolt:PATH, etcd:URL or config:FILE\nusage: isthmus routes migrate"},
		{"token create x", "isthmus: --project is missing: a token that may read or write is for one project\nusage: isthmus token create"},
		{"token create x --verb root", "isthmus: --verb root: there are read, write, operator\nusage: isthmus token create"},
		{"token create x --verb operator --project shop", "isthmus: --verb operator is for all projects; leave --project out\nusage: isthmus token create"},
		{"token create x --project shop --expires 0d", "isthmus: --expires 0d: write days or hours such as 90d or 8h, a date to come such as 2027-03-31, or never\nusage: isthmus token create"},
		{"token create x --project shop --expires 2001-01-01", "isthmus: --expires 2001-01-01: write days or hours"},
		{"perf wire", "isthmus: unknown command \"wire\"\nusage: isthmus perf"},
		{"perf kernel-path --rounds 0", "isthmus: --rounds 0: at least 1\nusage: isthmus perf kernel-path"},
		{"perf kernel-path --seconds -1", "isthmus: --seconds -1: at least 1\nusage: isthmus perf kernel-path"},
		{"perf jump --rounds 0", "isthmus: --rounds 0: at least 1\nusage: isthmus perf jump"},
		{"perf jump --sessions -1", "isthmus: --sessions -1: at least 1\nusage: isthmus perf jump"},
		{"perf jump --sessions 100000", "isthmus: sessions: 100000: it is 1 to 5000\nusage: isthmus perf jump"},
		{"perf jump --seconds NaN", "isthmus: --seconds NaN: 0.1 to 60\nusage: isthmus perf jump"},
		{"perf jump --hosts telnet", "isthmus: host \"telnet\": there are isthmus, sshd, sshd-gcm, direct\nusage: isthmus perf jump"},
		{"perf proxy --rounds 0", "isthmus: --rounds 0: at least 1\nusage: isthmus perf proxy"},
		{"perf proxy --connections 0", "isthmus: --connections 0: at least 1\nusage: isthmus perf proxy"},
		{"perf proxy --seconds NaN", "isthmus: --seconds NaN: 0.1 to 60\nusage: isthmus perf proxy"},
		{"perf proxy --proxies squid", "isthmus: proxy \"squid\": there are isthmus, haproxy, haproxy-auto, nginx\nusage: isthmus perf proxy"},
		{"perf kernel-path --paths slow", "isthmus: path \"slow\": there are plain, fast, "},
	} {
		t.Run(tt.args, func(t *testing.T) {
			status, stdout, stderr := isthmus(strings.Fields(tt.args)...)
			if status != 2 {
				t.Errorf("status %d, want 2", status)
			}
			if !strings.Contains(stderr, tt.want) || !strings.Contains(stderr, "--help` tells more") {
				t.Errorf("got  %q\nwant %q", stderr, tt.want)
			}
			if stdout != "" {
				t.Errorf("standard output: %q", stdout)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "Available Commands:"},
		{"--help", "Available Commands:"},
		{"help run", "SIGHUP reads the configuration file again"},
		{"run --help", "--log-level"},
		{"version", "isthmus "},
		{"--version", "isthmus "},
		{"completion bash", "__start_isthmus"},
	} {
		status, stdout, stderr := isthmus(strings.Fields(tt.args)...)
		if status != 0 || !strings.Contains(stdout, tt.want) || stderr != "" {
			t.Errorf("isthmus %s: status %d, %q, %q", tt.args, status, stdout, stderr)
		}
	}
}

func TestCheck(t *testing.T) {
	good := writeConfig(t, "pop = 'dfw'\n[router]\npool6 = ['2001:db8:64::/96']\neam = [{ ipv6 = '2001:db8::1', ipv4 = '192.0.2.1' }]\n"+
		"[[router.port]]\ninterface = 'lo'\nqueues = [0, 7]\n[[router.port]]\ninterface = 'isthmus-none'\n[metrics]\nlisten = ':9464'\n")
	bad := writeConfig(t, "[router]\npol6 = []\nhairpin = 'on'\n")

	t.Run("defaults", func(t *testing.T) {
		status, stdout, stderr := isthmus("check")
		for _, want := range []string{"built-in defaults", "64:ff9b::/96", "none: the kernel path only", "TUN device isthmus0", "http://[::1]:9464/metrics"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("no %q in\n%s", want, stdout)
			}
		}
		if status != 0 || stderr != "" {
			t.Errorf("status %d, %q", status, stderr)
		}
	})
	t.Run("good", func(t *testing.T) {
		status, stdout, stderr := isthmus("check", "-c", good)
		for _, want := range []string{
			good, "dfw", "2001:db8:64::/96", "mappings (eam)", "queues 0, 7, zero_copy auto", "can be reached from other hosts",
			"port lo: queue 7 is configured, but the interface has queues 0 to 0",
			"port isthmus-none: this host has no such interface",
		} {
			if !strings.Contains(stdout, want) {
				t.Errorf("no %q in\n%s", want, stdout)
			}
		}
		if status != 0 || stderr != "" {
			t.Errorf("status %d, %q", status, stderr)
		}
	})
	t.Run("bad", func(t *testing.T) {
		status, stdout, stderr := isthmus("check", "-c", bad)
		want := bad + ":2:1: router.pol6: unknown key; did you mean pool6?\n" +
			bad + ":3:11: router.hairpin: \"on\" is not a choice; write \"intrinsic\", \"simple\" or \"off\"\n"
		if status != 1 || stdout != "" || stderr != want {
			t.Errorf("status %d, %q\ngot  %q\nwant %q", status, stdout, stderr, want)
		}
	})
	t.Run("missing", func(t *testing.T) {
		status, _, stderr := isthmus("check", "-c", good+"x")
		if status != 1 || !strings.Contains(stderr, "no such file; give the right path with -c") {
			t.Errorf("status %d, %q", status, stderr)
		}
	})
}

func TestRunWithBrokenConfig(t *testing.T) {
	bad := writeConfig(t, "[router]\npool6 = '64:ff9b::/96'\n")
	status, _, stderr := isthmus("run", "-c", bad)
	if want := bad + ":2:9: router.pool6: want a list of IPv6 prefixes, have a string\n"; status != 1 || stderr != want {
		t.Errorf("status %d\ngot  %q\nwant %q", status, stderr, want)
	}
}

func TestMissingCapabilities(t *testing.T) {
	const netAdmin, netRaw, sysAdmin, bpf = 1 << 12, 1 << 13, 1 << 21, 1 << 39
	for _, tt := range []struct {
		name  string
		have  uint64
		ports bool
		want  string // what comes before "; run isthmus as root"
	}{
		{"kernel path, all", netAdmin | netRaw, false, ""},
		{"kernel path, one missing", netRaw, false, "CAP_NET_ADMIN missing, needed to make the TUN device and its routes"},
		{"kernel path, none", 0, false, "CAP_NET_ADMIN and CAP_NET_RAW missing, needed to make the TUN device and its routes and to open raw and AF_XDP sockets"},
		{"ports, all", netAdmin | netRaw | bpf, true, ""},
		{"ports, old kernel", netAdmin | netRaw | sysAdmin, true, ""},
		{"ports, one missing", netAdmin | bpf, true, "CAP_NET_RAW missing, needed to open raw and AF_XDP sockets"},
		{"ports, none", 0, true, "CAP_NET_ADMIN and CAP_NET_RAW and CAP_BPF missing, needed to make the TUN device and its routes and to open raw and AF_XDP sockets and to load the XDP program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Default()
			if tt.ports {
				c.Router.Ports = []config.Port{{Interface: "a"}}
			}
			needed, err := routerNeeds(c)
			if err != nil {
				t.Fatal(err)
			}
			err = missingCapabilities(tt.have, needed)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.want+"; run isthmus as root") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Without root there is one sentence, and nothing else happens.
func TestRunWithoutRoot(t *testing.T) {
	c := command("run")
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := c.CombinedOutput()
	want := "isthmus: CAP_NET_ADMIN and CAP_NET_RAW missing, needed to make the TUN device and its routes and to open raw and AF_XDP sockets; " +
		"run isthmus as root, or as a service with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW (see deploy/isthmus.service)\n"
	if c.ProcessState == nil || c.ProcessState.ExitCode() != 1 || string(out) != want {
		t.Errorf("%v\ngot  %q\nwant %q", err, out, want)
	}
}
