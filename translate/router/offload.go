package router

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/xsk/tun"
)

// The kernel hands over superpackets: up to 64 KB with one header, to be cut
// into segments by whoever puts them on a wire (virtio 1.2 section 5.1.6.2;
// Linux Documentation/networking/segmentation-offloads.rst). Translation
// rewrites that one header. Going back to the kernel they stay whole; only an
// AF_XDP port, which has nobody behind it, needs them cut here.

// Transport headers: offsets from their start.
const (
	tcpSequence  = 4
	tcpOffset    = 12
	tcpFlags     = 13
	tcpChecksum  = 16
	udpLength    = 4
	udpChecksum  = 6
	udpHeaderLen = 8

	tcpFIN, tcpPSH, tcpCWR = 0x01, 0x08, 0x80
)

// setMeta tells the translator what the virtio-net header says of a packet.
func (f *frame) setMeta(h *tun.Header) {
	f.hdr = *h
	f.meta = translate.Meta{SegmentSize: h.SegmentSize}
	if h.SegmentType == tun.SegmentNone {
		f.meta.SegmentSize = 0
	}
	// In a tunnel the partial checksum is that of the packet inside, whose
	// pseudo-header translation does not change.
	if h.Flags&tun.FlagNeedsChecksum != 0 && int(h.ChecksumStart) == transportAt(f.packet()) {
		f.meta.PartialChecksum = true
	}
}

// transportAt is where the transport header of an IP packet starts, as far as
// extension headers that the kernel sends checksums behind can tell.
func transportAt(p []byte) int {
	if len(p) < 20 {
		return -1
	}
	if p[0]>>4 == 4 {
		return int(p[0]&15) * 4
	}
	next, at := p[6], 40
	for at+8 <= len(p) {
		switch next {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_ROUTING:
			next, at = p[at], at+8+int(p[at+1])*8
		default:
			return at
		}
	}
	return at
}

// translated moves what the virtio-net header says along with a packet whose
// header has grown by delta bytes and is of family to now.
func (f *frame) translated(delta int, to translate.Family) {
	h := &f.hdr
	if h.Flags&tun.FlagNeedsChecksum != 0 {
		h.ChecksumStart = uint16(int(h.ChecksumStart) + delta)
	}
	ecn := h.SegmentType & tun.SegmentECN
	switch h.SegmentType &^ tun.SegmentECN {
	case tun.SegmentNone:
		return
	case tun.SegmentTCPv4, tun.SegmentTCPv6:
		h.SegmentType = tun.SegmentTCPv4 | ecn
		if to == translate.V6 {
			h.SegmentType = tun.SegmentTCPv6 | ecn
		}
		h.HeaderLen = h.ChecksumStart + uint16(f.packet()[int(h.ChecksumStart)+tcpOffset]>>4)*4
	case tun.SegmentUDPL4:
		h.HeaderLen = h.ChecksumStart + udpHeaderLen
	}
}

// segmented tells a superpacket.
func (f *frame) segmented() bool { return f.hdr.SegmentType != tun.SegmentNone }

// complete finishes a partial checksum: the field holds the pseudo-header's sum,
// so that the sum from the transport header on is that of the checksum.
func (f *frame) complete() {
	if f.hdr.Flags&tun.FlagNeedsChecksum == 0 {
		return
	}
	finish(f.packet(), int(f.hdr.ChecksumStart), int(f.hdr.ChecksumOffset))
	f.hdr = tun.Header{}
	f.meta = translate.Meta{}
}

// finish completes the checksum whose field is at offset bytes behind start.
func finish(p []byte, start, offset int) {
	sum := ^translate.Sum(p[start:])
	if sum == 0 && offset == udpChecksum {
		sum = 0xffff // RFC 768
	}
	binary.BigEndian.PutUint16(p[start+offset:], sum)
}

// segments cuts a superpacket. Use newSegments, then next until more is false.
type segments struct {
	whole []byte
	head  int // bytes of all headers
	l4    int // where the transport header starts
	size  int // payload bytes of each segment
	at    int // payload bytes already given
	count uint16
	udp   bool
}

// newSegments reads what a superpacket's virtio-net header says. ok is false
// where the packet does not hold what it promises, which only a broken source
// does.
func newSegments(p []byte, h *tun.Header) (s segments, ok bool) {
	s = segments{whole: p, l4: int(h.ChecksumStart), size: int(h.SegmentSize)}
	switch h.SegmentType &^ tun.SegmentECN {
	case tun.SegmentTCPv4, tun.SegmentTCPv6:
		if s.l4+tcpChecksum+2 > len(p) {
			return s, false
		}
		s.head = s.l4 + int(p[s.l4+tcpOffset]>>4)*4
	case tun.SegmentUDPL4:
		s.head, s.udp = s.l4+udpHeaderLen, true
	default:
		return s, false
	}
	ok = h.Flags&tun.FlagNeedsChecksum != 0 && s.l4 >= 20 && s.head >= s.l4+udpHeaderLen && s.head < len(p) && s.size > 0
	return s, ok
}

// bytes is the length of the largest segment, headers included.
func (s *segments) bytes() int { return min(s.head+s.size, len(s.whole)) }

// next copies the next segment into dst as a packet of its own, with its
// checksums complete, and tells its length and whether more follow.
func (s *segments) next(dst []byte) (n int, more bool) {
	payload := s.whole[s.head+s.at:]
	if more = len(payload) > s.size; more {
		payload = payload[:s.size]
	}
	n = copy(dst, s.whole[:s.head])
	n += copy(dst[n:], payload)
	p := dst[:n]
	l4 := p[s.l4:]

	if s.udp {
		s.fixSum(l4, udpChecksum)
		binary.BigEndian.PutUint16(l4[udpLength:], uint16(len(l4)))
		finish(p, s.l4, udpChecksum)
	} else {
		binary.BigEndian.PutUint32(l4[tcpSequence:], binary.BigEndian.Uint32(l4[tcpSequence:])+uint32(s.at))
		if more {
			l4[tcpFlags] &^= tcpFIN | tcpPSH
		}
		if s.at > 0 {
			l4[tcpFlags] &^= tcpCWR // RFC 3168 section 6.1.2: once
		}
		s.fixSum(l4, tcpChecksum)
		finish(p, s.l4, tcpChecksum)
	}
	s.fixHeader(p)
	s.at += len(payload)
	s.count++
	return n, more
}

// fixSum takes the superpacket's length out of the pseudo-header's sum and puts
// the segment's in.
func (s *segments) fixSum(l4 []byte, at int) {
	field := binary.BigEndian.Uint16(l4[at:])
	was, is := uint16(len(s.whole)-s.l4), uint16(len(l4))
	// One's complement: adding the complement subtracts (RFC 1624).
	sum := uint32(field) + uint32(^was) + uint32(is)
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(l4[at:], uint16(sum>>16+sum))
}

// fixHeader gives the IP header its length, and an IPv4 segment an
// identification and header checksum of its own.
func (s *segments) fixHeader(p []byte) {
	if p[0]>>4 == 6 {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		return
	}
	header := p[:int(p[0]&15)*4]
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[4:], binary.BigEndian.Uint16(p[4:])+s.count)
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^translate.Sum(header))
}
