package translate

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// TestConfigErrors: every error says which entry, and what is wrong with it.
func TestConfigErrors(t *testing.T) {
	host := netip.MustParseAddr
	for _, c := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"pool6_length", Config{Pool6: prefixes("2001:db8::/95")}, []string{"pool6 entry 1", "length 95"}},
		{"pool6_family", Config{Pool6: prefixes("64:ff9b::/96", "192.0.2.0/24")}, []string{"pool6 entry 2", "no IPv6 prefix"}},
		{"pool6_host_bits", Config{Pool6: prefixes("64:ff9b::1/96")}, []string{"write 64:ff9b::/96"}},
		{"RFC6052_2.2_bits_64_to_71", Config{Pool6: prefixes("2001:db8:0:0:100::/96")}, []string{"bits 64 to 71"}},
		{"pool6_overlap", Config{Pool6: prefixes("2001:db8::/32", "2001:db8:1::/96")}, []string{"entries 1 and 2 overlap"}},
		{"pool6_martian", Config{Pool6: prefixes("fe80::/64")}, []string{"link-local"}},
		{"eam_family_6", Config{EAM: []EAM{eam("192.0.2.1/32", "192.0.2.1/32")}}, []string{"eam entry 1", "no IPv6 prefix"}},
		{"eam_family_4", Config{EAM: []EAM{eam("2001:db8::1/128", "2001:db8::1/128")}}, []string{"eam entry 1", "no IPv4 prefix"}},
		{"eam_host_bits_6", Config{EAM: []EAM{eam("2001:db8::1/120", "192.0.2.0/24")}}, []string{"write 2001:db8::/120"}},
		{"eam_host_bits_4", Config{EAM: []EAM{eam("2001:db8::/120", "192.0.2.1/24")}}, []string{"write 192.0.2.0/24"}},
		{"RFC7757_3.1_suffix", Config{EAM: []EAM{eam(vmA6+"/128", vmA4+"/32"), eam("2001:db8::/121", "192.0.2.0/24")}}, []string{"eam entry 2", "/25 or more"}},
		{"eam_twice_4", Config{EAM: []EAM{eam(vmA6+"/128", vmA4+"/32"), eam(vmB6+"/128", vmA4+"/32")}}, []string{"entries 1 and 2", vmA4, vmA6, vmB6}},
		{"eam_twice_6", Config{EAM: []EAM{eam(vmA6+"/128", vmA4+"/32"), eam(vmA6+"/128", vmB4+"/32")}}, []string{"entries 1 and 2", vmA6, vmA4, vmB4}},
		{"eam_martian_4", Config{EAM: []EAM{eam(vmA6+"/128", "127.0.0.1/32")}}, []string{"127.0.0.0/8"}},
		{"eam_martian_6", Config{EAM: []EAM{eam("fe80::1/128", vmA4+"/32")}}, []string{"fe80::/10"}},
		{"eam_covers_martian_6", Config{EAM: []EAM{eam("::/0", vmA4+"/32")}}, []string{"overlaps ::/127"}},
		{"eam_covers_martian_4", Config{EAM: []EAM{eam("2001:db8::/32", "0.0.0.0/0")}}, []string{"overlaps 0.0.0.0/8"}},
		{"lowest_ipv6_mtu", Config{LowestIPv6MTU: 1279}, []string{"1279", "1280"}},
		{"udp_zero_checksum", Config{UDPZeroChecksum: 9}, []string{"compute or drop"}},
		{"hairpin", Config{Hairpin: 9}, []string{"intrinsic, simple or off"}},
		{"vm_prefixes", Config{VMPrefixes: prefixes("2001:db8::/32", "192.0.2.0/24")}, []string{"vm_prefixes entry 2", "no IPv6 prefix"}},
		{"tcp_mss_clamp_small", Config{MSSClamp: MSSClamp{Max: 535}}, []string{"tcp_mss_clamp 535", "536 and 65515"}},
		{"tcp_mss_clamp_large", Config{MSSClamp: MSSClamp{Max: 65516}}, []string{"tcp_mss_clamp 65516"}},
		{"deny4", Config{Deny4: prefixes("2001:db8::/32")}, []string{"deny4 entry 1"}},
		{"local4", Config{Local4: []netip.Addr{host("2001:db8::1")}}, []string{"local4 entry 1", "32-bit"}},
		{"local6", Config{Local6: []netip.Addr{host("2001:db8::1"), host("192.0.2.1")}}, []string{"local6 entry 2", "128-bit"}},
		{"icmp_source4", Config{ICMPSource4: prefixes("192.0.2.1/24")}, []string{"icmp_source4 entry 1"}},
		{"icmp_source4_martian", Config{ICMPSource4: prefixes("127.0.0.1/32")}, []string{"icmp_source4 entry 1", "127.0.0.0/8"}},
		{"icmp_source6", Config{ICMPSource6: prefixes("192.0.2.0/24")}, []string{"icmp_source6 entry 1"}},
		{"icmp_source6_martian", Config{ICMPSource6: prefixes("fe80::1/128")}, []string{"icmp_source6 entry 1", "link-local"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(c.config)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

// TestConfigZero: the zero value translates nothing, and takes repeated entries.
func TestConfigZero(t *testing.T) {
	tr := mustNew(t, Config{})
	if r := run(t, tr, v6(vmA6, server6, 6, tcp(30)), Meta{}, 1500, 1500); r.verdict != NotOurs6 {
		t.Errorf("%v", r.verdict)
	}
	if r := run(t, tr, v4(server, vmA4, 6, tcp(30)), Meta{}, 1500, 1500); r.verdict != NotOurs4 {
		t.Errorf("%v", r.verdict)
	}
	c := usual()
	c.Local4 = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.1")}
	c.Deny4 = prefixes("192.0.2.0/24", "192.0.2.9/24")
	if got := mustNew(t, c).Config(); len(got.Local4) != 2 || len(got.EAM) != 2 {
		t.Errorf("%+v", got)
	}
}

// TestVerdictTable: one label, section and sentence for each.
func TestVerdictTable(t *testing.T) {
	seen := map[string]bool{}
	for i := range NumVerdicts {
		v := Verdict(i)
		info := v.Info()
		if !regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(info.Label) || seen[info.Label] {
			t.Errorf("%d: label %q", i, info.Label)
		}
		seen[info.Label] = true
		if !strings.Contains(info.Section, "RFC ") || !strings.HasSuffix(info.Doc, ".") {
			t.Errorf("%s: section %q, doc %q", info.Label, info.Section, info.Doc)
		}
		if v.String() != info.Label || v.Action() != info.Action {
			t.Errorf("%s: %v, %v", info.Label, v, v.Action())
		}
		e := verdicts[v]
		if answers := e.type4 != 0 || e.type6 != 0; answers != (info.Action == Answer) {
			t.Errorf("%s: action %v, but ICMP types %d and %d", info.Label, info.Action, e.type4, e.type6)
		}
	}
	if Verdict(0).Action() != Drop || Verdict(255).Action() != Drop || Verdict(255).String() != "invalid" {
		t.Error("the zero verdict and unknown ones must drop")
	}
	for a, want := range map[Action]string{Drop: "drop", Emit: "forward", Cut: "split", Answer: "answer", Pass: "pass"} {
		if a.String() != want {
			t.Errorf("%d is %q", a, a)
		}
	}
}
