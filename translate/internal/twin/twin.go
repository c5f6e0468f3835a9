package twin

import (
	"net/netip"

	"aarch64.com/isthmus/translate"
)

// Input is one packet and what is known about it.
type Input struct {
	Config        translate.Config
	Packet        []byte // IP header first, maybe with padding behind
	Meta          translate.Meta
	MTUIn, MTUOut int               // bytes of IP packet; 0: unknown
	Sources       translate.Sources // of our own errors
	Chosen        Chosen
}

// Chosen is what the standards leave to the implementation.
type Chosen struct {
	ID, InnerID uint16     // IPv4 identification of the packet, of the quoted packet
	Source      netip.Addr // pool address of a router, or of our own error
}

// Result is what becomes of the packet.
type Result struct {
	Verdict     translate.Verdict
	From, To    translate.Family
	Length      int        // bytes of the packet that came in, without padding
	Destination netip.Addr // Forward, Split
	Whole       []byte     // Forward, Split: before it is cut into fragments
	Packets     [][]byte   // Forward, Split: what goes out
	Error       []byte     // verdicts that ask for one: the ICMP error, if allowed

	// What was taken from Chosen.
	UsedID, UsedInnerID, UsedSource bool
}

// header is what translation takes from an IP header and puts into one.
type header struct {
	version      int
	src, dst     netip.Addr
	tos, ttl     byte
	proto        byte
	dontFragment bool
	fragment     bool // IPv6: it has a Fragment Header; IPv4: it is a fragment
	offset       int  // bytes
	more         bool
	id           uint32
	length       int // bytes in front of the payload: options, extension headers included
	total        int // bytes of the packet by its length field
}

// work is one packet under way.
type work struct {
	in   Input
	res  Result
	old  header
	new  header
	bad  uint32       // pointer or MTU of an error of ours
	body []byte       // the new payload
	via  netip.Prefix // from IPv6: the prefix that the destination is under
	icmp bool         // body is a translated ICMP error
	wire int          // bytes of one packet on the wire
	// A checksum that hardware shall complete is at body[partial:]; -1: none.
	partial    int
	partialUDP bool
}

// Translate does everything that is to be done with one packet.
func Translate(in Input) Result {
	w := &work{in: in, partial: -1}
	w.res.Verdict = w.run()
	switch w.res.Verdict.Action() {
	case translate.Emit, translate.Cut:
		w.res.Destination = w.new.dst
	case translate.Answer:
		w.res.Error = w.ownError()
	default:
	}
	return w.res
}

func (w *work) run() translate.Verdict {
	p := w.in.Packet
	if len(p) == 0 {
		return translate.ShortHeader
	}
	switch p[0] >> 4 {
	case 4:
		w.res.From, w.res.To = translate.V4, translate.V6
		return w.section4()
	case 6:
		w.res.From, w.res.To = translate.V6, translate.V4
		return w.section5()
	}
	return translate.BadVersion
}
