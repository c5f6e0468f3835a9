package packettext

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// canonical are texts that Format writes just so, with their bytes where those
// are worth checking by hand.
var canonical = []struct{ name, text, hex string }{
	{"udp_over_ipv6", `
ip6 2001:db8::1 > 2001:db8::2 hop 63 class 184 flow 7
udp 1234 > 53
data 4
`, "6b800007000c113f" + "20010db8000000000000000000000001" + "20010db8000000000000000000000002" + "04d20035000c9f5900000001"},
	{"echo_over_ipv4", `
ip4 192.0.2.1 > 198.51.100.2 ttl 64 id 0x1234 df
icmp4 echo id 1 seq 2
data 4
`, "450000201234400040013c72" + "c0000201" + "c6336402" + "0800f7fb000100020000" + "0001"},
	{"options", `
ip4 192.0.2.1 > 198.51.100.2 ttl 64 tos 8 mf offset 64 proto tcp
option nop
option lsrr 4 192.0.2.9
option router-alert
data 16
`, ""},
	{"extensions", `
ip6 2001:db8::1 > 2001:db8::2 hop 64
ext hopbyhop hex 05 02 00 00 01 00
ext destination 24
ext routing type 0 left 1 2001:db8::9
fragment id 0x00001234 offset 0 more
tcp 80 > 1024 seq 1 ack 2 flags SA window 9 options 020405b4
data 100
`, ""},
	{"later_fragment", `
ip6 2001:db8::1 > 2001:db8::2 hop 64
fragment id 0x00001234 offset 1208 next udp
data 100 from 1208
`, ""},
	{"error_with_extensions", `
ip4 192.0.2.1 > 198.51.100.2 ttl 64
icmp4 11/0 length 32 # time exceeded in transit
  ip4 198.51.100.2 > 192.0.2.7 ttl 1 length 528
  udp 1 > 2 length 508 checksum 0x1234
  data 100
  extension
  object 1/1 00 01 11 01
`, ""},
	{"error6", `
ip6 2001:db8::1 > 2001:db8::2 hop 64
icmp6 2/0 mtu 1280 # packet too big
  ip6 2001:db8::2 > 2001:db8::3 hop 1 next esp
  data 20
`, ""},
	{"padding", `
ip4 192.0.2.1 > 198.51.100.2 ttl 64
udp 1 > 2 checksum wrong
padding 18
`, ""},
	{"no_next_header", `
ip6 2001:db8::1 > 2001:db8::2 hop 64 next none
`, ""},
	{"ah", `
ip6 2001:db8::1 > 2001:db8::2 hop 64
ext ah spi 1 seq 2 icv 12
icmp6 echo-reply id 3 seq 4
`, ""},
	{"tunnel", `
ip6 2001:db8::1 > 2001:db8::2 hop 64
ip4 192.0.2.1 > 198.51.100.2 ttl 64
udplite 1 > 2 coverage 8
zero 40
`, ""},
	{"bytes", "hex 01 02 03\n", "010203"},
	{"nothing", "hex\n", ""},
}

func TestCanonical(t *testing.T) {
	for _, c := range canonical {
		t.Run(c.name, func(t *testing.T) {
			text := strings.TrimPrefix(c.text, "\n")
			p, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(p); c.hex != "" && got != c.hex {
				t.Errorf("bytes\n got %s\nwant %s", got, c.hex)
			}
			if got := Format(p); got != text {
				t.Errorf("Format writes\n%s\nof\n%s", got, text)
			}
		})
	}
}

// TestSame are texts that must mean the same bytes.
func TestSame(t *testing.T) {
	for _, c := range []struct{ name, a, b string }{
		{"cut", "ip4 192.0.2.1 > 192.0.2.2\nudp 1 > 2\ndata 100\ncut 24",
			"ip4 192.0.2.1 > 192.0.2.2 length 128 proto udp\nhex 00 01 00 02"},
		{"of", "ip4 192.0.2.1 > 192.0.2.2 mf\nudp 1 > 2 of 100\ndata 64\npadding 0",
			"ip4 192.0.2.1 > 192.0.2.2 mf\nudp 1 > 2 length 108 checksum 0x7646\ndata 64"},
		{"names", "ip6 ::1 > ::2 next none", "ip6 ::1 > ::2 hop 0x40 next 59 # comment"},
		{"zeros", "ip6 ::1 > ::2 next 253\nzero 3", "ip6 ::1 > ::2 length 3 next 253\nhex 00 00 00"},
		{"echo", "ip6 ::1 > ::2\nicmp6 echo id 1 seq 2", "ip6 ::1 > ::2\nicmp6 128/0 word 0x10002"},
		{"padding_to", "ip4 192.0.2.1 > 192.0.2.2\nudp 1 > 2\npadding to 46", "ip4 192.0.2.1 > 192.0.2.2\nudp 1 > 2\npadding 18"},
		{"quote_padded", "ip4 192.0.2.1 > 192.0.2.2\nicmp4 3/1 length 32\n ip4 192.0.2.2 > 192.0.2.3\n udp 1 > 2\n padding to 128\n extension\n object 1/1 00",
			"ip4 192.0.2.1 > 192.0.2.2\nicmp4 3/1 length 32\n ip4 192.0.2.2 > 192.0.2.3\n udp 1 > 2\n padding 100\n padding hex 20 00 de f9 00 05 01 01 00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := Parse(c.a)
			if err != nil {
				t.Fatal(err)
			}
			b, err := Parse(c.b)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a, b) {
				t.Errorf("\n%x\n%x", a, b)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "no packet"},
		{"ip7 ::1 > ::2", "line 1: ip7: unknown line"},
		{"ip6 ::1 > 192.0.2.1 next none", `"192.0.2.1" is no address of this family`},
		{"ip6 ::1 < ::2 next none", `write SOURCE > DESTINATION`},
		{"ip6 ::1 > ::2", "next none"},
		{"ip6 ::1 > ::2\ndata 3", "no protocol number"},
		{"\nip6 ::1 > ::2 hop 256 next none", `line 2: ip6: "256" is no hop limit; write a number from 0 to 255`},
		{"ip4 192.0.2.1 > 192.0.2.2 hop 3", `unknown word "hop"; it takes ttl`},
		{"ip4 192.0.2.1 > 192.0.2.2 offset 3 proto 6", "multiple of 8"},
		{"ip4 192.0.2.1 > 192.0.2.2\n  udp 1 > 2", "indented for no reason"},
		{"ip4 192.0.2.1 > 192.0.2.2\nudp 1 > 2\ncut 100", "has only 28 bytes"},
		{"ip4 192.0.2.1 > 192.0.2.2\nudp 1 > 2\ncut 10\ndata 3", "after the packet's end"},
		{"hex 0", "no hexadecimal"},
		{"option nop", "behind an ip4 line"},
		{"object 1/1", "extension line before"},
	} {
		_, err := Parse(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

// FuzzFormat: any bytes, written as text, are the same bytes when read.
func FuzzFormat(f *testing.F) {
	for _, c := range canonical {
		if p, err := Parse(c.text); err == nil {
			f.Add(p)
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 1<<16 {
			return
		}
		text := Format(p)
		got, err := Parse(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !bytes.Equal(got, p) {
			t.Fatalf("%x became\n%s\n%x", p, text, got)
		}
	})
}

// FuzzParse: any text is refused, or describes bytes that Format can write.
func FuzzParse(f *testing.F) {
	for _, c := range canonical {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(Format(p))
		if err != nil || !bytes.Equal(again, p) {
			t.Fatalf("%v\n%x\n%x", err, p, again)
		}
	})
}
