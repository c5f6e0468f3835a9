package translate

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// withChecksum is an IP packet with a TCP or UDP header and n bytes of payload, and a
// checksum that is right.
func withChecksum(v6 bool, proto byte, n int) []byte {
	head := map[byte]int{protoTCP: 20, protoUDP: 8}[proto]
	l4 := make([]byte, head+n)
	for i := range l4 {
		l4[i] = byte(i*7 + 3)
	}
	at := 16
	if proto == protoUDP {
		at = 6
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	} else {
		l4[12] = 5 << 4
	}
	l4[at], l4[at+1] = 0, 0
	var ip []byte
	if v6 {
		ip = []byte{0x60, 5: byte(len(l4)), 4: byte(len(l4) >> 8), 6: proto, 7: 64, 8: 0x20, 9: 1, 23: 1, 24: 0x20, 25: 1, 39: 2}
	} else {
		ip = []byte{0x45, 2: byte((20 + len(l4)) >> 8), 3: byte(20 + len(l4)), 8: 64, 9: proto, 12: 192, 14: 2, 15: 1, 16: 198, 17: 51, 18: 100, 19: 2}
		binary.BigEndian.PutUint16(ip[10:], ^slowSum(ip))
	}
	s := ^slowSum(pseudoHeader(ip, proto, len(l4)), l4)
	if s == 0 && proto == protoUDP {
		s = 0xffff
	}
	binary.BigEndian.PutUint16(l4[at:], s)
	return append(ip, l4...)
}

func TestCompleteChecksum(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, proto := range []byte{protoTCP, protoUDP} {
			for _, n := range []int{0, 1, 5, 100, 1231} {
				whole := withChecksum(v6, proto, n)
				at, head := map[byte]int{protoTCP: 16, protoUDP: 6}[proto], 20
				if v6 {
					head = 40
				}
				p := bytes.Clone(whole)
				if CompleteChecksum(p) || !bytes.Equal(p, whole) {
					t.Fatalf("v6 %v protocol %d, %d bytes: a right checksum was touched", v6, proto, n)
				}
				p[head+at] ^= 0x55
				broken := bytes.Clone(p)
				if CompleteChecksum(p) || !bytes.Equal(p, broken) {
					t.Fatalf("v6 %v protocol %d, %d bytes: a wrong checksum was made right", v6, proto, n)
				}
				binary.BigEndian.PutUint16(p[head+at:], slowSum(pseudoHeader(p, proto, len(p)-head)))
				// Ethernet padding must not count.
				padded := append(p, 0xee, 0xee)
				if !CompleteChecksum(padded) || !bytes.Equal(padded[:len(whole)], whole) {
					t.Errorf("v6 %v protocol %d, %d bytes: got %x, want %x", v6, proto, n, padded, whole)
				}
			}
		}
	}
}

func FuzzCompleteChecksum(f *testing.F) {
	f.Add(withChecksum(true, protoTCP, 10))
	f.Add(withChecksum(false, protoUDP, 3))
	f.Fuzz(func(t *testing.T, p []byte) {
		before := bytes.Clone(p)
		if !CompleteChecksum(p) && !bytes.Equal(p, before) {
			t.Error("written, but not said so")
		}
		again := bytes.Clone(p)
		if CompleteChecksum(again) {
			t.Error("a completed checksum was completed again")
		}
	})
}
