package sniff

import (
	"net/netip"
	"strings"
)

const (
	maxName  = 253 // RFC 1035 section 2.3.4: 255 on the wire
	maxLabel = 63
)

// Host gives a host name in the one form in which names are compared: lower
// case, without the dot at the end. It takes letters, digits, hyphens (not at
// a label's ends) and underscores, which RFC 1123 section 2.1 lacks and the web
// uses; an international name only as A-labels (RFC 5890). Everything else is
// BadName, and an IP address, or what a browser would take for one
// (127.1, 0x7f.1), is AddressName.
//
// The string aliases name only if name is a string.
func Host[T []byte | string](name T) (string, error) {
	n := len(name)
	if n > 0 && name[n-1] == '.' {
		n--
	}
	if n == 0 || n > maxName {
		return "", BadName
	}
	label, upper, number := 0, false, true // label is where the current one begins
	for i := 0; i <= n; i++ {
		if i == n || name[i] == '.' {
			if i == label || i-label > maxLabel || name[label] == '-' || name[i-1] == '-' {
				return "", BadName
			}
			if i < n {
				label, number = i+1, true
			}
			continue
		}
		switch c := name[i]; {
		case '0' <= c && c <= '9':
		case 'a' <= c && c <= 'z', c == '-', c == '_':
			number = false
		case 'A' <= c && c <= 'Z':
			upper, number = true, false
		default:
			return "", notHost(string(name))
		}
	}
	if number || hexNumber(string(name[label:n])) {
		return "", AddressName
	}
	if !upper {
		return string(name[:n]), nil
	}
	var b [maxName]byte
	for i := range n {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b[i] = c
	}
	return string(b[:n]), nil
}

// hexNumber tells whether a last label makes the name an IPv4 address to
// browsers (WHATWG URL, "ends in a number checker"), as digits do.
func hexNumber(label string) bool {
	return len(label) >= 2 && label[0] == '0' && label[1]|0x20 == 'x' && strings.Trim(label[2:], "0123456789abcdefABCDEF") == ""
}

func notHost(name string) Reason {
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if _, err := netip.ParseAddr(name); err == nil {
		return AddressName
	}
	return BadName
}

// HostPort reads what HTTP calls a host: a host name as Host takes it, and
// maybe a port (RFC 9110 section 7.2). Port is 0 if there is none.
func HostPort[T []byte | string](s T) (host string, port uint16, err error) {
	n := len(s)
	colon := n - 1
	for colon >= 0 && '0' <= s[colon] && s[colon] <= '9' {
		colon--
	}
	if colon < 0 || s[colon] != ':' {
		host, err = Host(s)
		return host, 0, err
	}
	p := 0
	for i := colon + 1; i < n; i++ {
		if p = p*10 + int(s[i]-'0'); p > 65535 {
			return "", 0, BadName
		}
	}
	if p == 0 && colon+1 < n {
		return "", 0, BadName
	}
	if host, err = Host(s[:colon]); err != nil {
		// 2001:db8::1 is an address as a whole, not 2001:db8: with port 1.
		if _, whole := Host(s); whole == AddressName {
			err = AddressName
		}
		return "", 0, err
	}
	return host, uint16(p), nil
}
