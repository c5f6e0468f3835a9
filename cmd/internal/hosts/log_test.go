package hosts_test

import (
	"slices"
	"strings"
	"testing"

	"aarch64.com/isthmus/cmd/internal/hosts"
)

func TestScanLog(t *testing.T) {
	for _, c := range []struct{ line, failed, others string }{
		// What clients write.
		{"System.Net.Http.HttpRequestException: Network is unreachable (api.github.com:443)", "api.github.com", ""},
		{" ---> System.Net.Sockets.SocketException (101): Network is unreachable [codeload.github.com:443]", "codeload.github.com", ""},
		{"GET request to https://pipelines.actions.githubusercontent.com/abc/_apis/connectionData?x=1 timed out after 100 seconds.", "pipelines.actions.githubusercontent.com", ""},
		{"curl: (6) Could not resolve host: ghcr.io", "ghcr.io", ""},
		{"curl: (7) Failed to connect to codeload.github.com port 443 after 3 ms: Couldn't connect to server", "codeload.github.com", ""},
		{"fatal: unable to access 'https://github.com/o/r.git/': Failed to connect to github.com port 443", "github.com", ""},
		{"dial tcp: lookup registry.npmjs.org on 10.0.0.53:53: no such host", "registry.npmjs.org", ""},
		{`Get "https://ghcr.io/v2/": dial tcp 140.82.121.34:443: connect: network is unreachable`, "ghcr.io", ""},
		{"Error: getaddrinfo ENOTFOUND api.snapcraft.io", "api.snapcraft.io", ""},
		{"npm ERR! errno: EAI_AGAIN registry.npmjs.org", "registry.npmjs.org", ""},
		{"java.net.UnknownHostException: repo.maven.apache.org: Name or service not known", "repo.maven.apache.org", ""},
		{"ssh: connect to host github.com port 22: Network is unreachable", "github.com", ""},
		{"wget: unable to resolve host address ‘dl.example.org’", "dl.example.org", ""},
		{"Temporary failure resolving 'deb.debian.org'", "deb.debian.org", ""},
		{"  Err:1 http://deb.debian.org/debian bookworm InRelease", "", "deb.debian.org"},
		{"Downloading https://GitHub.com/actions/checkout.", "", "github.com"},
		{"git://Example.ORG./x and wss://a.b.example/", "", "example.org a.b.example"},
		{"connecting to \x1b[1mhttps://color.example\x1b[0m now", "", "color.example"},
		{"https://user:token@ghcr.io/v2/", "", "ghcr.io"},
		{"proxying www.example.com:443, ok", "", "www.example.com"},
		// What is no name, or not surely one.
		{"at GitHub.Runner.Listener.Program.Main(String[] args) in Program.cs:443x", "", ""},
		{"main.go:42: error in foo.bar.Baz", "", ""},
		{"error: script.py:17 failed, see readme.md", "", ""},
		{"https://***@github.com/o/r", "", "github.com"},
		{"https://***.blob.core.windows.net/x failed", "", ""},
		{"https://prod${n}.blob.core.windows.net/x failed", "", ""},
		{"https://{{ host }}/ and https://a.{{ zone }}.net/", "", ""},
		{"https://192.0.2.1/ https://[2001:db8::1]/ 192.0.2.1:443 [2001:db8::1]:443", "", ""},
		{"http://localhost:8080 http://printer.local/ https://vm.internal/ https://router.lan http://foo/", "", ""},
		{"could not connect to server 10.1.2.3", "", ""},
		{"https://a..b.example/ https://-a.example/ https://a.example-/ https://a_b.example/", "", "a_b.example"},
		{"version 1.2.3:443 and 12.34:443", "", ""},
		{"could not resolve dependencies for foo.jar", "", ""},
	} {
		failed, others, err := hosts.ScanLog(strings.NewReader(c.line + "\n"))
		if err != nil || strings.Join(failed, " ") != c.failed || strings.Join(others, " ") != c.others {
			t.Errorf("%s\n  failed %q, others %q, %v", c.line, failed, others, err)
		}
	}
}

// Each name once; a failure anywhere counts; failures come first; no last line
// feed is needed, and a line without end costs nothing.
func TestScanLogOrder(t *testing.T) {
	log := "GET https://a.example/ and https://b.example/\nGET https://c.example/ failed\n" +
		strings.Repeat("x", 1<<20) + " https://toofar.example/ failed\nfailed: https://b.example/"
	failed, others, err := hosts.ScanLog(strings.NewReader(log))
	must(t, err)
	if !slices.Equal(failed, []string{"b.example", "c.example"}) || !slices.Equal(others, []string{"a.example"}) {
		t.Errorf("failed %q, others %q", failed, others)
	}
}

// Whatever the log is: only names that can be looked up, each once.
func FuzzScanLog(f *testing.F) {
	f.Add("Network is unreachable (api.github.com:443)\nhttps://a@b.example:8080/x")
	f.Add("lookup x.example on 10.0.0.1:53: no such host\r\n\x1b[0m")
	f.Fuzz(func(t *testing.T, log string) {
		failed, others, err := hosts.ScanLog(strings.NewReader(log))
		must(t, err)
		seen := map[string]bool{}
		for _, n := range append(failed, others...) {
			if got, err := hosts.ParseName(n); err != nil || got != n || !strings.Contains(n, ".") || seen[n] {
				t.Errorf("%q: %q, %v", n, got, err)
			}
			if !strings.Contains(strings.ToLower(log), n) {
				t.Errorf("%q is not in the log", n)
			}
			seen[n] = true
		}
	})
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"GitHub.com": "github.com", "github.com.": "github.com", "*.x.example": "*.x.example", "xn--bcher-kva.example": "xn--bcher-kva.example",
		"localhost": "localhost", "a_b.example": "a_b.example", "1.example": "1.example",
		"": "!", ".": "!", "a..b": "!", "-a.example": "!", "a b": "!", "https://a.example": "!", "a.example:443": "!",
		"192.0.2.1": "!", "2001:db8::1": "!", "bücher.example": "!", "a\n64:ff9b::1 b": "!", "a.*.example": "!",
		strings.Repeat("a", 64) + ".example": "!", strings.Repeat("a.", 128): "!",
	} {
		got, err := hosts.ParseName(in)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// The presets hold names in their one form, and no name twice.
func TestPresets(t *testing.T) {
	for _, p := range hosts.Presets {
		if len(hosts.AddNames(nil, hosts.OfPreset, p.Names...)) != len(p.Names) {
			t.Errorf("%s has a name twice", p.Name)
		}
		for _, n := range p.Names {
			if got, err := hosts.ParseName(n); err != nil || got != n {
				t.Errorf("%s: %q: %q, %v", p.Name, n, got, err)
			}
		}
	}
	if _, err := hosts.FindPreset("github"); err == nil || !strings.Contains(err.Error(), "there is github-runner") {
		t.Errorf("another one: %v", err)
	}
}
