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

	quick bool // decided by the fast path, which fills limit to check and head
	limit int  // up to this OutLen Fit has nothing to think about
	ck    int  // offset of the transport checksum in the incoming packet; 0: none
	check uint16
	echo  bool
	icmp  uint8 // kindEcho, and echo: the new type
	genID bool
	head  [3]uint64 // IPv4: the first 16 bytes; IPv6: the first 8, and the source

	kind   kind
	udp    bool   // a computed 0 is sent as 0xffff (RFC 768)
	full   bool   // the checksum is computed anew, over sumLen bytes
	invert uint16 // 0xffff, or 0 for a partial checksum
	delta  uint16 // what the translation adds to the transport checksum
	l4     int    // offset of the transport header in the incoming packet
	sumLen int
	out    header
	inner  inner

	mss   segmentSize
	wire  int    // bytes of the largest packet on the outgoing wire
	param uint32 // Answer: pointer or MTU of the ICMP error
	cut   int    // Split: the largest fragment
	at    int    // Split: payload bytes already given
}

// AsksMTUIn tells whether Fit goes by the MTU of the link that the packet came
// from, so that it should be known: of few packets only.
func (pl *Plan) AsksMTUIn() bool {
	return !pl.quick && (pl.mss.at != 0 || pl.kind == kindError && pl.inner.mtu)
}

type kind uint8

const (
	kindPlain kind = iota // new IP header, transport checksum
	kindEcho              // and a new ICMP type
	kindError             // ICMP error: see inner
	kindReady             // from the fast path: check, and echo, are settled
)

// State is a worker's changing part: the generator of IPv4 identifications for
// packets that come without one (RFC 7915 5.1). It runs through all 65536 values
// before one repeats, in an order that depends on the seed.
type State struct {
	x, mul, add uint32   // modulo 65536
	_           [52]byte // a cache line of its own
}

// NewState makes a State; give each worker another seed.
func NewState(seed uint64) *State {
	// A linear congruential generator has the full period if add is odd and mul
	// is 1 modulo 4 (Hull and Dobell, 1962).
	seed = (seed ^ seed>>31) * 0x9e3779b97f4a7c15
	return &State{
		x:   uint32(seed >> 48),
		mul: uint32(seed>>32)&0xfff8 | 5,
		add: uint32(seed>>16)&0xffff | 1,
	}
}

func (s *State) next() uint32 {
	s.x = s.x*s.mul + s.add
	return s.x & 0xffff
}

func (pl *Plan) end(v Verdict) Verdict {
	pl.Verdict = v
	return v
}

// decide is Decide without the short cut.
func (t *Translator) decide(pl *Plan, p []byte, m Meta) Verdict {
	if len(p) > 0 {
		switch p[0] >> 4 {
		case 6:
			return t.decide6(pl, p, m)
		case 4:
			return t.decide4(pl, p, m)
		}
	}
	pl.quick, pl.From, pl.To, pl.Len = false, 0, 0, 0
	if len(p) > 0 {
		return pl.end(BadVersion)
	}
	return pl.end(ShortHeader)
}
