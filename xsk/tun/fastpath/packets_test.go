package fastpath

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"aarch64.com/isthmus/perf/lab/labtest"
)

const (
	vmA6, vmA4 = "2001:db8:a::1", "192.0.2.1"
	vmB6, vmB4 = "2001:db8:a::2", "192.0.2.2"
	server4    = "198.51.100.2"
	server6    = "64:ff9b::" + server4
)

func eam(six, four string) EAM {
	return EAM{IPv6: netip.MustParsePrefix(six), IPv4: netip.MustParsePrefix(four)}
}

// usual are tables with two hosts, for links of 1500 bytes.
func usual() Tables {
	return Tables{
		Pool6: prefixes("64:ff9b::/96"), EAM: []EAM{eam(vmA6+"/128", vmA4+"/32"), eam(vmB6+"/128", vmB4+"/32")},
		SafeMTU4: 1500, SafeMTU6: 1500,
	}
}

func load(t testing.TB, hosts int, tables Tables) *Program {
	t.Helper()
	labtest.Need(t)
	labtest.NeedFastPath(t)
	p, err := Load(Config{Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	update(t, p, tables)
	return p
}

func update(t testing.TB, p *Program, tables Tables) {
	t.Helper()
	if err := p.Update(tables); err != nil {
		t.Fatal(err)
	}
}

// v6 and v4 put a payload into a packet with hop limit 64; its checksum is nobody's
// business here.
func v6(src, dst string, proto byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 6<<28)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(body))), proto, 64)
	b = append(b, netip.MustParseAddr(src).AsSlice()...)
	return append(append(b, netip.MustParseAddr(dst).AsSlice()...), body...)
}

func v4(src, dst string, proto byte, body []byte) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, proto, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(body)))
	b = append(b, netip.MustParseAddr(src).AsSlice()...)
	return append(mend(append(b, netip.MustParseAddr(dst).AsSlice()...)), body...)
}

// mend gives an IPv4 header its checksum.
func mend(p []byte) []byte {
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^sum(p[:int(p[0]&15)*4]))
	return p
}

func sum(b []byte) uint16 {
	var s uint32
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func udp(payload int) []byte {
	b := make([]byte, 8+payload)
	copy(b, []byte{0, 53, 0, 53, byte(len(b) >> 8), byte(len(b)), 0x12, 0x34})
	return b
}

func tcp(payload int) []byte {
	b := make([]byte, 20+payload)
	b[12], b[16] = 5<<4, 1
	return b
}

func echo(typ byte) []byte { return []byte{typ, 0, 0x12, 0x34, 0, 1, 0, 1} }

// changed returns p with byte i set.
func changed(p []byte, i int, b byte) []byte { p[i] = b; return p }
