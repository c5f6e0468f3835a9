package router

// Ethernet frames (IEEE 802.3, 802.1Q):
//
//	 0           6           12        14
//	+-----------+-----------+---------+---------------------+
//	| dst       | src       | type    | payload             |
//	+-----------+-----------+---------+---------------------+
//	                        | 0x8100  | tag | type | payload|
const (
	etherHeaderLen = 14
	etherTypeAt    = 12
	vlanTagLen     = 4

	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd
	ether8021Q  = 0x8100
	ether8021AD = 0x88a8
)

// maxVLANTags is how many tags are looked through: the steering program's bound.
const maxVLANTags = 2

// network finds the IP packet in a frame and tells whether its version is the
// one that the Ethertype promises.
func network(b []byte) (start int, r Reason) {
	at := etherTypeAt
	for range maxVLANTags + 1 {
		if len(b) < at+3 {
			return 0, FrameShort
		}
		version := b[at+2] >> 4
		switch uint16(b[at])<<8 | uint16(b[at+1]) {
		case etherIPv4:
			if version != 4 {
				return 0, FrameVersion
			}
			return at + 2, ReasonNone
		case etherIPv6:
			if version != 6 {
				return 0, FrameVersion
			}
			return at + 2, ReasonNone
		case ether8021Q, ether8021AD:
			at += vlanTagLen
		default:
			return 0, FrameType
		}
	}
	return 0, FrameType
}
