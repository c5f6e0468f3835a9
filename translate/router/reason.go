package router

// Reason is an outcome of a packet that the translator did not decide: what
// happened to its frame on the way in or out.
type Reason uint8

// The reasons. Each has a row in reasons.
const (
	ReasonNone Reason = iota
	FrameShort
	FrameVersion
	FrameType
	NoFrame
	TxFull
	TxError
	KernelFull
	KernelError
	ToKernel
	NeighbourMiss
	ErrorSent
	ErrorLimited
	ErrorForbidden
	FragmentSent
	SegmentSent
	LoopedBack
	NumReasons
)

// ReasonInfo describes a Reason for metrics and documentation.
type ReasonInfo struct {
	Label string // metric label
	Drop  bool   // the packet was lost
	Doc   string
}

var reasons = [NumReasons]ReasonInfo{
	ReasonNone:     {"none", false, "Nothing to report."},
	FrameShort:     {"frame_short", true, "The frame ends inside its Ethernet header."},
	FrameVersion:   {"frame_version", true, "The IP version differs from what the Ethertype says."},
	FrameType:      {"frame_type", true, "The Ethertype is neither IPv4 nor IPv6, or there are more than two VLAN tags."},
	NoFrame:        {"no_frame", true, "All frames of the worker are in use: packets come faster than they can leave."},
	TxFull:         {"tx_full", true, "The transmit ring of the egress port stayed full."},
	TxError:        {"tx_error", true, "The egress port is down or gone."},
	KernelFull:     {"kernel_full", true, "The kernel took no more packets from the TUN device."},
	KernelError:    {"kernel_error", true, "The kernel refused a packet on the TUN device."},
	ToKernel:       {"to_kernel", false, "Handed to the kernel, which routes it on."},
	NeighbourMiss:  {"neighbour_miss", false, "The next hop's link-layer address is not known yet; the kernel was given the packet and resolves it."},
	ErrorSent:      {"icmp_error_sent", false, "An ICMP error of our own went out."},
	ErrorLimited:   {"icmp_error_limited", true, "An ICMP error was due, but the rate limit held it back (RFC 4443 section 2.4(f), RFC 1812 section 4.3.2.8)."},
	ErrorForbidden: {"icmp_error_forbidden", true, "An ICMP error was due, but must not be sent about this packet (RFC 4443 section 2.4(e), RFC 1122 section 3.2.2)."},
	FragmentSent:   {"fragment_sent", false, "A fragment that the translator made went out."},
	SegmentSent:    {"segment_sent", false, "A segment of a superpacket went out by an AF_XDP port, cut in user space."},
	LoopedBack:     {"looped_back", true, "The kernel routed a packet to the TUN device that is not for the translator; giving it back would loop."},
}

// Info describes the reason.
func (r Reason) Info() ReasonInfo { return reasons[r] }

// String is the reason's metric label.
func (r Reason) String() string { return reasons[r].Label }
