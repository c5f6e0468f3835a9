package fastpath

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestReasons: what is plain is forwarded, and everything else falls through for
// the reason that its counter names. That the bytes are right is the business of
// package equivalence.
func TestReasons(t *testing.T) {
	tables := usual()
	tables.EAM = append(tables.EAM, eam("2001:db8:c::/64", "203.0.113.0/24"))
	tables.Blocked4 = prefixes("198.51.100.64/26")
	tables.Local4 = []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr(vmB4)}
	p := load(t, 0, tables)
	for _, c := range []struct {
		name   string
		packet []byte
		want   Reason
	}{
		{"TCP from IPv6", v6(vmA6, server6, 6, tcp(9)), Forwarded},
		{"TCP from IPv4", v4(server4, vmA4, 6, tcp(9)), Forwarded},
		{"UDP from IPv6", v6(vmA6, server6, 17, udp(0)), Forwarded},
		{"UDP from IPv4", v4(server4, vmA4, 17, udp(0)), Forwarded},
		{"echo from IPv6", v6(vmA6, server6, 58, echo(128)), Forwarded},
		{"echo from IPv4", v4(server4, vmA4, 1, echo(8)), Forwarded},
		{"as large as the link", v6(vmA6, server6, 17, udp(1500-28)), Forwarded},
		{"DF, as large as the link", v4(server4, vmA4, 17, udp(1500-48)), Forwarded},
		{"no DF, no fragments needed", mend(changed(v4(server4, vmA4, 17, udp(1280-48)), 6, 0)), Forwarded},

		{"other extension header", v6(vmA6, server6, 60, tcp(9)), Kind},
		{"fragment", v6(vmA6, server6, 44, tcp(9)), Kind},
		{"IPv4 fragment", mend(changed(v4(server4, vmA4, 17, udp(8)), 6, 0x20)), Kind},
		{"ICMPv6 error", v6(vmA6, server6, 58, echo(1)), Kind},
		{"ICMPv4 error", v4(server4, vmA4, 1, echo(3)), Kind},
		{"ICMPv4 in IPv6", v6(vmA6, server6, 1, echo(8)), Kind},
		{"ICMPv6 in IPv4", v4(server4, vmA4, 58, echo(128)), Kind},
		{"GRE", v4(server4, vmA4, 47, udp(8)), Kind},
		{"options", changed(v4(server4, vmA4, 17, udp(8)), 0, 0x46), Kind},
		{"short TCP", v6(vmA6, server6, 6, tcp(9)[:19]), Broken},
		{"header checksum", changed(v4(server4, vmA4, 17, udp(8)), 1, 1), Broken},
		{"longer than it says", append(v6(vmA6, server6, 17, udp(8)), 0), Broken},
		{"shorter than it says", v6(vmA6, server6, 17, udp(8))[:50], Broken},
		{"hop limit", changed(v6(vmA6, server6, 17, udp(8)), 7, 1), HopLimit},
		{"time to live", mend(changed(v4(server4, vmA4, 17, udp(8)), 8, 1)), HopLimit},
		{"private destination", v6(vmA6, "64:ff9b::10.0.0.1", 17, udp(8)), Address},
		{"martian destination", v6(vmA6, "64:ff9b::127.0.0.1", 17, udp(8)), Address},
		{"denied destination", v6(vmA6, "64:ff9b::198.51.100.65", 17, udp(8)), Address},
		{"our own address", v6(vmA6, "64:ff9b::198.51.100.1", 17, udp(8)), Address},
		{"a mapped host's IPv4 address", v6(vmA6, "64:ff9b::"+vmA4, 17, udp(8)), Address},
		{"a mapped prefix", v6(vmA6, "64:ff9b::203.0.113.7", 17, udp(8)), Address},
		{"another prefix", v6(vmA6, "64:ff9b:1::8.8.8.8", 17, udp(8)), Address},
		{"private source", v4("10.0.0.1", vmA4, 17, udp(8)), Address},
		{"mapped source", v4(vmA4, vmA4, 17, udp(8)), Address},
		{"unknown source", v6("2001:db8:a::3", server6, 17, udp(8)), NoMapping},
		{"mapped by prefix", v6("2001:db8:c::1", server6, 17, udp(8)), NoMapping},
		{"unknown destination", v4(server4, "192.0.2.3", 17, udp(8)), NoMapping},
		{"a host that has an address of ours", v6(vmB6, server6, 17, udp(0)), NoMapping},
		{"mapped to an address of ours", v4(server4, vmB4, 17, udp(8)), NoMapping},
		{"UDP without checksum", changed(changed(v4(server4, vmA4, 17, udp(8)), 26, 0), 27, 0), Checksum},
		{"larger than the link", v6(vmA6, server6, 17, udp(1501-28)), Size},
		{"DF, larger than the link", v4(server4, vmA4, 17, udp(1501-48)), Size},
		{"no DF, to be fragmented", mend(changed(v4(server4, vmA4, 17, udp(1281-48)), 6, 0)), Size},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, why, err := p.Try(c.packet)
			if err != nil {
				t.Fatal(err)
			}
			if why != c.want || (out != nil) != (why == Forwarded) {
				t.Errorf("%v (%x), want %v", why, out, c.want)
			}
		})
	}
	if err := p.Update(Tables{}); err != nil {
		t.Fatal(err)
	}
	if _, why, err := p.Try(v6(vmA6, server6, 17, udp(8))); why != Off || err != nil {
		t.Errorf("without tables: %v, %v", why, err)
	}
}

func TestReasonsHaveNamesAndWords(t *testing.T) {
	seen := map[string]bool{}
	for r := range NumReasons {
		if r.String() == "" || r.Doc() == "" || seen[r.String()] {
			t.Errorf("reason %d: %q, %q", r, r.String(), r.Doc())
		}
		seen[r.String()] = true
	}
}

// tries checks what becomes of a packet from a host to the server, of one back to
// it, and of one from another host to it.
func tries(t *testing.T, p *Program, h EAM, from, to, between Reason) {
	t.Helper()
	for _, c := range []struct {
		packet []byte
		want   Reason
	}{
		{v6(h.IPv6.Addr().String(), server6, 17, udp(0)), from},
		{v4(server4, h.IPv4.Addr().String(), 17, udp(0)), to},
		{v6(vmA6, "64:ff9b::"+h.IPv4.Addr().String(), 17, udp(0)), between},
	} {
		if _, why, err := p.Try(c.packet); why != c.want || err != nil {
			t.Errorf("%x: %v, %v, want %v", c.packet[:20], why, err, c.want)
		}
	}
}

func TestHostsComeAndGo(t *testing.T) {
	p := load(t, 3, usual())
	three := eam("2001:db8:a::3/128", "192.0.2.3/32")
	tries(t, p, three, NoMapping, NoMapping, Forwarded)
	tables := usual()
	tables.EAM = append(tables.EAM, three)
	update(t, p, tables)
	tries(t, p, three, Forwarded, Forwarded, Address)

	full := eam("2001:db8:a::4/128", "203.0.113.4/32")
	tables.EAM = append(tables.EAM, full)
	update(t, p, tables)
	// There is no room for it, but others must not take it for an address in
	// the Internet.
	tries(t, p, full, NoMapping, NoMapping, Address)
	tries(t, p, three, Forwarded, Forwarded, Address)

	update(t, p, usual())
	tries(t, p, three, NoMapping, NoMapping, Forwarded)
	tries(t, p, full, NoMapping, NoMapping, Forwarded)

	tables.EAM = append(usual().EAM[:1:1], eam("2001:db8:a::9/128", vmB4+"/32"))
	update(t, p, tables)
	tries(t, p, eam(vmB6+"/128", "192.0.2.9/32"), NoMapping, NoMapping, Forwarded)
	out, why, err := p.Try(v4(server4, vmB4, 17, udp(0)))
	if err != nil || why != Forwarded || netip.AddrFrom16([16]byte(out[24:40])) != netip.MustParseAddr("2001:db8:a::9") {
		t.Errorf("the address that changed hands leads to %x (%v, %v)", out, why, err)
	}
}

func TestClampMSS(t *testing.T) {
	const flags = 13
	tables := usual()
	p := load(t, 0, tables)
	syn := changed(v6(vmA6, server6, 6, tcp(0)), 40+flags, 0x02)
	synAck := changed(v4(server4, vmA4, 6, tcp(0)), 20+flags, 0x12)
	for _, clamp := range []bool{false, true} {
		tables.ClampMSS = clamp
		update(t, p, tables)
		want := map[bool]Reason{false: Forwarded, true: Kind}[clamp]
		for _, packet := range [][]byte{syn, synAck} {
			if _, why, err := p.Try(packet); why != want || err != nil {
				t.Errorf("clamp %v: SYN: %v, %v, want %v", clamp, why, err, want)
			}
		}
		if _, why, err := p.Try(v4(server4, vmA4, 6, tcp(9))); why != Forwarded || err != nil {
			t.Errorf("clamp %v: no SYN: %v, %v", clamp, why, err)
		}
	}
}

// TestKernelTablesAreTheImage: whatever was updated before, the kernel holds what a
// fresh program would be given.
func TestKernelTablesAreTheImage(t *testing.T) {
	p := load(t, 0, usual())
	many := usual()
	many.Blocked4 = prefixes("8.0.0.0/7", "198.51.100.64/26", "198.51.100.64/27")
	for i := range byte(200) {
		many.EAM = append(many.EAM, EAM{
			IPv6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: i}), 128), IPv4: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, i, 0, i}), 32),
		})
	}
	other := Tables{Pool6: prefixes("2001:db8:64::/96"), EAM: many.EAM[50:], TOS: TOS{true, 8}}
	for _, tables := range []Tables{many, other, usual(), other, {}, many, usual()} {
		if err := p.Update(tables); err != nil {
			t.Fatal(err)
		}
		want, err := compile(tables, p.size)
		if err != nil {
			t.Fatal(err)
		}
		var six fastAddr6
		var h6 fastHost6
		n := 0
		for it := p.maps.Hosts6.Iterate(); it.Next(&six, &h6); n++ {
		}
		var four uint32
		var h4 fastHost4
		for it := p.maps.Hosts4.Iterate(); it.Next(&four, &h4); n++ {
		}
		if n != 2*len(want.hosts) {
			t.Errorf("%d entries for %d hosts", n, len(want.hosts))
		}
		var lpm fastLpm4
		var one uint8
		n = 0
		for it := p.maps.Special4.Iterate(); it.Next(&lpm, &one); n++ {
		}
		if n != len(want.special) {
			t.Errorf("%d special prefixes, want %d", n, len(want.special))
		}
		var i uint32
		var row fastRow
		for it := p.maps.Nets4.Iterate(); it.Next(&i, &row); {
			if row != want.rows[i] {
				t.Errorf("row %d is %v, want %v", i, row, want.rows[i])
			}
		}
	}
}

// TestUpdateFails: a table that the kernel has no room for leaves no half of itself
// in effect, and the next one works.
func TestUpdateFails(t *testing.T) {
	p := load(t, 0, usual())
	tries(t, p, eam(vmA6+"/128", vmA4+"/32"), Forwarded, Forwarded, Address)
	special := p.maps.Special4
	broken, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 1, MaxEntries: 1, Flags: unix.BPF_F_NO_PREALLOC})
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	p.maps.Special4 = broken
	tables := usual()
	tables.Blocked4 = prefixes("198.51.100.64/26", "203.0.113.0/24")
	if err := p.Update(tables); err == nil {
		t.Fatal("two entries in a map for one")
	}
	tries(t, p, eam(vmA6+"/128", vmA4+"/32"), Off, Off, Off)
	p.maps.Special4 = special
	delete(p.now.special, prefixes("198.51.100.64/26")[0])
	delete(p.now.special, prefixes("203.0.113.0/24")[0])
	update(t, p, usual())
	tries(t, p, eam(vmA6+"/128", vmA4+"/32"), Forwarded, Forwarded, Address)
}

func TestUpdateRefuses(t *testing.T) {
	p := load(t, 0, usual())
	for name, tables := range map[string]Tables{
		"pool6 of IPv4":     {Pool6: prefixes("192.0.2.0/24")},
		"bits behind pool6": {Pool6: prefixes("64:ff9b::1/96")},
		"EAM reversed":      {EAM: []EAM{eam(vmA4+"/32", vmA6+"/128")}},
		"EAM unmasked":      {EAM: []EAM{eam("2001:db8::1/64", "192.0.2.0/24")}},
		"EAM twice":         {EAM: []EAM{eam(vmA6+"/128", vmA4+"/32"), eam(vmA6+"/128", vmB4+"/32")}},
		"IPv4 twice":        {EAM: []EAM{eam(vmA6+"/128", vmA4+"/32"), eam(vmB6+"/128", vmA4+"/32")}},
		"blocked IPv6":      {Blocked4: prefixes("2001:db8::/32")},
		"no prefix":         {Blocked4: []netip.Prefix{{}}},
		"local IPv6":        {Local4: []netip.Addr{netip.IPv6Loopback()}},
		"lowest MTU":        {LowestIPv6MTU: 1279},
	} {
		if err := p.Update(tables); err == nil {
			t.Errorf("%s: taken", name)
		}
		// User space may have gone on to tables that these should have been.
		tries(t, p, eam(vmA6+"/128", vmA4+"/32"), Off, Off, Off)
		update(t, p, usual())
		tries(t, p, eam(vmA6+"/128", vmA4+"/32"), Forwarded, Forwarded, Address)
	}
}

func TestClosed(t *testing.T) {
	p := load(t, 0, usual())
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	_, _, tryErr := p.Try(tcp(40))
	_, countErr := p.Counters()
	for i, err := range []error{tryErr, countErr, p.Update(usual()), p.Attach(1), p.AttachInterface(1)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// TestCapabilities loads on a thread that has some only.
func TestCapabilities(t *testing.T) {
	labtest.NeedFastPath(t)
	labtest.Need(t)
	for _, c := range []struct {
		name string
		caps []uint
		want error
	}{
		{"none", nil, ErrPermission},
		{"without CAP_PERFMON", []uint{unix.CAP_BPF, unix.CAP_NET_ADMIN}, ErrPermission},
		{"those of the error's text", []uint{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}, nil},
	} {
		result := make(chan error)
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			for _, bit := range c.caps {
				data[bit/32].Effective |= 1 << (bit % 32)
				data[bit/32].Permitted |= 1 << (bit % 32)
			}
			if err := unix.Capset(&hdr, &data[0]); err != nil {
				result <- err
				return
			}
			p, err := Load(Config{})
			if err == nil {
				p.Close()
			}
			result <- err
		}()
		if err := <-result; !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, n := range []int{-1, 1<<24 + 1} {
		if _, err := Load(Config{Hosts: n}); err == nil {
			t.Errorf("room for %d hosts", n)
		}
	}
}
