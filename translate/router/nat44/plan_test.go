package nat44

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestPlan(t *testing.T) {
	debian := Ports{32768, 60999}
	for _, c := range []struct {
		name      string
		pool      string
		addresses []netip.Addr
		size      int
		local     Ports
		capacity  int
		slices    map[string]string // mapped address: shared address and ports
	}{
		{"usual", "100.64.0.0/16", addrs("203.0.113.1"), 256, debian, 124 + 17, map[string]string{
			"100.64.0.0": "203.0.113.1 1024-1279", "100.64.0.1": "203.0.113.1 1280-1535",
			"100.64.0.123": "203.0.113.1 32512-32767", "100.64.0.124": "203.0.113.1 61184-61439",
			"100.64.0.140": "203.0.113.1 65280-65535", "100.64.0.141": "", "100.65.0.0": "", "192.0.2.1": "",
		}},
		{"two addresses", "100.64.0.0/16", addrs("203.0.113.1", "203.0.113.9"), 256, debian, 282, map[string]string{
			"100.64.0.140": "203.0.113.1 65280-65535", "100.64.0.141": "203.0.113.9 1024-1279",
			"100.64.1.25": "203.0.113.9 65280-65535", "100.64.1.26": "",
		}},
		{"no address", "100.64.0.0/16", nil, 256, debian, 0, map[string]string{"100.64.0.0": ""}},
		{"pool smaller than the ports", "100.64.0.0/30", addrs("203.0.113.1"), 256, debian, 4, map[string]string{
			"100.64.0.3": "203.0.113.1 1792-2047", "100.64.0.4": "",
		}},
		{"one VM", "100.64.0.5/32", addrs("203.0.113.1"), 1024, debian, 1, map[string]string{
			"100.64.0.5": "203.0.113.1 1024-2047", "100.64.0.4": "",
		}},
		{"size that divides nothing", "100.64.0.0/16", addrs("203.0.113.1"), 1000, debian, 30 + 4, map[string]string{
			"100.64.0.0": "203.0.113.1 2000-2999", "100.64.0.29": "203.0.113.1 31000-31999",
			"100.64.0.30": "203.0.113.1 61000-61999", "100.64.0.33": "203.0.113.1 64000-64999",
		}},
		{"host's ports at the bottom", "100.64.0.0/16", addrs("203.0.113.1"), 16384, Ports{1024, 16383}, 3, map[string]string{
			"100.64.0.0": "203.0.113.1 16384-32767", "100.64.0.2": "203.0.113.1 49152-65535",
		}},
		{"host's ports at the top", "100.64.0.0/16", addrs("203.0.113.1"), 16384, Ports{60000, 65535}, 2, map[string]string{
			"100.64.0.1": "203.0.113.1 32768-49151", "100.64.0.2": "",
		}},
		{"host's ports among the system ports", "100.64.0.0/16", addrs("203.0.113.1"), 16384, Ports{100, 200}, 3, nil},
		{"most slices that the kernel's sets can hold", "100.64.0.0/10", many(64), 16, Ports{1, 1}, maxSlices, map[string]string{
			"100.64.0.0": "192.0.2.0 1024-1039",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := NewPlan(netip.MustParsePrefix(c.pool), c.addresses, c.size, c.local)
			if err != nil {
				t.Fatal(err)
			}
			if p.Capacity() != c.capacity {
				t.Errorf("capacity %d, want %d", p.Capacity(), c.capacity)
			}
			for mapped, want := range c.slices {
				a, ports, ok := p.Slice(netip.MustParseAddr(mapped))
				got := ""
				if ok {
					got = a.String() + " " + ports.String()
				}
				if got != want {
					t.Errorf("slice of %s is %q, want %q", mapped, got, want)
				}
			}
			check(t, p, c.local)
		})
	}
}

func many(n int) (out []netip.Addr) {
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	return out
}

// check holds a plan against what it promises, port by port: each belongs to
// one VM or nobody, never to the host and a VM, and both directions agree.
func check(t *testing.T, p *Plan, local Ports) {
	t.Helper()
	owned := map[netip.Addr]int{}
	for _, a := range p.addresses {
		for port := range 1 << 16 {
			mapped, ok := p.Owner(a, uint16(port))
			if !ok {
				continue
			}
			if port < 1024 || port >= int(local.First) && port <= int(local.Last) {
				t.Fatalf("port %d of %s is the host's, and of %s", port, a, mapped)
			}
			shared, ports, ok := p.Slice(mapped)
			if !ok || shared != a || port < int(ports.First) || port > int(ports.Last) {
				t.Fatalf("port %d of %s belongs to %s, whose slice is %s %s %t", port, a, mapped, shared, ports, ok)
			}
			owned[mapped]++
		}
	}
	if len(owned) != p.Capacity() {
		t.Fatalf("%d mapped addresses own ports, and there are %d slices", len(owned), p.Capacity())
	}
	for mapped, n := range owned {
		if n != p.size {
			t.Fatalf("%s owns %d ports, want %d", mapped, n, p.size)
		}
	}
}

// TestPlanAvoids reserved ports: no slice has one of them, and nobody else moves
// further than by that.
func TestPlanAvoids(t *testing.T) {
	p, err := NewPlan(netip.MustParsePrefix("100.64.0.0/16"), addrs("203.0.113.1"), 256,
		Ports{32768, 60999}, Ports{1300, 1300}, Ports{2047, 2048}, Ports{65535, 65535}, Ports{10, 20})
	if err != nil {
		t.Fatal(err)
	}
	if p.Capacity() != 141-4 {
		t.Errorf("capacity %d", p.Capacity())
	}
	for i, want := range []string{"1024-1279", "1536-1791", "2304-2559"} {
		if _, ports, _ := p.Slice(vm(i)); ports.String() != want {
			t.Errorf("slice %d is %v, want %s", i, ports, want)
		}
	}
	for _, r := range p.hostPortsTaken(1300, 2047, 2048, 65535) {
		t.Errorf("port %d is somebody's", r)
	}
	check(t, p, Ports{32768, 60999})
}

func (p *Plan) hostPortsTaken(ports ...uint16) (taken []uint16) {
	for _, port := range ports {
		if _, ok := p.Owner(p.addresses[0], port); ok {
			taken = append(taken, port)
		}
	}
	return taken
}

func TestParseHostPorts(t *testing.T) {
	for _, tt := range []struct{ local, reserved, want string }{
		{"32768\t60999\n", "\n", "32768-60999"},
		{"1024\t65535\n", "8080,9148,20000-20010\n", "1024-65535, 8080-8080, 9148-9148, 20000-20010"},
		{"x\n", "\n", "error"},
		{"1 2\n", "70000\n", "error"},
		{"1 2\n", "1-\n", "error"},
	} {
		list, err := parseHostPorts(tt.local, tt.reserved)
		got := HostText(list)
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%q, %q: %s (%v), want %s", tt.local, tt.reserved, got, err, tt.want)
		}
	}
}

func TestPlanErrors(t *testing.T) {
	one, debian := addrs("203.0.113.1"), Ports{32768, 60999}
	for _, c := range []struct {
		name      string
		pool      netip.Prefix
		addresses []netip.Addr
		size      int
		local     Ports
		want      string
		is        error
	}{
		{"IPv6 pool", netip.MustParsePrefix("2001:db8::/64"), one, 256, debian, "IPv4 prefix", nil},
		{"no pool", netip.Prefix{}, one, 256, debian, "IPv4 prefix", nil},
		{"pool with host bits", netip.MustParsePrefix("100.64.0.1/16"), one, 256, debian, "without bits behind", nil},
		{"IPv6 address", pool, addrs("2001:db8::1"), 256, debian, "2001:db8::1", nil},
		{"loopback", pool, addrs("127.0.0.1"), 256, debian, "127.0.0.1", nil},
		{"address in the pool", pool, addrs("100.64.0.1"), 256, debian, "lies in the mapped pool", nil},
		{"address twice", pool, addrs("203.0.113.1", "203.0.113.1"), 256, debian, "named twice", nil},
		{"tiny slices", pool, one, 15, debian, "16 to 16384", nil},
		{"huge slices", pool, one, 16385, debian, "16 to 16384", nil},
		{"range upside down", pool, one, 256, Ports{2, 1}, "ends before", nil},
		{"host takes all", pool, one, 256, Ports{1024, 65535}, "narrow them", ErrNoPorts},
		{"host leaves less than a slice", pool, one, 16384, Ports{16384, 60000}, "narrow them", ErrNoPorts},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewPlan(c.pool, c.addresses, c.size, c.local)
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// More addresses add slices and move none.
func TestPlanGrows(t *testing.T) {
	local := Ports{32768, 60999}
	small, err := NewPlan(pool, many(1), 256, local)
	if err != nil {
		t.Fatal(err)
	}
	large, err := NewPlan(pool, many(3), 256, local)
	if err != nil {
		t.Fatal(err)
	}
	for i := range small.Capacity() {
		a1, p1, _ := small.Slice(vm(i))
		a2, p2, _ := large.Slice(vm(i))
		if a1 != a2 || p1 != p2 {
			t.Errorf("slice of %s was %s %s and is %s %s", vm(i), a1, p1, a2, p2)
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add(uint8(16), uint8(1), uint16(256), uint16(32768), uint16(60999))
	f.Add(uint8(30), uint8(2), uint16(1000), uint16(1), uint16(1023))
	f.Add(uint8(0), uint8(3), uint16(16384), uint16(1024), uint16(65535))
	f.Fuzz(func(t *testing.T, bits, addresses uint8, size, first, last uint16) {
		p, err := NewPlan(netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), int(bits)%25+8), many(int(addresses)%4), int(size), Ports{first, last})
		if err != nil {
			return
		}
		check(t, p, Ports{first, last})
	})
}
