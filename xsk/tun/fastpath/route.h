//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//
// What the routing table is asked: always as for a packet that came in by the
// interface where the program sits, and is to be forwarded.

// ask fills p in for a packet of so many bytes (0: any), whose addresses are
// there already, and with what the routing table says.
static __always_inline enum reason ask(struct __sk_buff *skb, struct bpf_fib_lookup *p, struct transport *t, __u32 bytes)
{
	if (bytes > LONGEST4)
		return SIZE;
	p->l4_protocol = t->proto;
	if (t->echo != NO_ECHO)
		p->l4_protocol = p->family == AF_INET ? PROTO_ICMP4 : PROTO_ICMP6;
	p->sport = t->port[0];
	p->dport = t->port[1];
	p->ifindex = skb->ifindex;
	p->tot_len = bytes;
	switch (bpf_fib_lookup(skb, p, sizeof(*p), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return FORWARDED;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return SIZE;
	}
	return ROUTE;
}

static __always_inline enum reason ask4(struct __sk_buff *skb, struct bpf_fib_lookup *p, struct transport *t, __be32 src, __be32 dst, __u32 bytes)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->family = AF_INET;
	p->ipv4_src = src;
	p->ipv4_dst = dst;
	return ask(skb, p, t, bytes);
}

static __always_inline enum reason ask6(struct __sk_buff *skb, struct bpf_fib_lookup *p, struct transport *t, const __be32 *src, const __be32 *dst, __u32 bytes)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->family = AF_INET6;
	__builtin_memcpy(p->ipv6_src, src, 16);
	__builtin_memcpy(p->ipv6_dst, dst, 16);
	return ask(skb, p, t, bytes);
}

// led6 and led4 tell, at an interface, whether routing would have led a packet to
// the TUN device, and whether answers to it would leave where it came in. The
// firewall and rp_filter (RFC 3704) have no say here; what they could object to
// goes their way.
static __always_inline enum reason led6(struct __sk_buff *skb, struct bpf_fib_lookup *p, struct transport *t, const __be32 *src, const __be32 *dst, __u32 bytes)
{
	enum reason r = ask6(skb, p, t, src, dst, bytes);

	if (r != FORWARDED)
		return r;
	if (p->ifindex != tun)
		return ROUTE;
	if (ask6(skb, p, t, dst, src, 0) != FORWARDED || p->ifindex != skb->ifindex)
		return SOURCE;
	return FORWARDED;
}

static __always_inline enum reason led4(struct __sk_buff *skb, struct bpf_fib_lookup *p, struct transport *t, __be32 src, __be32 dst, __u32 bytes)
{
	enum reason r = ask4(skb, p, t, src, dst, bytes);

	if (r != FORWARDED)
		return r;
	if (p->ifindex != tun)
		return ROUTE;
	if (ask4(skb, p, t, dst, src, 0) != FORWARDED || p->ifindex != skb->ifindex)
		return SOURCE;
	return FORWARDED;
}

// next is where a packet from an interface goes.
struct next {
	__u32 ifindex;
	struct bpf_redir_neigh hop;
};

// follow takes the next hop from the routing table's answer.
static __always_inline enum reason follow(struct next *n, struct bpf_fib_lookup *p)
{
	if (p->ifindex == tun)
		return ROUTE;
	n->ifindex = p->ifindex;
	n->hop.nh_family = p->family;
	__builtin_memcpy(n->hop.ipv6_nh, p->ipv6_dst, 16); // or IPv4, at the same place
	return FORWARDED;
}
