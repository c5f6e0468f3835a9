package sniff

import (
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	label := strings.Repeat("a", 63)
	for _, tt := range []struct {
		name, in, want string
		err            error
	}{
		{"RFC 1123 2.1", "example.com", "example.com", nil},
		{"RFC 1123 2.1 digit first", "3com.example", "3com.example", nil},
		{"RFC 4343 case", "EXAMPLE.Com", "example.com", nil},
		{"RFC 1034 3.1 dot at the end", "example.com.", "example.com", nil},
		{"RFC 1034 3.1 two dots at the end", "example.com..", "", BadName},
		{"RFC 1034 3.1 only a dot", ".", "", BadName},
		{"RFC 1034 3.1 empty", "", "", BadName},
		{"RFC 1034 3.1 empty label", "a..b", "", BadName},
		{"RFC 1034 3.1 dot first", ".a", "", BadName},
		{"RFC 1035 2.3.4 label of 63", label + ".a", label + ".a", nil},
		{"RFC 1035 2.3.4 label of 64", label + "a.a", "", BadName},
		{"RFC 1035 2.3.4 last label of 64", "a." + label + "a", "", BadName},
		{"RFC 1035 2.3.4 name of 253", label + "." + label + "." + label + "." + label[:61], label + "." + label + "." + label + "." + label[:61], nil},
		{"RFC 1035 2.3.4 name of 253 and a dot", label + "." + label + "." + label + "." + label[:61] + ".", label + "." + label + "." + label + "." + label[:61], nil},
		{"RFC 1035 2.3.4 name of 254", label + "." + label + "." + label + "." + label[:62], "", BadName},
		{"RFC 952 hyphen first", "a.-b.c", "", BadName},
		{"RFC 952 hyphen last", "a.b-.c", "", BadName},
		{"RFC 952 hyphen at the end", "a.b-", "", BadName},
		{"RFC 5891 A-label", "xn--bcher-kva.example", "xn--bcher-kva.example", nil},
		{"RFC 5891 A-label in capitals", "XN--BCHER-KVA.example", "xn--bcher-kva.example", nil},
		{"RFC 5891 U-label", "bücher.example", "", BadName},
		{"RFC 8552 underscore", "_dmarc.my_shop.example", "_dmarc.my_shop.example", nil},
		{"one label", "localhost", "localhost", nil},
		{"space", "a b.example", "", BadName},
		{"NUL", "a\x00b.example", "", BadName},
		{"control", "a.example\r\n", "", BadName},
		{"wildcard", "*.example.com", "", BadName},
		{"user", "user@example.com", "", BadName},
		{"percent", "a%2eb", "", BadName},
		{"slash", "example.com/x", "", BadName},
		{"port", "example.com:80", "", BadName},
		{"IPv4", "192.0.2.1", "", AddressName},
		{"IPv4, dot at the end", "192.0.2.1.", "", AddressName},
		{"WHATWG URL 127.1", "127.1", "", AddressName},
		{"WHATWG URL one number", "2130706433", "", AddressName},
		{"WHATWG URL hexadecimal", "0x7F.0X1", "", AddressName},
		{"WHATWG URL 0x", "a.0x", "", AddressName},
		{"hexadecimal, but not last", "0x7f.example", "0x7f.example", nil},
		{"number, but not last", "1.2.3.example", "1.2.3.example", nil},
		{"not a number", "1.2.3.4a", "1.2.3.4a", nil},
		{"IPv6", "2001:db8::1", "", AddressName},
		{"IPv6 in brackets", "[2001:db8::1]", "", AddressName},
		{"IPv6 with zone", "[fe80::1%eth0]", "", AddressName},
		{"mapped", "::ffff:192.0.2.1", "", AddressName},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := Host(tt.in); got != tt.want || err != tt.err {
				t.Errorf("%q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
			if got, err := Host([]byte(tt.in)); got != tt.want || err != tt.err {
				t.Errorf("of bytes: %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestHostPort(t *testing.T) {
	for _, tt := range []struct {
		in, host string
		port     uint16
		err      error
	}{
		{"Example.com", "example.com", 0, nil},
		{"example.com:80", "example.com", 80, nil},
		{"example.com.:0080", "example.com", 80, nil},
		{"example.com:65535", "example.com", 65535, nil},
		{"example.com:", "example.com", 0, nil}, // RFC 3986 3.2.3: port = *DIGIT
		{"example.com:0", "", 0, BadName},
		{"example.com:65536", "", 0, BadName},
		{"example.com:99999999999999999999", "", 0, BadName},
		{"example.com:+80", "", 0, BadName},
		{"example.com:80:80", "", 0, BadName},
		{"example.com:80 ", "", 0, BadName},
		{"", "", 0, BadName},
		{":80", "", 0, BadName},
		{"80", "", 0, AddressName},
		{"user@example.com:80", "", 0, BadName},
		{"192.0.2.1:80", "", 0, AddressName},
		{"[2001:db8::1]:80", "", 0, AddressName},
		{"[2001:db8::1]", "", 0, AddressName},
		{"2001:db8::1", "", 0, AddressName},
		{"::", "", 0, AddressName},
	} {
		host, port, err := HostPort(tt.in)
		if host != tt.host || port != tt.port || err != tt.err {
			t.Errorf("%q: %q, %d, %v; want %q, %d, %v", tt.in, host, port, err, tt.host, tt.port, tt.err)
		}
	}
}

func TestHostAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Host("shop.example.com.") }); n != 0 {
		t.Errorf("a canonical string: %v allocations", n)
	}
}
