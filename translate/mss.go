package translate

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// MSSClamp says what becomes of the maximum segment size that the SYNs of a TCP
// connection offer (RFC 9293 3.7.1), in bytes of segment without its headers. It
// is lowered in both directions, and never raised; a SYN without the option stays
// as it is. The zero value clamps nothing.
type MSSClamp struct {
	// Auto: to what fits the links on both sides, by the MTUs that Fit gets.
	Auto bool
	// Max: to this at most; 0: no bound.
	Max int
}

// Bounds of MSSClamp.Max.
const (
	MinMSS = 536                  // what every node takes (RFC 9293 3.7.1)
	MaxMSS = 65535 - tcpHeaderLen // what the largest IPv6 packet holds
)

const (
	tcpHeaderLen = 20
	tcpFlagsAt   = 13
	tcpSYN       = 0x02
)

func (c MSSClamp) check() error {
	if c.Max != 0 && (c.Max < MinMSS || c.Max > MaxMSS) {
		return fmt.Errorf("tcp_mss_clamp %d is not between %d and %d", c.Max, MinMSS, MaxMSS)
	}
	return nil
}

func (c MSSClamp) on() bool { return c != MSSClamp{} }

// segmentSize is a SYN's option: found by Decide, settled by Fit, written by
// Rewrite.
type segmentSize struct {
	at        int // of its value behind the TCP header's start; 0: nothing to do
	said, now uint16
}

// findMSS reads a whole TCP header and what follows.
//
//	kind 0: end | kind 1: no operation | kind, length, value ...  (RFC 9293 3.1)
//	                                     2     4       16 bits
func findMSS(tcp []byte) (s segmentSize) {
	const (
		end, nop, mss = 0, 1, 2
		mssLen        = 4
	)
	n := int(tcp[12]>>4) * 4
	if tcp[tcpFlagsAt]&tcpSYN == 0 || n > len(tcp) {
		return s
	}
	for i := tcpHeaderLen; i < n; {
		switch tcp[i] {
		case end:
			return s
		case nop:
			i++
			continue
		}
		if i+1 >= n || tcp[i+1] < 2 || i+int(tcp[i+1]) > n {
			return s
		}
		if tcp[i] == mss {
			if tcp[i+1] == mssLen {
				s.at, s.said = i+2, binary.BigEndian.Uint16(tcp[i+2:])
				s.now = s.said
			}
			return s
		}
		i += int(tcp[i+1])
	}
	return s
}

// clampMSS settles the option. The answers that it is about go the other way, by
// the same links.
func (t *Translator) clampMSS(pl *Plan, mtuIn, mtuOut int) {
	most := int(pl.mss.said)
	if c := t.config.MSSClamp; c.Max > 0 {
		most = min(most, c.Max)
	}
	if t.config.MSSClamp.Auto {
		most = min(most, max(MinMSS, roomForMSS(pl.From, mtuIn)), max(MinMSS, roomForMSS(pl.To, mtuOut)))
	}
	pl.mss.now = uint16(most)
}

func roomForMSS(f Family, mtu int) int {
	if f == V4 {
		return mtu - header4Len - tcpHeaderLen
	}
	return mtu - header6Len - tcpHeaderLen
}

// put writes the option into a TCP header and gives what that adds to its sum. A
// value that stands on an odd byte is in two words, a half of it in each.
func (s *segmentSize) put(tcp []byte) (delta uint16) {
	binary.BigEndian.PutUint16(tcp[s.at:], s.now)
	was, is := s.said, s.now
	if s.at%2 != 0 {
		was, is = bits.ReverseBytes16(was), bits.ReverseBytes16(is)
	}
	return difference(uint64(is), uint64(was))
}
