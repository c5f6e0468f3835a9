package hosts_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"aarch64.com/isthmus/cmd/internal/hosts"
	"aarch64.com/isthmus/translate"
)

// TestFind has what unbound does not show: name servers that fail for one type,
// and such as read the file.
func TestFind(t *testing.T) {
	pref64, err := translate.NewPref64(netip.MustParsePrefix("64:ff9b::/96"))
	must(t, err)
	file := []byte(edit(t, "", "64:ff9b::c633:6402 known.example", "2001:db8:64::c633:6402 moved.example"))
	entries := hosts.Entries(file)
	for _, c := range []struct {
		name, a, aaaa string // addresses; "?" is that the server fails, "!" that there is no such name
		status        hosts.Status
		note          string
		failed        bool
		lines         string
	}{
		{"plain.example", "198.51.100.2", "64:ff9b::c633:6402", hosts.Found, "", false, "64:ff9b::c633:6402 plain.example"},
		{"six.example", "!", "2001:db8::2", hosts.HasIPv6, "", false, ""},
		{"ula.example", "198.51.100.2", "fd00::2", hosts.HasIPv6, "", false, ""},
		{"linklocal.example", "198.51.100.2", "fe80::2", hosts.Found, "", false, "64:ff9b::c633:6402 linklocal.example"},
		{"sick.example", "198.51.100.2", "?", hosts.Found, "whether it has IPv6 is not known", false, "64:ff9b::c633:6402 sick.example"},
		{"dead.example", "?", "?", hosts.LookupFail, "SERVFAIL", true, ""},
		{"gone.example", "!", "!", hosts.NoName, "", true, ""},
		{"empty.example", "", "", hosts.NoIPv4, "", true, ""},
		// The name server knows the name from the block, or from an older one.
		{"known.example", "", "64:ff9b::c633:6402", hosts.FromFile, "--server", true, "64:ff9b::c633:6402 known.example"},
		{"known.example", "198.51.100.3", "64:ff9b::c633:6402", hosts.Found, "", false, "64:ff9b::c633:6403 known.example"},
		{"moved.example", "198.51.100.2", "2001:db8:64::c633:6402", hosts.Found, "", false, "64:ff9b::c633:6402 moved.example"},
		{"known.example", "?", "?", hosts.LookupFail, "SERVFAIL", true, "64:ff9b::c633:6402 known.example"},
		{"known.example", "!", "!", hosts.NoName, "", true, ""},
	} {
		server := nameServer(t, func(_ string, q, m *dns.Msg) {
			text, qtype := c.a, "A"
			if q.Question[0].Qtype == dns.TypeAAAA {
				text, qtype = c.aaaa, "AAAA"
			}
			switch text {
			case "?":
				m.Rcode = dns.RcodeServerFailure
			case "!":
				m.Rcode = dns.RcodeNameError
			case "":
			default:
				m.Answer = []dns.RR{record(t, c.name+". "+qtype+" "+text)}
			}
		})
		d := &hosts.Discovery{Pref64: pref64, Source: "the test"}
		f := &hosts.Finder{
			Resolver:  &hosts.Resolver{Servers: []netip.AddrPort{server}, Timeout: 5 * time.Second},
			Discovery: d,
			Known: func(name string) (list []netip.Addr) {
				for _, e := range entries {
					if e.Names[0] == name {
						list = append(list, e.Addr)
					}
				}
				return list
			},
		}
		results := f.Find(t.Context(), []hosts.Name{{Name: c.name, Origin: hosts.OfArgument}})
		r := results[0]
		if r.Status != c.status || r.Failed() != c.failed || !strings.Contains(r.Note, c.note) || (c.note == "") != (r.Note == "") {
			t.Errorf("%s A %q AAAA %q: %s, failed %v, %q", c.name, c.a, c.aaaa, r.Status, r.Failed(), r.Note)
		}
		if got := strings.Join(hosts.NewReport(d, results, entries).Lines, "\n"); got != c.lines {
			t.Errorf("%s A %q AAAA %q: lines %q", c.name, c.a, c.aaaa, got)
		}
		// Presets and logs name what may be gone.
		r.Origin = hosts.OfPreset
		if want := c.status == hosts.LookupFail || c.status == hosts.FromFile; r.Failed() != want {
			t.Errorf("%s of a preset: failed %v", c.name, r.Failed())
		}
	}
}
