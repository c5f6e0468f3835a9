package translate_test

import (
	"bytes"
	"strings"
	"testing"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/packettext"
)

// dedent takes away what a raw string is indented by in a table.
func dedent(s string) string { return strings.ReplaceAll(s, "\n\t\t\t ", "\n") }

// TestTwinFound keeps what comparing with the twin has found, as packets that
// people can read.
func TestTwinFound(t *testing.T) {
	hosts := eams("2001:db8:aaaa::1/128", "198.18.4.1/32", "2001:db8:bbbb::2/128", "192.0.2.7/32")
	for _, c := range []struct {
		name     string
		config   translate.Config
		in, want string
	}{
		{
			// The node with 2001:db8:64::192.0.2.33 sent the packet; only under this
			// prefix, not under the first one, does it recognise itself.
			"7915_4.3_quoted_source_under_the_prefix_of_its_node",
			translate.Config{Pool6: prefixes("64:ff9b::/96", "2001:db8:64::/96")},
			`ip4 203.0.113.5 > 192.0.2.33 ttl 64
			 icmp4 3/3
			   ip4 192.0.2.33 > 203.0.113.5 ttl 60 df
			   udp 1000 > 2000
			   data 8`,
			`ip6 64:ff9b::203.0.113.5 > 2001:db8:64::192.0.2.33 hop 63
			 icmp6 1/4
			   ip6 2001:db8:64::192.0.2.33 > 64:ff9b::203.0.113.5 hop 60
			   udp 1000 > 2000
			   data 8`,
		},
		{
			// Two mapped nodes talk under the second prefix.
			"7757_4.2.2_quoted_destination_under_the_prefix_it_was_sent_to",
			translate.Config{Pool6: prefixes("64:ff9b::/96", "2001:db8:64::/96"), AllowPrivate4: true, EAM: hosts},
			`ip6 2001:db8:bbbb::2 > 2001:db8:64::198.18.4.1 hop 64
			 icmp6 1/4
			   ip6 2001:db8:64::198.18.4.1 > 2001:db8:bbbb::2 hop 60
			   udp 1000 > 2000
			   data 8`,
			`ip6 2001:db8:64::192.0.2.7 > 2001:db8:aaaa::1 hop 63
			 icmp6 1/4
			   ip6 2001:db8:aaaa::1 > 2001:db8:64::192.0.2.7 hop 60
			   udp 1000 > 2000
			   data 8`,
		},
		{
			// What fits IPv4 goes through, also when it is IPv6 that comes out.
			"7757_4.2.2_the_largest_packet_that_fits_IPv4",
			translate.Config{Pool6: prefixes("2001:db8:64::/96"), EAM: hosts},
			`ip6 2001:db8:bbbb::2 > 2001:db8:64::198.18.4.1 hop 64
			 udp 1 > 2
			 data 65507`,
			`ip6 2001:db8:64::192.0.2.7 > 2001:db8:aaaa::1 hop 63
			 udp 1 > 2
			 data 65507`,
		},
		{
			// Without a pseudo-header nothing but zeros is left, whose checksum is
			// 0xffff: receivers take 0 for a wrong one.
			"7915_5.2_checksum_of_an_echo_reply_of_zeros",
			translate.Config{Pool6: prefixes("2001:db8:64::/96"), EAM: hosts},
			`ip6 2001:db8:bbbb::2 > 2001:db8:64::203.0.113.5 hop 64
			 fragment id 7
			 icmp6 echo-reply id 0 seq 0
			 zero 16`,
			`ip4 192.0.2.7 > 203.0.113.5 ttl 63 id 7
			 icmp4 echo-reply id 0 seq 0 checksum 0xffff
			 zero 16`,
		},
		{
			"7915_5.3_checksum_of_a_quoted_echo_reply_of_zeros",
			translate.Config{Pool6: prefixes("2001:db8:64::/96"), EAM: hosts},
			`ip6 2001:db8:bbbb::2 > 2001:db8:64::203.0.113.5 hop 64
			 fragment id 7
			 icmp6 1/4
			   ip6 2001:db8:64::203.0.113.5 > 2001:db8:bbbb::2 hop 60
			   fragment id 9
			   icmp6 echo-reply id 0 seq 0
			   zero 5`,
			`ip4 192.0.2.7 > 203.0.113.5 ttl 63 id 7
			 icmp4 3/3
			   ip4 203.0.113.5 > 192.0.2.7 ttl 60 id 9
			   icmp4 echo-reply id 0 seq 0 checksum 0xffff
			   zero 5`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, err := translate.New(c.config)
			if err != nil {
				t.Fatal(err)
			}
			pr := &pair{config: c.config, tr: tr, state: translate.NewState(1)}
			p, err := packettext.Parse(dedent(c.in))
			if err != nil {
				t.Fatal(err)
			}
			want, err := packettext.Parse(dedent(c.want))
			if err != nil {
				t.Fatal(err)
			}
			o, _ := pr.mustAgree(t, p, translate.Meta{}, 0, 0, twinSources)
			if !bytes.Equal(o.whole, want) {
				t.Errorf("%v\n%s\nwant\n%s", o.verdict, packettext.Format(o.whole), strings.TrimSpace(packettext.Format(want)))
			}
			// The fast path, where it can.
			if strings.Contains(c.in, "fragment") {
				text := strings.Replace(c.in, "fragment id 7\n", "\n", 1)
				if p, err = packettext.Parse(dedent(text)); err != nil {
					t.Fatal(err)
				}
				pr.mustAgree(t, p, translate.Meta{}, 0, 0, twinSources)
			}
		})
	}
}
