package labdns_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
	"aarch64.com/isthmus/perf/lab/labtest"
)

var (
	wellKnown = netip.MustParsePrefix("64:ff9b::/96")
	loopback  = netip.MustParseAddrPort("127.0.0.1:53")
	records   = labdns.Records{
		"ipv4only.example": {"198.51.100.2", "198.51.100.3"},
		"dual.example.":    {"198.51.100.2", "2001:db8::2"},
		"v6only.example":   {"2001:db8::3"},
		"WWW.example":      {"ipv4only.example"},
		"far.away.example": {"www.example."},
		"broken.example":   {"nowhere.example"},
	}
)

// A questioned thing and what a DNS64 with 64:ff9b::/96 answers; "" is that the
// name or the record is not there.
var table = []struct{ network, name, want string }{
	{"ip4", "ipv4only.example", "198.51.100.2 198.51.100.3"},
	{"ip6", "ipv4only.example", "64:ff9b::198.51.100.2 64:ff9b::198.51.100.3"},
	{"ip6", "IPv4Only.Example", "64:ff9b::198.51.100.2 64:ff9b::198.51.100.3"},
	{"ip6", "dual.example", "2001:db8::2"}, // RFC 6147 section 5.1.1
	{"ip4", "dual.example", "198.51.100.2"},
	{"ip6", "v6only.example", "2001:db8::3"},
	{"ip4", "v6only.example", ""},
	{"ip6", "far.away.example", "64:ff9b::198.51.100.2 64:ff9b::198.51.100.3"},
	{"ip6", "broken.example", ""},
	{"ip6", "away.example", ""},
	{"ip4", "nothing.example", ""},
	{"ip6", "nothing.example", ""},
	{"ip6", "ipv4only.arpa", "64:ff9b::192.0.0.170 64:ff9b::192.0.0.171"}, // RFC 7050
	{"ip4", "ipv4only.arpa", "192.0.0.170 192.0.0.171"},
}

// ask looks a name up; what is not there is "".
func ask(t *testing.T, h *lab.Host, network, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, err := h.Lookup(ctx, loopback, network, name)
	var said *net.DNSError
	if errors.As(err, &said) && said.IsNotFound {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return sorted(got)
}

func sorted(list []netip.Addr) string {
	slices.SortFunc(list, netip.Addr.Compare)
	return strings.Trim(fmt.Sprint(list), "[]")
}

func addresses(t *testing.T, text string) string {
	t.Helper()
	var out []netip.Addr
	for s := range strings.FieldsSeq(text) {
		a, err := netip.ParseAddr(s)
		must(t, err)
		out = append(out, a)
	}
	return sorted(out)
}

// server is what both kinds have in common.
type server interface {
	Set(labdns.Records) error
}

// TestDNS64 asks both the same, and then again after a change.
func TestDNS64(t *testing.T) {
	for _, kind := range []struct {
		name  string
		start func(t *testing.T, h *lab.Host) server
	}{
		{"own", func(t *testing.T, h *lab.Host) server {
			s, err := labdns.Serve(h, loopback, labdns.Config{Prefix: wellKnown, Records: records})
			must(t, err)
			t.Cleanup(s.Close)
			return s
		}},
		{"unbound", func(t *testing.T, h *lab.Host) server {
			labtest.NeedProgram(t, labdns.Program, labdns.Program)
			return resolver(t, h, labdns.Config{Prefix: wellKnown, Records: records})
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			h := labtest.Host(t, labtest.New(t, "dns64"), "h")
			s := kind.start(t, h)
			for _, c := range table {
				if got, want := ask(t, h, c.network, c.name), addresses(t, c.want); got != want {
					t.Errorf("%s %s: %q, want %q", c.network, c.name, got, want)
				}
			}
			must(t, s.Set(labdns.Records{"ipv4only.example": {"192.0.2.1"}}))
			if got := ask(t, h, "ip6", "ipv4only.example"); got != addresses(t, "64:ff9b::192.0.2.1") {
				t.Errorf("after a change: %q", got)
			}
			if got := ask(t, h, "ip6", "dual.example"); got != "" {
				t.Errorf("a name that has gone: %q", got)
			}
		})
	}
}

func resolver(t *testing.T, h *lab.Host, c labdns.Config) *labdns.Resolver {
	t.Helper()
	r, err := labdns.StartResolver(h, c)
	must(t, err)
	t.Cleanup(func() {
		r.Stop()
		if t.Failed() {
			t.Logf("unbound said:\n%s", r.Log())
		}
	})
	return r
}

// Prefixes of other lengths (RFC 6052 section 2.4), and none.
func TestResolverPrefixes(t *testing.T) {
	labtest.NeedProgram(t, labdns.Program, labdns.Program)
	for prefix, want := range map[string]string{
		"2001:db8:122:344::/64":     "2001:db8:122:344:c0:2:2100:0",
		"2001:db8:122::/48":         "2001:db8:122:c000:2:2100::",
		"2001:db8:122:344:0:1::/96": "2001:db8:122:344:0:1:c000:221",
		"":                          "",
	} {
		t.Run(strings.ReplaceAll(prefix, "/", "_"), func(t *testing.T) {
			h := labtest.Host(t, labtest.New(t, "prefix"), "h")
			c := labdns.Config{Records: labdns.Records{"v4.example": {"192.0.2.33"}}}
			if prefix != "" {
				c.Prefix = netip.MustParsePrefix(prefix)
			}
			r := resolver(t, h, c)
			if got := ask(t, h, "ip6", "v4.example"); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			r.Stop()
			r.Stop()
		})
	}
}

func TestRecordsAreChecked(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "records"), "h")
	for name, c := range map[string]labdns.Config{
		"must be alone":         {Records: labdns.Records{"a.example": {"b.example", "192.0.2.1"}}},
		"no name of the DNS":    {Records: labdns.Records{"a..example": {"192.0.2.1"}}},
		"prefixes of 96 bits":   {Prefix: netip.MustParsePrefix("2001:db8::/32")},
		"address nor a name":    {Records: labdns.Records{"a.example": {strings.Repeat("x", 300)}}},
		"IPv6 prefixes of 96 b": {Prefix: netip.MustParsePrefix("192.0.2.0/24")},
	} {
		s, err := labdns.Serve(h, loopback, c)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
}

// What does not fit is said to be cut off, and comes whole over TCP.
func TestTruncation(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "truncation"), "h")
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("192.0.2.%d", i))
	}
	s, err := labdns.Serve(h, loopback, labdns.Config{Records: labdns.Records{"many.example": many, "few.example": many[:40]}})
	must(t, err)
	defer s.Close()
	if got := strings.Fields(ask(t, h, "ip4", "many.example")); len(got) != len(many) {
		t.Errorf("%d addresses over TCP, want %d", len(got), len(many))
	}
	for _, c := range []struct {
		name    string
		edns    int
		cut     bool
		network string
	}{
		{"few.example.", 0, true, "udp"}, {"few.example.", 1232, false, "udp"}, {"few.example.", 0, false, "tcp"},
		{"many.example.", 4096, true, "udp"}, {"many.example.", 0, false, "tcp"},
	} {
		if m := exchange(t, h, c.network, question(t, c.name, c.edns)); m.Truncated != c.cut || m.RCode != 0 || c.cut != (len(m.Answers) == 0) {
			t.Errorf("%+v: truncated %v, %v, %d answers", c, m.Truncated, m.RCode, len(m.Answers))
		}
	}
}

// What is no question for this server gets the code that says so, or nothing.
func TestWrongQuestions(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "questions"), "h")
	s, err := labdns.Serve(h, loopback, labdns.Config{Records: records})
	must(t, err)
	defer s.Close()
	for _, c := range []struct {
		name   string
		change func(*dnsmessage.Message)
		want   dnsmessage.RCode
	}{
		{"a plain one", func(*dnsmessage.Message) {}, dnsmessage.RCodeSuccess},
		{"two at once", func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }, dnsmessage.RCodeFormatError},
		{"none", func(m *dnsmessage.Message) { m.Questions = nil }, dnsmessage.RCodeFormatError},
		{"an update", func(m *dnsmessage.Message) { m.OpCode = 5 }, dnsmessage.RCodeNotImplemented},
		{"class CHAOS", func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }, dnsmessage.RCodeRefused},
		{"a loop", func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("loop.example.") }, dnsmessage.RCodeServerFailure},
	} {
		must(t, s.Set(labdns.Records{"ipv4only.example": {"192.0.2.1"}, "loop.example": {"loop.example"}}))
		m := question(t, "ipv4only.example.", 0)
		// What must not be answered comes first: the answer is to the second.
		c.change(m)
		if got := exchange(t, h, "udp", m); got.RCode != c.want || !got.Response || got.ID != m.ID {
			t.Errorf("%s: %+v", c.name, got.Header)
		}
	}
	conn, err := h.Dial(t.Context(), "udp", loopback.String())
	must(t, err)
	defer conn.Close()
	ignored := question(t, "ipv4only.example.", 0)
	ignored.Response = true // two servers that answer answers would never end
	ignored.ID = 1
	sound := question(t, "ipv4only.example.", 0)
	for _, m := range []*dnsmessage.Message{ignored, sound} {
		b, err := m.Pack()
		must(t, err)
		_, err = conn.Write(b)
		must(t, err)
	}
	_, err = conn.Write([]byte("short"))
	must(t, err)
	if got := read(t, conn, 0); got.ID != sound.ID {
		t.Errorf("an answer was answered: %+v", got.Header)
	}
}

func question(t *testing.T, name string, edns int) *dnsmessage.Message {
	t.Helper()
	m := &dnsmessage.Message{Header: dnsmessage.Header{ID: 77}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	if edns > 0 {
		r := dnsmessage.Resource{Body: &dnsmessage.OPTResource{}}
		must(t, r.Header.SetEDNS0(edns, 0, false))
		m.Additionals = append(m.Additionals, r)
	}
	return m
}

func exchange(t *testing.T, h *lab.Host, network string, m *dnsmessage.Message) dnsmessage.Message {
	t.Helper()
	c, err := h.Dial(t.Context(), network, loopback.String())
	must(t, err)
	defer c.Close()
	b, err := m.Pack()
	must(t, err)
	if network == "udp" {
		_, err = c.Write(b)
		must(t, err)
		return read(t, c, 0)
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	must(t, err)
	var length uint16
	must(t, binary.Read(c, binary.BigEndian, &length))
	return read(t, c, int(length))
}

// read reads one message, of a known length or what comes in one datagram.
func read(t *testing.T, c net.Conn, length int) (m dnsmessage.Message) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if length > 0 && err == nil && n < length {
		_, err = io.ReadFull(c, b[n:length])
		n = length
	}
	must(t, err)
	must(t, m.Unpack(b[:n]))
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
