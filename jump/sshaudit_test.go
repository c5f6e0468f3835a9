package jump

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// documented are the algorithms in the first n columns of the rows of a section of
// docs/jump.md, but for rows about what is not offered.
func documented(t *testing.T, section string, n int) (names []string) {
	t.Helper()
	page, err := os.ReadFile("../docs/jump.md")
	must(t, err)
	_, rest, found := strings.Cut(string(page), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/jump.md has no section %q", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for line := range strings.Lines(rest) {
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "|") || len(cells) < n+2 {
			continue
		}
		for _, c := range cells[1 : n+1] {
			if strings.HasPrefix(strings.TrimSpace(c), "no ") {
				continue
			}
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(c, -1) {
				names = append(names, m[1])
			}
		}
	}
	return names
}

// The page tells which algorithms there are.
func TestDocumentedAlgorithms(t *testing.T) {
	want := slices.Concat(keyExchanges, []string{ssh.KeyAlgoED25519}, allCiphers, macs)
	// The SSH library offers this with its newer name.
	want = append(want, "curve25519-sha256@libssh.org")
	got := documented(t, "Algorithms", 2)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("docs/jump.md has %q, the server offers %q", got, want)
	}
}

// finding is what ssh-audit says of an algorithm in a line; more lines about the
// same follow without its name.
var finding = regexp.MustCompile("^(?:\\((?:kex|key|enc|mac)\\) (\\S+)(?: \\([^)]*\\))?)? +(?:--|`-) \\[(info|warn|fail)\\] (.*)$")

// Whatever ssh-audit has against the server is explained, and what is explained is
// there.
func TestSSHAudit(t *testing.T) {
	labtest.NeedProgram(t, "ssh-audit", "ssh-audit")
	w := newWorld(t, nil)
	explained := documented(t, "What ssh-audit says", 1)
	for _, address := range []string{jump4, jump6} {
		r := w.run("ssh-audit", "-n", address)
		offered, name := map[string]bool{}, ""
		for line := range strings.Lines(r.out) {
			m := finding.FindStringSubmatch(strings.TrimRight(line, "\n"))
			if m == nil {
				continue
			}
			if m[1] != "" {
				name = m[1]
				offered[name] = true
			}
			if m[2] != "info" && !slices.Contains(explained, name) {
				t.Errorf("%s: %s: docs/jump.md does not explain that %s", m[2], name, m[3])
			}
		}
		for _, name := range explained {
			if !offered[name] {
				t.Errorf("docs/jump.md explains %s, which ssh-audit does not see:\n%s%s", name, r.out, r.err)
			}
		}
	}
}
