package translate

// Headroom is how many bytes before a packet Rewrite and Error may write: an
// IPv4 error with an IPv4 fragment inside grows by 20 + 20 + 8, an ICMPv6 error
// of our own puts 48 before the packet.
const Headroom = 64

// Meta is what the port knows about a packet and its bytes do not say.
type Meta struct {
	// PartialChecksum: the transport checksum field holds the sum of the
	// pseudo-header, not complemented, for hardware to complete
	// (virtio-net NEEDS_CSUM).
	PartialChecksum bool
	// SegmentSize is the payload of each segment in bytes, without the transport
	// header, that hardware or the kernel will cut the packet into. 0: one packet.
	SegmentSize uint16
}

// Plan is Decide's result: what Fit, Rewrite, Split and Error go by. A worker
// has one and uses it again for every packet. The exported fields are for
// reading; with a verdict whose action is neither Emit nor Cut, only Verdict,
// From and Len are valid (From and Len 0 if there was no header).
type Plan struct {
	Verdict      Verdict
	From, To     Family
	DstHi, DstLo uint64 // destination after translation; IPv4: uint64(addr)<<32, 0
	Len          int    // bytes of the IP packet that came in, without padding
	OutLen       int    // bytes that Rewrite will make of it, before Split

	quick  bool // decided by the fast path
	kind   kind
	icmp   uint8  // kindEcho, kindError: the new type
	invert uint16 // 0xffff, or 0 for a partial checksum
	delta  uint16 // what the translation adds to the transport checksum
	ck     uint16 // offset of that checksum in the incoming packet; 0: none
	udp    bool   // a computed 0 is sent as 0xffff (RFC 768)
	full   bool   // the checksum is computed anew, over sumLen bytes
	l4     int    // offset of the transport header in the incoming packet
	sumLen int
	out    header
	inner  inner

	wire  int    // bytes of the largest packet on the outgoing wire
	limit int    // up to here it needs no thought, whatever the link
	param uint32 // Answer: pointer or MTU of the ICMP error
	cut   int    // Split: the largest fragment
	at    int    // Split: payload bytes already given
}

type kind uint8

const (
	kindPlain kind = iota // new IP header, transport checksum
	kindEcho              // and a new ICMP type
	kindError             // ICMP error: see inner
)

// State is a worker's changing part: the generator of IPv4 identifications for
// packets that come without one (RFC 7915 5.1). It runs through all 65536 values
// before one repeats, in an order that depends on the seed.
type State struct {
	x, mul, add uint16
	_           [58]byte // a cache line of its own
}

// NewState makes a State; give each worker another seed.
func NewState(seed uint64) *State {
	// A linear congruential generator has the full period if add is odd and mul
	// is 1 modulo 4 (Hull and Dobell, 1962).
	seed = (seed ^ seed>>31) * 0x9e3779b97f4a7c15
	return &State{
		x:   uint16(seed >> 48),
		mul: uint16(seed>>32)&^3 | 5,
		add: uint16(seed>>16) | 1,
	}
}

func (s *State) next() uint32 {
	s.x = s.x*s.mul + s.add
	return uint32(s.x)
}

func (pl *Plan) end(v Verdict) Verdict {
	pl.Verdict = v
	return v
}

// Decide reads the packet p, which starts with its IP header and may carry
// Ethernet padding behind it, and fills pl with what becomes of it. It changes
// nothing in p.
func (t *Translator) Decide(pl *Plan, p []byte, m Meta) Verdict {
	if len(p) >= header4Len {
		switch p[0] >> 4 {
		case 6:
			if t.plain6 && t.fast6(pl, p, m) {
				return Forward
			}
			return t.decide6(pl, p, m)
		case 4:
			if t.plain4 && t.fast4(pl, p, m) {
				return Forward
			}
			return t.decide4(pl, p, m)
		}
	}
	return pl.reject(p)
}

// reject is for what has no IP header to read.
func (pl *Plan) reject(p []byte) Verdict {
	pl.From, pl.To, pl.Len = 0, 0, 0
	if len(p) > 0 && p[0]>>4 != 4 && p[0]>>4 != 6 {
		return pl.end(BadVersion)
	}
	return pl.end(ShortHeader)
}
