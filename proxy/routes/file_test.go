package routes

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const good = `# routes of the shop
[[project]]
name = "shop"
prefixes = ["2001:db8:64::/64"]

[[route]]
host = "www.shop.example"
project = "shop"
backends = ["2001:db8:64::2", "2001:db8:64::3"]
http = 0
https = 8_443
proxy_protocol = "v2"

[[route]]
host = "*.blog.example"
backends = ["2001:db8:65::2"]
`

var errOutside = errors.New("outside")

// inDocumentation reaches 2001:db8::/32.
func inDocumentation(a netip.Addr) error {
	if !netip.MustParsePrefix("2001:db8::/32").Contains(a) {
		return errOutside
	}
	return nil
}

func TestParse(t *testing.T) {
	list, err := Parse("x", []byte(good), inDocumentation)
	if err != nil {
		t.Fatal(err)
	}
	vm := netip.MustParseAddr
	want := []Route{
		{Host: "www.shop.example", Project: "shop", Backends: []netip.Addr{vm("2001:db8:64::2"), vm("2001:db8:64::3")}, HTTPS: 8443, Header: HeaderV2},
		{Host: "*.blog.example", Backends: []netip.Addr{vm("2001:db8:65::2")}, HTTP: 80, HTTPS: 443},
	}
	if !slices.EqualFunc(list, want, func(a, b Route) bool { return a.Same(&b) }) {
		t.Errorf("got  %+v\nwant %+v", list, want)
	}
	if list, err := Parse("x", nil, nil); len(list) != 0 || err != nil {
		t.Errorf("nothing: %v, %v", list, err)
	}
}

func TestParseErrors(t *testing.T) {
	const head = "[[route]]\nhost = 'a.example'\n"
	const vm = "backends = ['2001:db8::1']\n"
	for _, c := range []struct{ name, doc, want string }{
		{"byte order mark", "\xef\xbb\xbf", `1:1: the file starts with a byte order mark; save it as plain UTF-8`},
		{"syntax", "[[route]\n", `1:8: expected ']]' to close array table name; correct the TOML syntax`},
		{"no quotes", "[[route]]\nhost = www", `2:8: unexpected character U+0077 'w' at start of value; correct the TOML syntax (strings need quotes)`},
		{"one bracket", "[route]\nhost = 'a.example'\n" + vm, `1:2: route[0]: one bracket; write [[route]] with two brackets`},
		{"a value", "route = []", `1:1: not a table; write [[route]] and its keys below`},
		{"before all", "host = 'a'", `1:1: host stands before the first section; there are [[route]] and [[project]]`},
		{"unknown section", "[[routes]]\nhost = 1", `1:3: unknown section routes; there are [[route]] and [[project]]`},
		{"unknown key", head + vm + "ports = 80", `4:1: "a.example".ports: unknown key; a route has host, project, backends, http, https, proxy_protocol`},
		{"dotted key", head + vm + "a.\"b\\u001b\" = 80", `4:1: "a.example".a.b?: unknown key; a route has host, project, backends, http, https, proxy_protocol`},
		{"key twice", head + vm + "http = 1\nhttp = 2", `5:1: "a.example".http: comes twice; keep one of them`},
		{"no host", "[[route]]\n" + vm, `1:3: route[0].host: missing; add host = "www.example.com"`},
		{"no backends", head, `1:3: "a.example".backends: missing; add backends = ["2001:db8::1"], the addresses of VMs`},
		{"empty backends", head + "backends = []", `3:1: "a.example".backends: empty; write one such as ["2001:db8::1"]`},
		{"backends no list", head + "backends = '2001:db8::1'", `3:12: "a.example".backends: not a list; write one such as ["2001:db8::1"]`},
		{"upper case", "[[route]]\nhost = 'A.example.'\n" + vm, `2:8: route[0].host: "A.example." is not in its one form; write "a.example"`},
		{"address", "[[route]]\nhost = '192.0.2.1'\n" + vm, `2:8: route[0].host: "192.0.2.1" is no host name: an IP address where a host name belongs; write one`},
		{"star", "[[route]]\nhost = '*'\n" + vm, `2:8: route[0].host: "*" is no host name: not a host name; write one`},
		{"wildcard of a top-level domain", "[[route]]\nhost = '*.example'\n" + vm, `2:8: route[0].host: "*.example" is for a whole top-level domain; write`},
		{"star in the middle", "[[route]]\nhost = 'a.*.example'\n" + vm, `2:8: route[0].host: "a.*.example" is no host name`},
		{"host twice", head + vm + head + vm, `5:8: "a.example".host: has a route in line 2 already; keep one of the two`},
		{"a name as backend", head + "backends = ['vm.example']", `3:13: "a.example".backends[0]: "vm.example" is no IPv6 address; write a VM's, such as "2001:db8::1"; names are never looked up`},
		{"IPv4 backend", head + "backends = ['192.0.2.1']", `3:13: "a.example".backends[0]: "192.0.2.1" is no IPv6 address`},
		{"mapped backend", head + "backends = ['::ffff:192.0.2.1']", `3:13: "a.example".backends[0]: "::ffff:192.0.2.1" is no IPv6 address`},
		{"backend with a zone", head + "backends = ['fe80::1%eth0']", `3:13: "a.example".backends[0]: "fe80::1%eth0" is no IPv6 address`},
		{"backend twice", head + "backends = ['2001:db8::1', '2001:db8:0::1']", `3:28: "a.example".backends[1]: 2001:db8::1 comes twice; remove one`},
		{"backend out of reach", head + "backends = ['2001:db9::1']", `3:13: "a.example".backends[0]: 2001:db9::1: outside; give a VM's address within vm_prefixes of [proxy]`},
		{"backend a number", head + "backends = [1]", `3:13: "a.example".backends[0]: not a string; write one such as "2001:db8::1"`},
		{"port", head + vm + "http = 65536", `4:8: "a.example".http: 65536 is no port; write a port from 1 to 65535, or 0 for not served`},
		{"negative port", head + vm + "http = -1", `4:8: "a.example".http: -1 is no port`},
		{"port a string", head + vm + "http = '80'", `4:8: "a.example".http: not a number`},
		{"no port", head + vm + "http = 0\nhttps = 0", `1:3: "a.example": neither HTTP nor HTTPS is served: set a port`},
		{"header", head + vm + "proxy_protocol = 'v3'", `4:18: "a.example".proxy_protocol: "v3" is not a choice; write "off", "v1" or "v2"`},
		{"project's name", head + vm + "project = 'a b'", `4:11: "a.example".project: "a b" can be no project's name`},
		{"project without a name", "[[project]]\nprefixes = []", `1:3: name: missing; add name = "shop"`},
		{"project twice", "[[project]]\nname='a'\n[[project]]\nname='a'", `3:3: project "a" is described twice; keep one of the two`},
		{"prefix", "[[project]]\nname='a'\nprefixes=['2001:db8::1/64']", `3:11: prefixes[0]: "2001:db8::1/64" has bits set behind its length; write "2001:db8::/64"`},
		{"outside the project", head + vm + "project = 'p'\n[[project]]\nname = 'p'\nprefixes = ['2001:db8:1::/48']", `3:1: "a.example".backends: 2001:db8::1 is outside the prefixes of project "p"; correct the address, or add a prefix to the project`},
		{"project without prefixes", head + vm + "project = 'p'\n[[project]]\nname = 'p'\nprefixes = []", `3:1: "a.example".backends: 2001:db8::1 is outside`},
		{"far too deep", "x = " + strings.Repeat("[", 20000), `1:10005: arrays and inline tables are nested more`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("x", []byte(c.doc), inDocumentation)
			if err == nil {
				t.Fatal("no error")
			}
			var list *FileErrors
			if !errors.As(err, &list) || len(list.List) != 1 {
				t.Errorf("not one error: %v", err)
			}
			if got := strings.TrimPrefix(err.Error(), "x:"); !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// All mistakes come back at once, in the order of the lines, and not without end.
func TestParseManyErrors(t *testing.T) {
	var doc strings.Builder
	for i := range 30 {
		fmt.Fprintf(&doc, "[[route]]\nhost = 'h%d.example'\nbackends = ['x']\n", i)
	}
	_, err := Parse("x", []byte(doc.String()), nil)
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxErrors+1 || lines[maxErrors] != "and 10 more" {
		t.Errorf("got %d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	var one *FileError
	if !errors.As(err, &one) || one.Line != 3 {
		t.Errorf("got %+v", one)
	}
}

func many(n int) []byte {
	var doc strings.Builder
	for i := range n {
		fmt.Fprintf(&doc, "[[route]]\nhost = \"www%d.customer%d.example\"\nproject = \"customer%d\"\nbackends = [\"2001:db8:64::%x:%x\"]\n\n", i, i%1000, i%1000, i>>16, i&0xffff|1)
	}
	return []byte(doc.String())
}

func TestParseHundredThousand(t *testing.T) {
	list, err := Parse("x", many(100_000), inDocumentation)
	if err != nil || len(list) != 100_000 {
		t.Fatalf("%d routes, %v", len(list), err)
	}
	if _, err := NewSnapshot(1, list); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkParse100k(b *testing.B) {
	doc := many(100_000)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		list, err := Parse("x", doc, inDocumentation)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := NewSnapshot(1, list); err != nil {
			b.Fatal(err)
		}
	}
}

func TestChanges(t *testing.T) {
	parse := func(doc string) *Snapshot {
		list, err := Parse("x", []byte(doc), nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSnapshot(0, list)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := parse(good)
	if c := before.Changes(parse(good)); c.Any() {
		t.Errorf("the same differs by %+v", c)
	}
	after := parse(strings.Replace(good, "proxy_protocol = \"v2\"", "", 1) + "[[route]]\nhost = 'new.example'\nbackends = ['2001:db8::1']\n")
	if c := after.Changes(before); c != (Changes{Added: 1, Changed: 1}) {
		t.Errorf("got %+v", c)
	}
	if c := empty.Changes(after); c != (Changes{Removed: 3}) {
		t.Errorf("got %+v", c)
	}
}

// FuzzParse: whatever is accepted can be served, and each error has a place in
// the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("[[route]]\nhost = 'a.example'\nbackends = ['2001:db8::1']\n[[route]]"))
	f.Add([]byte("[route]\n[[route]]\n[project.x]\na.b.c = {d = [{e = 1979-05-27}]}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		list, err := Parse("x", doc, inDocumentation)
		if err != nil {
			var all *FileErrors
			if !errors.As(err, &all) || len(all.List) == 0 || list != nil {
				t.Fatalf("%v, %d routes", err, len(list))
			}
			lines := strings.Split(string(doc), "\n")
			for _, e := range all.List {
				if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 || e.Problem == "" {
					t.Errorf("no such place: %v", e)
				}
			}
			if strings.ContainsFunc(strings.ReplaceAll(err.Error(), "\n", ""), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("not fit for a terminal: %q", err)
			}
			return
		}
		if _, err := NewSnapshot(1, list); err != nil {
			t.Error(err)
		}
		for i := range list {
			if err := list[i].Check(inDocumentation); err != nil {
				t.Error(err)
			}
		}
	})
}
