package packettext

// note names an ICMP type and code for readers.
func (h *icmp) note() string {
	key := [3]uint8{4, h.typ, h.code}
	if h.six {
		key[0] = 6
	}
	return notes[key]
}

// notes are from the IANA registries of ICMP and ICMPv6 parameters.
var notes = map[[3]uint8]string{
	{4, 3, 0}:  "network unreachable",
	{4, 3, 1}:  "host unreachable",
	{4, 3, 2}:  "protocol unreachable",
	{4, 3, 3}:  "port unreachable",
	{4, 3, 4}:  "fragmentation needed",
	{4, 3, 5}:  "source route failed",
	{4, 3, 9}:  "network prohibited",
	{4, 3, 10}: "host prohibited",
	{4, 3, 13}: "communication prohibited",
	{4, 4, 0}:  "source quench",
	{4, 11, 0}: "time exceeded in transit",
	{4, 11, 1}: "reassembly time exceeded",
	{4, 12, 0}: "parameter problem",
	{6, 1, 0}:  "no route",
	{6, 1, 1}:  "prohibited",
	{6, 1, 3}:  "address unreachable",
	{6, 1, 4}:  "port unreachable",
	{6, 1, 5}:  "source address policy",
	{6, 2, 0}:  "packet too big",
	{6, 3, 0}:  "hop limit exceeded",
	{6, 3, 1}:  "reassembly time exceeded",
	{6, 4, 0}:  "erroneous header field",
	{6, 4, 1}:  "unrecognized next header",
}
