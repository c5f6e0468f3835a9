package translate

// Verdict says what becomes of a packet and why. Its zero value is a drop.
// There is one per reason; labels, sections, actions and sentences are in one
// table, from which metrics and documentation are made.
type Verdict uint8

// Action is what the caller does with a packet after Decide and Fit.
type Action uint8

const (
	Drop   Action = iota // silently, counted
	Emit                 // Rewrite, then send
	Cut                  // Rewrite, then Plan.Split, then send the fragments
	Answer               // drop, and an ICMP error is due (Translator.Error)
	Pass                 // not the translator's: to the kernel
)

// String gives the action's name as documentation prints it.
func (a Action) String() string {
	switch a {
	case Emit:
		return "forward"
	case Cut:
		return "split"
	case Answer:
		return "answer"
	case Pass:
		return "pass"
	}
	return "drop"
}

// The verdicts, in the order of their checks.
const (
	// Frames and IP headers.
	ShortHeader Verdict = iota
	BadVersion
	BadLength
	Jumbogram
	BadHeaderLength4
	BadChecksum4
	BadOption4
	SourceRoute4
	ExtensionTruncated6
	ExtensionChain6
	RoutingHeader6
	ExtensionAfterFragment6
	FragmentLength
	FragmentOverflow

	// Addresses.
	ToHost6
	ToHost4
	NotOurs6
	NotOurs4
	MartianSource6
	MartianDestination6
	MartianSource4
	MartianDestination4
	LocalSource4
	LocalDestination4
	LocalDestination6
	Denied4
	PrivateDestination4
	PrivateSource4
	ForeignSource6
	WellKnownSource6
	NoMapping6
	PoolExhausted6
	NoMapping4
	NoErrorSource4

	// Hop limit.
	HopLimit6
	TTL4

	// Transport.
	Protocol4
	Protocol6
	IGMP4
	ShortTransport
	TinyFragment
	FragmentedICMP
	UDPZeroChecksum
	UDPZeroFragment
	UDPLength

	// ICMP.
	ICMP4Obsolete
	ICMP4SingleHop
	ICMP4Unknown
	ICMP4Code
	ICMP4Pointer
	ICMP6Multicast
	ICMP6Neighbour
	ICMP6Unknown
	ICMP6Code
	ICMP6Pointer

	// The packet inside an ICMP error.
	InnerShort
	InnerVersion
	InnerLength
	InnerExtension
	InnerProtocol
	InnerError
	InnerICMP
	InnerNoMapping
	InnerPrivate

	// Size.
	TooLong
	TooBig6
	TooBig4
	Superpacket

	// Not drops.
	Forward
	Split

	// NumVerdicts is how many there are, for arrays of counters.
	NumVerdicts = int(Split) + 1
)

// Info describes a verdict.
type Info struct {
	Label   string // metric label, snake_case
	Section string // the rule's source
	Action  Action
	Doc     string // one sentence
}

// entry is Info plus the ICMP error that an Answer sends, by the family of the
// packet that it is about. A verdict that only one family can get has only one.
type entry struct {
	Info
	type4, code4 uint8
	type6, code6 uint8
}

var verdicts = [NumVerdicts]entry{
	ShortHeader:             {Info: Info{"short_header", "RFC 791 3.1, RFC 8200 3", Drop, "The frame ends before the IP header does."}},
	BadVersion:              {Info: Info{"bad_version", "RFC 791 3.1, RFC 8200 3", Drop, "The version field is neither 4 nor 6."}},
	BadLength:               {Info: Info{"bad_length", "RFC 1812 5.2.2, RFC 8200 3", Drop, "The length field says more than the frame holds, or less than the header takes."}},
	Jumbogram:               {Info: Info{"jumbogram", "RFC 2675 2", Drop, "An IPv6 jumbogram: IPv4 can't carry it."}},
	BadHeaderLength4:        {Info: Info{"bad_header_length4", "RFC 1812 5.2.2", Drop, "The IPv4 header length is under 20 bytes or beyond the packet's end."}},
	BadChecksum4:            {Info: Info{"bad_checksum4", "RFC 1812 5.2.2", Drop, "The IPv4 header checksum is wrong; IPv6 has none, so forwarding would hide it."}},
	BadOption4:              {Info: Info{"bad_option4", "RFC 1812 4.3.3.5", Answer, "An IPv4 option has an impossible length."}, type4: icmp4ParameterProblem},
	SourceRoute4:            {Info: Info{"source_route4", "RFC 7915 4.1", Answer, "An unexpired IPv4 source route: IPv6 has no counterpart."}, type4: icmp4Unreachable, code4: 5},
	ExtensionTruncated6:     {Info: Info{"extension_truncated6", "RFC 8200 4", Drop, "An IPv6 extension header ends beyond the packet."}},
	ExtensionChain6:         {Info: Info{"extension_chain6", "RFC 8504 5.3", Drop, "More IPv6 extension headers than any honest sender uses."}},
	RoutingHeader6:          {Info: Info{"routing_header6", "RFC 7915 5.1", Answer, "A Routing Header with segments left."}, type6: icmp6ParameterProblem},
	ExtensionAfterFragment6: {Info: Info{"extension_after_fragment6", "RFC 7915 5.1.1", Answer, "An extension header behind the Fragment Header can't be skipped in every fragment."}, type6: icmp6Unreachable, code6: 1},
	FragmentLength:          {Info: Info{"fragment_length", "RFC 791 3.2, RFC 8200 4.5", Drop, "A fragment that is not the last, whose length is no multiple of 8."}},
	FragmentOverflow:        {Info: Info{"fragment_overflow", "RFC 791 3.2, RFC 8200 4.5", Drop, "A fragment that ends beyond the largest packet that IPv4 can carry."}},

	ToHost6:             {Info: Info{"to_host6", "RFC 7915 5", Pass, "The destination is the host's own IPv6 address."}},
	ToHost4:             {Info: Info{"to_host4", "RFC 7915 4", Pass, "The destination is the host's own IPv4 address."}},
	NotOurs6:            {Info: Info{"not_ours6", "RFC 7915 6", Pass, "No pool6 prefix and no mapping covers the IPv6 destination."}},
	NotOurs4:            {Info: Info{"not_ours4", "RFC 7915 6", Pass, "No mapping covers the IPv4 destination."}},
	MartianSource6:      {Info: Info{"martian_source6", "RFC 7915 5.1", Drop, "The IPv6 source is unspecified, loopback, link-local or multicast."}},
	MartianDestination6: {Info: Info{"martian_destination6", "RFC 7915 5.1", Drop, "The IPv6 destination is unspecified, loopback, link-local or multicast."}},
	MartianSource4:      {Info: Info{"martian_source4", "RFC 7915 4.1, RFC 1812 5.3.7", Drop, "The IPv4 source is in 0/8, 127/8, 169.254/16, 224/4 or 240/4."}},
	MartianDestination4: {Info: Info{"martian_destination4", "RFC 1812 5.3.7", Drop, "The IPv4 destination is in 0/8, 127/8, 169.254/16, 224/4 or 240/4."}},
	LocalSource4:        {Info: Info{"local_source4", "RFC 7915 8", Drop, "The IPv6 source embeds the host's own IPv4 address."}},
	LocalDestination4:   {Info: Info{"local_destination4", "RFC 7915 8", Answer, "The destination embeds the host's own IPv4 address, never reached through translation."}, type6: icmp6Unreachable, code6: 1},
	LocalDestination6:   {Info: Info{"local_destination6", "RFC 7915 8", Answer, "The destination maps to the host's own IPv6 address, never reached through translation."}, type4: icmp4Unreachable, code4: 13, type6: icmp6Unreachable, code6: 1},
	Denied4:             {Info: Info{"denied4", "RFC 7915 8", Answer, "The operator denies this IPv4 destination."}, type6: icmp6Unreachable, code6: 1},
	PrivateDestination4: {Info: Info{"private_destination4", "RFC 6052 3.1", Answer, "The well-known prefix with a non-global IPv4 destination."}, type6: icmp6Unreachable, code6: 1},
	PrivateSource4:      {Info: Info{"private_source4", "RFC 6052 3.1", Drop, "A non-global IPv4 source can't be shown under the well-known prefix."}},
	ForeignSource6:      {Info: Info{"foreign_source6", "RFC 2827 3", Drop, "The IPv6 source is outside vm_prefixes: no VM of this host. No ICMP error is sent, for the source may be somebody else's."}},
	WellKnownSource6:    {Info: Info{"well_known_source6", "RFC 6052 3.3", Drop, "A source under the well-known prefix: only a network-specific prefix may hold IPv6 nodes."}},
	NoMapping6:          {Info: Info{"no_mapping6", "RFC 7757 3.3.2", Answer, "No mapping and no pool6 prefix covers the IPv6 source."}, type6: icmp6Unreachable, code6: 5},
	PoolExhausted6:      {Info: Info{"pool_exhausted6", "RFC 4443 3.1", Answer, "The IPv6 source has no IPv4 address yet, and there is none left for it: the pool, or its share of the pool, is used up."}, type6: icmp6Unreachable, code6: 1},
	NoMapping4:          {Info: Info{"no_mapping4", "RFC 7757 3.3.1", Answer, "No mapping covers the IPv4 source, and there is no pool6 prefix."}, type4: icmp4Unreachable, code4: 13},
	NoErrorSource4:      {Info: Info{"no_error_source4", "RFC 6791 3", Drop, "An ICMPv6 error of a router that has no mapping, and no pool of IPv4 sources is set."}},

	HopLimit6: {Info: Info{"hop_limit6", "RFC 7915 5.1", Answer, "The hop limit ended here."}, type6: icmp6TimeExceeded},
	TTL4:      {Info: Info{"ttl4", "RFC 7915 4.1", Answer, "The time to live ended here."}, type4: icmp4TimeExceeded},

	Protocol4:       {Info: Info{"protocol4", "RFC 7915 4.1", Drop, "An IPv4 protocol number that would become an IPv6 header (0, 43, 44, 58, 60)."}},
	Protocol6:       {Info: Info{"protocol6", "RFC 7915 5.1", Drop, "ICMPv4 inside IPv6 would become a real ICMPv4 message."}},
	IGMP4:           {Info: Info{"igmp4", "RFC 7915 4.2", Drop, "IGMP: for one link only."}},
	ShortTransport:  {Info: Info{"short_transport", "RFC 9293 3.1, RFC 768, RFC 792, RFC 4443 2.1", Drop, "The packet ends before its transport header does."}},
	TinyFragment:    {Info: Info{"tiny_fragment", "RFC 1858 3, RFC 7112 5", Drop, "A first fragment without the whole transport header."}},
	FragmentedICMP:  {Info: Info{"fragmented_icmp", "RFC 7915 1.2", Drop, "A fragmented ICMP message: its checksum can't be translated."}},
	UDPZeroChecksum: {Info: Info{"udp_zero_checksum", "RFC 7915 4.5", Drop, "UDP without a checksum, dropped by configuration."}},
	UDPZeroFragment: {Info: Info{"udp_zero_fragment", "RFC 7915 4.5", Drop, "A first fragment of UDP without a checksum: none can be computed."}},
	UDPLength:       {Info: Info{"udp_length", "RFC 768", Drop, "UDP without a checksum, and a length field that does not fit the packet."}},

	ICMP4Obsolete:  {Info: Info{"icmp4_obsolete", "RFC 7915 4.2", Drop, "ICMPv4 source quench, information, timestamp or address mask: obsoleted in ICMPv6."}},
	ICMP4SingleHop: {Info: Info{"icmp4_single_hop", "RFC 7915 4.2", Drop, "ICMPv4 redirect, router advertisement or solicitation: for one link only."}},
	ICMP4Unknown:   {Info: Info{"icmp4_unknown", "RFC 7915 4.2", Drop, "An ICMPv4 type without a counterpart."}},
	ICMP4Code:      {Info: Info{"icmp4_code", "RFC 7915 4.2", Drop, "An ICMPv4 code without a counterpart."}},
	ICMP4Pointer:   {Info: Info{"icmp4_pointer", "RFC 7915 4.2", Drop, "An ICMPv4 parameter problem that points at a field IPv6 does not have."}},
	ICMP6Multicast: {Info: Info{"icmp6_multicast", "RFC 7915 5.2", Drop, "Multicast listener discovery: for one link only."}},
	ICMP6Neighbour: {Info: Info{"icmp6_neighbour", "RFC 7915 5.2", Drop, "Neighbour discovery: for one link only."}},
	ICMP6Unknown:   {Info: Info{"icmp6_unknown", "RFC 7915 5.2", Drop, "An ICMPv6 type without a counterpart."}},
	ICMP6Code:      {Info: Info{"icmp6_code", "RFC 7915 5.2", Drop, "An ICMPv6 code without a counterpart."}},
	ICMP6Pointer:   {Info: Info{"icmp6_pointer", "RFC 7915 5.2", Drop, "An ICMPv6 parameter problem that points at a field IPv4 does not have."}},

	InnerShort:     {Info: Info{"inner_short", "RFC 7915 4.3, 5.3", Drop, "An ICMP error that quotes less than the IP header of its packet."}},
	InnerVersion:   {Info: Info{"inner_version", "RFC 7915 4.3, 5.3", Drop, "An ICMP error that quotes a packet of another IP version."}},
	InnerLength:    {Info: Info{"inner_length", "RFC 7915 4.3, 5.3", Drop, "An ICMP error whose quoted packet has an impossible length field."}},
	InnerExtension: {Info: Info{"inner_extension", "RFC 7915 5.3", Drop, "An ICMP error whose quoted packet has extension headers that can't be translated."}},
	InnerProtocol:  {Info: Info{"inner_protocol", "RFC 7915 4.3, 5.3", Drop, "An ICMP error whose quoted packet has a protocol that can't be translated."}},
	InnerError:     {Info: Info{"inner_error", "RFC 7915 4.3, 5.3", Drop, "An ICMP error about an ICMP error."}},
	InnerICMP:      {Info: Info{"inner_icmp", "RFC 7915 4.3, 5.3", Drop, "An ICMP error about an ICMP message that is no echo, or is fragmented."}},
	InnerNoMapping: {Info: Info{"inner_no_mapping", "RFC 7915 4.3, 5.3", Drop, "An ICMP error whose quoted packet has an address without a mapping."}},
	InnerPrivate:   {Info: Info{"inner_private", "RFC 6052 3.1", Drop, "An ICMP error whose quoted packet has a non-global IPv4 address under the well-known prefix."}},

	TooLong:     {Info: Info{"too_long", "RFC 791 3.1", Drop, "The translated packet would exceed 65535 bytes."}},
	TooBig6:     {Info: Info{"too_big6", "RFC 7915 5", Answer, "An IPv6 packet over 1280 bytes that does not fit the next link."}, type6: icmp6TooBig},
	TooBig4:     {Info: Info{"too_big4", "RFC 7915 4", Answer, "An IPv4 packet with DF that does not fit the next link."}, type4: icmp4Unreachable, code4: 4},
	Superpacket: {Info: Info{"superpacket", "RFC 7915 4, 5.1", Drop, "A segmentation-offload packet whose segments need fragments or checksums of their own: segment it first, then offer the segments."}},

	Forward: {Info: Info{"forward", "RFC 7915 4, 5", Emit, "Translated."}},
	Split:   {Info: Info{"split", "RFC 7915 4, 5.1.1", Cut, "Translated into several fragments."}},
}

// String gives the metric label.
func (v Verdict) String() string { return v.Info().Label }

// Action says what the caller does with the packet.
func (v Verdict) Action() Action {
	if int(v) >= NumVerdicts {
		return Drop
	}
	return verdicts[v].Action
}

// Info describes v.
func (v Verdict) Info() Info {
	if int(v) >= NumVerdicts {
		return Info{Label: "invalid", Action: Drop, Doc: "Not a verdict."}
	}
	return verdicts[v].Info
}
