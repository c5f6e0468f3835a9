//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//
// The transport header: what is plain about it, and what translation changes.

// Sums are one's complement (RFC 1071), of 16-bit or 32-bit words as they lie in
// memory, folded late. sub is what takes a word away (RFC 1624).
static __always_inline __u64 sub(__be32 word) { return (__u32)~word; }

static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return sum;
}

static __always_inline __u16 fold16(__u64 sum)
{
	__u32 s = fold(sum);

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return s;
}

// segment gives the wire size of the largest segment of a superpacket, without
// the IP header, or 0 if the kernel would not cut it as we expect. tcp is the
// type for TCP of the family that came in.
static __always_inline __u32 segment(struct __sk_buff *skb, struct sk_buff *k, __u8 proto, __u32 head, __u32 tcp)
{
	struct skb_shared_info *shared;
	__u32 type;

	shared = bpf_rdonly_cast(k->head + k->end, bpf_core_type_id_kernel(struct skb_shared_info));
	type = shared->gso_type & ~GSO_DODGY;
	if (proto == PROTO_TCP && (type & ~(GSO_ECN | GSO_FIXEDID)) == tcp)
		return head + skb->gso_size;
	if (proto == PROTO_UDP && type == GSO_UDP_L4)
		return 8 + skb->gso_size;
	return 0;
}

// partial tells whether hardware is to complete a checksum: 1 for the one at
// field, which is in the header at start; -1 for one elsewhere, in a tunnel.
static __always_inline int partial(struct sk_buff *k, __u32 start, __u32 field)
{
	if (BPF_CORE_READ_BITFIELD(k, ip_summed) != CHECKSUM_PARTIAL)
		return 0;
	if ((__u64)k->head + k->csum_start != (__u64)k->data + start || k->csum_offset != field)
		return -1;
	return 1;
}

// transport is what translation needs to know of TCP, UDP and echo.
struct transport {
	__u32 field; // offset of the checksum
	__u32 wire;  // bytes of the largest segment
	__u64 flags; // for bpf_l4_csum_replace
	__u8 echo;   // the new ICMP type, or NO_ECHO
	__u8 proto;  // the new protocol
	__be16 port[2]; // source and destination; echo: 0
	__u64 sum;   // what the ICMP type changes the sum by
};

#define NO_ECHO 255
#define SYN     0x02

// look reads the transport header at p, which has at least 8 bytes in [p, end)
// and payload in the packet.
static __always_inline enum reason look(struct __sk_buff *skb, struct transport *t, __u8 *p, __u8 *end, __u32 payload, int six, int clamp)
{
	struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
	__u32 head = 8;
	__be16 word;

	t->wire = payload;
	t->flags = BPF_F_PSEUDO_HDR;
	t->echo = NO_ECHO;
	t->sum = 0;
	switch (t->proto) {
	case PROTO_TCP:
		if (payload < 20 || p + 20 > end)
			return BROKEN;
		if (clamp && p[13] & SYN)
			return KIND;
		t->field = 16;
		head = (p[12] >> 4) * 4;
		break;
	case PROTO_UDP:
		t->field = 6;
		t->flags |= BPF_F_MARK_MANGLED_0;
		if (!*(__u16 *)(p + 6))
			return CHECKSUM;
		break;
	case PROTO_ICMP6:
	case PROTO_ICMP4:
		if ((t->proto == PROTO_ICMP6) != six)
			return KIND;
		t->field = 2;
		if (six && p[0] == ECHO6_REQUEST)
			t->echo = ECHO4_REQUEST;
		else if (six && p[0] == ECHO6_REPLY)
			t->echo = ECHO4_REPLY;
		else if (!six && p[0] == ECHO4_REQUEST)
			t->echo = ECHO6_REQUEST;
		else if (!six && p[0] == ECHO4_REPLY)
			t->echo = ECHO6_REPLY;
		else
			return KIND;
		word = bpf_htons(t->echo << 8);
		t->sum = word;
		word = bpf_htons(p[0] << 8);
		t->sum += (__u16)~word;
		t->proto = six ? PROTO_ICMP4 : PROTO_ICMP6;
		break;
	default:
		return KIND;
	}
	if (t->echo == NO_ECHO) {
		t->port[0] = *(__be16 *)p;
		t->port[1] = *(__be16 *)(p + 2);
	}
	switch (partial(k, l2 + (six ? HEADER6 : HEADER4), t->field)) {
	case -1:
		return CHECKSUM;
	case 1:
		if (t->echo != NO_ECHO)
			return CHECKSUM;
	}
	if (skb->gso_size) {
		t->wire = segment(skb, k, t->proto, head, six ? GSO_TCPV6 : GSO_TCPV4);
		if (!t->wire)
			return OFFLOAD;
		if (t->wire > payload)
			t->wire = payload;
	}
	return FORWARDED;
}

// replace puts the new IP header and checksum in place of the old ones.
static __always_inline enum reason replace(struct __sk_buff *skb, struct transport *t, __be16 family, void *header, __u32 len, __u64 sum)
{
	__u32 at = l2 + len;

	if (bpf_skb_change_proto(skb, family, 0))
		return MEMORY;
	if (bpf_skb_store_bytes(skb, l2, header, len, BPF_F_RECOMPUTE_CSUM))
		return LOST;
	if (t->echo != NO_ECHO && bpf_skb_store_bytes(skb, at, &t->echo, 1, BPF_F_RECOMPUTE_CSUM))
		return LOST;
	if (bpf_l4_csum_replace(skb, at + t->field, 0, fold(sum + t->sum), t->flags))
		return LOST;
	return FORWARDED;
}
