package jump

import (
	"fmt"
	"net/netip"
	"strings"
)

// help is what somebody gets who logs in here instead of jumping: the command
// that does what they wanted. asked is the command they sent, if any; sftp tells
// that it was for files.
func help(user, host, asked string, files bool, example netip.Prefix) string {
	target := "root@" + exampleVM(example)
	if user, a, ok := findTarget(asked); ok {
		target = user + a.String()
	}
	command := fmt.Sprintf("ssh -J %s@%s %s", user, host, target)
	if files {
		// sftp takes a bare address as host and path.
		u, a, _ := strings.Cut(target, "@")
		command = fmt.Sprintf("sftp -J %s@%s '%s@[%s]'", user, host, u, a)
	}
	return fmt.Sprintf("This is a jump server: nobody can work here, but it takes you to your VM.\n\n  %s\n\n"+
		"It reaches port 22 of VMs by their IPv6 addresses. Your session with the VM\nis encrypted from end to end.\n", command)
}

// exampleVM is an address in the first prefix of VMs, to show where one goes.
func exampleVM(p netip.Prefix) string {
	if !p.IsValid() {
		return "2001:db8::aa64"
	}
	b := p.Masked().Addr().As16()
	if p.Bits() <= 112 {
		b[14], b[15] = 0xaa, 0x64
	}
	return netip.AddrFrom16(b).String()
}

// findTarget looks in a command for the first IPv6 address, with or without a
// user in front: ssh root@2001:db8::1, or [2001:db8::1]:22. It gives back only
// what it has understood, never a client's text as it came.
func findTarget(command string) (user string, a netip.Addr, ok bool) {
	for word := range strings.FieldsSeq(command) {
		word = strings.Trim(word, `'"`)
		user, host, found := strings.Cut(word, "@")
		if !found {
			user, host = "root", word
		}
		if i := strings.IndexByte(host, '['); i == 0 {
			host, _, _ = strings.Cut(host[1:], "]")
		}
		a, err := netip.ParseAddr(host)
		if err != nil || !a.Is6() || a.Zone() != "" || a.Is4In6() {
			continue
		}
		if !plainName(user) {
			user = "root"
		}
		return user + "@", a, true
	}
	return "", netip.Addr{}, false
}

// plainName tells whether a user name needs no quoting anywhere.
func plainName(s string) bool {
	if s == "" || len(s) > 32 || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// wordsMax is how much is kept of what a client says.
const wordsMax = 128

// printable makes a client's words safe for logs and terminals: one line of
// ASCII, not too long.
func printable(s string) string {
	cut := len(s) > wordsMax
	if cut {
		s = s[:wordsMax]
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if cut {
		s += "..."
	}
	return s
}
