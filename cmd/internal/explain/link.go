package explain

import (
	"encoding/binary"
	"fmt"

	"github.com/gopacket/gopacket/layers"
)

const (
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
	ether8021Q   = 0x8100
	ether8021AD  = 0x88a8
	etherOldQinQ = 0x9100
)

// Link types that package layers has no name for
// (https://www.tcpdump.org/linktypes.html).
const (
	linkRawBSD  layers.LinkType = 12
	linkRawOpen layers.LinkType = 14
)

// ip finds the IP packet in a frame of a link type, and says what was skipped.
func ip(frame []byte, link layers.LinkType) (packet []byte, skipped string, err error) {
	short := func(name string, n int) error {
		return fmt.Errorf("it has %d bytes, fewer than a %s header takes", len(frame), name)
	}
	switch link {
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6, linkRawBSD, linkRawOpen:
		return frame, "", nil
	case layers.LinkTypeEthernet:
		return ethernet(frame, 12, "Ethernet")
	case layers.LinkTypeLinuxSLL:
		if len(frame) < 16 {
			return nil, "", short("Linux cooked capture", 16)
		}
		return ethernet(frame, 14, "Linux cooked")
	case layers.LinkTypeLinuxSLL2:
		if len(frame) < 20 {
			return nil, "", short("Linux cooked capture", 20)
		}
		return typed(frame[20:], binary.BigEndian.Uint16(frame), 20, "Linux cooked")
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		if len(frame) < 4 {
			return nil, "", short("loopback", 4)
		}
		// In the byte order of the machine that wrote it; the families are small.
		family := binary.LittleEndian.Uint32(frame)
		if family > 0xffff {
			family = binary.BigEndian.Uint32(frame)
		}
		switch family {
		case 2, 10, 24, 28, 30: // AF_INET; AF_INET6 of Linux, NetBSD, FreeBSD, macOS
			return frame[4:], "4 bytes of loopback header", nil
		}
		return nil, "", fmt.Errorf("its address family %d is neither IPv4 nor IPv6", family)
	}
	name := ""
	if link < layers.LinkTypeMax {
		name = fmt.Sprintf(" (%v)", link)
	}
	return nil, "", fmt.Errorf("its link type %d%s is not known here; known are Ethernet, raw IP, Linux cooked and loopback", link, name)
}

// ethernet reads the Ethertype at a place, and tags behind it.
func ethernet(frame []byte, at int, name string) ([]byte, string, error) {
	for {
		if len(frame) < at+2 {
			return nil, "", fmt.Errorf("it has %d bytes and ends within its %s header", len(frame), name)
		}
		typ := binary.BigEndian.Uint16(frame[at:])
		at += 2
		switch typ {
		case ether8021Q, ether8021AD, etherOldQinQ:
			name, at = name+" and VLAN", at+2
			continue
		}
		return typed(frame[at:], typ, at, name)
	}
}

func typed(packet []byte, typ uint16, skipped int, name string) ([]byte, string, error) {
	if typ != etherIPv4 && typ != etherIPv6 {
		return nil, "", fmt.Errorf("its Ethertype 0x%04x (%v) is not IP, and only IP packets are translated; the kernel gets the frame", typ, layers.EthernetType(typ))
	}
	want := byte(4)
	if typ == etherIPv6 {
		want = 6
	}
	if len(packet) > 0 && packet[0]>>4 != want {
		return nil, "", fmt.Errorf("its Ethertype says IPv%d, but version %d follows: a worker counts it as frame_version and drops it", want, packet[0]>>4)
	}
	return packet, fmt.Sprintf("%d bytes of %s header", skipped, name), nil
}

// guess strips an Ethernet header from hexadecimal input that is none of an IP
// packet, but would be one behind such a header.
func guess(b []byte) (packet []byte, skipped string) {
	if len(b) > 0 && (b[0]>>4 == 4 || b[0]>>4 == 6) && plausible(b) {
		return b, ""
	}
	if p, skipped, err := ethernet(b, 12, "Ethernet"); err == nil && plausible(p) {
		return p, skipped
	}
	return b, ""
}

// plausible tells whether the length field goes with the number of bytes, padding
// allowed.
func plausible(p []byte) bool {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		n := int(binary.BigEndian.Uint16(p[2:]))
		return n >= 20 && n <= len(p)
	case len(p) >= 40 && p[0]>>4 == 6:
		return 40+int(binary.BigEndian.Uint16(p[4:])) <= len(p)
	}
	return false
}
