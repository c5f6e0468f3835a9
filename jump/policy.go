package jump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// sshPort is the only port that is reached.
const sshPort = 22

var errPayload = errors.New("malformed request")

// payloadMax is more than any address needs. The SSH library keeps the payload
// for as long as the channel is open, and would keep 256 KiB as well.
const payloadMax = 1 << 10

// parseTarget reads what a client sends with a channel of type direct-tcpip
// (RFC 4254 section 7.2): host and port to connect to, then where the client
// says that the connection comes from, which nobody uses.
func parseTarget(payload []byte) (host string, port uint32, err error) {
	if len(payload) > payloadMax {
		return "", 0, errPayload
	}
	name, rest, ok := cutString(payload)
	if !ok || len(rest) < 4 {
		return "", 0, errPayload
	}
	port, rest = binary.BigEndian.Uint32(rest), rest[4:]
	if _, rest, ok = cutString(rest); !ok || len(rest) != 4 {
		return "", 0, errPayload
	}
	return string(name), port, nil
}

// cutString takes a string off the front of b (RFC 4251 section 5). The length
// in front of it is a client's word, so it is compared before it is used.
func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n, b := binary.BigEndian.Uint32(b), b[4:]
	if uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// policy says what may be reached. The answers are for the client's eyes, and
// the same for all that nobody may reach, so that they map no network.
type policy struct {
	reach  func(netip.Addr) error
	optOut []netip.Prefix
}

// A refusal is an answer to a channel that is not opened.
type refusal struct {
	end  End
	text string
}

func refuse(end End, format string, args ...any) *refusal {
	return &refusal{end: end, text: fmt.Sprintf(format, args...)}
}

// allow gives the address for a host and port from a client, exactly as it is to
// be dialled, or why not. Names are never looked up: what is checked here and
// what is dialled can't differ.
func (p *policy) allow(host string, port uint32) (netip.Addr, *refusal) {
	a, err := netip.ParseAddr(literal(host))
	switch {
	case err != nil:
		return a, refuse(RefusedTarget, "give the VM's IPv6 address, not a name")
	case a.Is4(), a.Is4In6():
		return a, refuse(RefusedTarget, "VMs have IPv6 addresses only")
	case a.Zone() != "":
		return a, refuse(RefusedTarget, "no zone is possible here")
	case port != sshPort:
		return a, refuse(RefusedPort, "only port %d of VMs is reached", sshPort)
	}
	if err := p.reach(a); err != nil {
		return a, refuse(RefusedTarget, "%v", err)
	}
	if contains(p.optOut, a) {
		return a, refuse(RefusedOptOut, "this VM does not want to be reached through the jump server")
	}
	return a, nil
}

// literalSuffix marks an address without colons, for programs that take the first
// one for the end of a host name, as dropbear's dbclient does:
// 2001-db8--1.ipv6-literal.net. Windows writes addresses so in UNC paths. It is an
// address in itself; nobody is asked for that name.
const literalSuffix = ".ipv6-literal.net"

// literal is a host as a client writes it, without what is around the address.
func literal(host string) string {
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1]
	}
	if n := len(host) - len(literalSuffix); n > 0 && strings.EqualFold(host[n:], literalSuffix) {
		return strings.ReplaceAll(host[:n], "-", ":")
	}
	return host
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
