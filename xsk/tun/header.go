package tun

import "encoding/binary"

// HeaderLen is the size of the legacy virtio-net header in bytes: the number
// of bytes before the packet that Read and Write use.
const HeaderLen = 10

// Flags and segmentation types of the virtio-net header
// (virtio 1.2, section 5.1.6).
const (
	FlagNeedsChecksum = 1 // the checksum at ChecksumStart+ChecksumOffset is partial
	FlagDataValid     = 2 // the checksum was verified on the way here

	SegmentNone  = 0
	SegmentTCPv4 = 1
	SegmentUDP   = 3 // IP fragmentation offload, never asked for
	SegmentTCPv6 = 4
	SegmentUDPL4 = 5
	SegmentECN   = 0x80 // or-ed to a TCP type: the first segment carries CWR
)

// Header is the virtio-net header of one packet.
//
//	 0        1         2                4               6
//	+--------+---------+----------------+---------------+
//	| flags  |gso_type | hdr_len        | gso_size      |
//	+--------+---------+-------+--------+---------------+
//	| csum_start               | csum_offset            |
//	+--------------------------+------------------------+
//	 6                          8                     10
//
// All fields are little-endian, which Open asks the kernel for.
type Header struct {
	Flags          uint8
	SegmentType    uint8
	HeaderLen      uint16 // bytes of headers in front of the first segment's payload
	SegmentSize    uint16 // bytes of payload of each segment
	ChecksumStart  uint16 // from the start of the packet
	ChecksumOffset uint16 // from ChecksumStart
}

func (h *Header) unmarshal(b []byte) {
	p := (*[HeaderLen]byte)(b)
	h.Flags = p[0]
	h.SegmentType = p[1]
	h.HeaderLen = binary.LittleEndian.Uint16(p[2:])
	h.SegmentSize = binary.LittleEndian.Uint16(p[4:])
	h.ChecksumStart = binary.LittleEndian.Uint16(p[6:])
	h.ChecksumOffset = binary.LittleEndian.Uint16(p[8:])
}

func (h *Header) marshal(b []byte) {
	p := (*[HeaderLen]byte)(b)
	p[0] = h.Flags
	p[1] = h.SegmentType
	binary.LittleEndian.PutUint16(p[2:], h.HeaderLen)
	binary.LittleEndian.PutUint16(p[4:], h.SegmentSize)
	binary.LittleEndian.PutUint16(p[6:], h.ChecksumStart)
	binary.LittleEndian.PutUint16(p[8:], h.ChecksumOffset)
}
