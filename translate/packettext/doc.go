// Package packettext writes IP packets as text that people can read and write:
//
//	ip6 2001:db8:64::2 > 64:ff9b::c633:6402 hop 64 class 0x10 flow 7
//	ext destination 8
//	fragment id 0x1234 offset 0 more
//	udp 1234 > 53
//	data 8
//
// One line is one header, in the order of the packet. Lengths, checksums and
// the numbers of the following header are computed unless they are given, so
// that a wrong one can be written too. Words may come in any order; # starts a
// comment; numbers are decimal or 0x hexadecimal.
//
//	ip6 SRC > DST  hop N class N flow N length N next P version N
//	ip4 SRC > DST  ttl N tos N id N df mf reserved offset BYTES proto P
//	               length N words N version N checksum C
//	option nop | end | router-alert | lsrr POINTER A.. | ssrr .. | rr .. | hex XX..
//	ext hopbyhop | destination  BYTES | hex XX..   next P units N
//	ext routing  type N left N A..                 next P units N
//	ext ah  spi N seq N icv BYTES                  next P units N
//	fragment  id N offset BYTES more  next P
//	tcp A > B  seq N ack N flags SAFRPUEC window N urgent N options XX.. checksum C of N
//	udp A > B  length N checksum C of N
//	udplite A > B  coverage N checksum C of N
//	dccp A > B  type N seq N checksum C of N
//	icmp4 echo | echo-reply | T/C   id N seq N | mtu N | pointer N | word N
//	icmp6 ...                       length WORDS checksum C of N
//	data N | data N from K          a 16-bit counter, which tells what got where
//	zero N | hex XX..               any bytes
//	cut N                           keeps the packet's first N bytes
//	padding N | to N | hex XX..     behind the packet; counted in no length
//	extension  checksum C           an RFC 4884 extension structure, of
//	object CLASS/TYPE XX..          these objects
//
// What stands indented under an icmp line is the packet that the error quotes.
// A checksum C is a number, "wrong" (one more than right), or "partial" (the sum of
// the pseudo-header, not complemented, as CHECKSUM_PARTIAL leaves it). "of N"
// counts N bytes of data into length and checksum, whatever follows: the first
// fragment of a larger datagram. P is a number or a name: tcp, udp, esp, none.
//
// The encoder is written from the RFCs and shares nothing with package
// translate, whose tests use it as a second opinion.
//
// Sources: RFC 791, 8200 (IP), 9293 (TCP), 768 (UDP), 3828 (UDP-Lite), 4340
// (DCCP), 792, 4443, 4884 (ICMP), 4302 (AH), 1071 (checksum).
package packettext
