//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//
// Plain packets are translated where they are, on the way into the TUN device,
// and come out of it again without having been to user space. The license is
// what the kernel asks for before it lends bpf_fib_lookup and its sk_buff.
//
//   routing ──▶ egress of isthmus0 ─▶ plain? ──no──▶ queue ─▶ user space
//                                       │ yes                    │
//   routing ◀── ingress of isthmus0 ◀───┴────────────────────────┘
//
// At the ingress of an Ethernet interface it saves both ways through routing:
//
//   vm0 ─▶ ingress of vm0 ─▶ plain? ──yes──▶ next hop ─▶ wan0
//                              └─no─▶ routing, as above
//
// Nothing is changed before everything is known to be right, so that what
// falls through is as it came. What "right" means is package translate's to
// say: this either does to the byte what translate does, or leaves the packet
// alone. RFC 7915 section numbers are given where a rule is applied.

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tables.h"
#include "transport.h"
#include "route.h"

// from6 is IPv6 to IPv4 (RFC 7915 5).
static __always_inline enum reason from6(struct __sk_buff *skb, struct settings *s, struct next *n)
{
	__u8 *p = (__u8 *)(long)skb->data + l2, *end = (__u8 *)(long)skb->data_end;
	__be32 *w = (__be32 *)p, out[5], src, dst;
	struct transport t = {};
	struct bpf_fib_lookup fib;
	struct addr6 key;
	struct host6 *host;
	__u32 payload, len, head;
	enum reason r;
	__u16 frag = 0, id = 0;
	__u64 sum;

	if (p + HEADER6 + 8 > end || p[0] >> 4 != 6)
		return BROKEN;
	dst = w[9];
	if (w[6] != s->pool[0] || w[7] != s->pool[1] || w[8] != s->pool[2])
		return tun ? FOREIGN : ADDRESS;
	if (is_special(dst))
		return ADDRESS;
	__builtin_memcpy(&key, p + 8, sizeof(key));
	host = bpf_map_lookup_elem(&hosts6, &key);
	if (!host)
		return MAPPING;
	if (tun && host->routed)
		return NAT;
	src = host->four;

	payload = bpf_ntohs(*(__be16 *)(p + 4));
	if (payload < 8 || skb->len != l2 + HEADER6 + payload)
		return BROKEN;
	if (p[7] <= 1)
		return HOPS;
	t.proto = p[6];
	r = look(skb, &t, p + HEADER6, end, payload, 1, s->clamp);
	if (r != FORWARDED)
		return r;

	// The embedded address is in both pseudo-headers, so of the destination
	// only the prefix counts.
	sum = (__u64)src + sub(w[2]) + sub(w[3]) + sub(w[4]) + sub(w[5]) + sub(w[6]) + sub(w[7]) + sub(w[8]);
	if (t.echo != NO_ECHO) {
		// ICMPv4 has no pseudo-header (5.2).
		sum += sub(src) + sub(dst) + sub(bpf_htonl(payload)) + sub(bpf_htonl(PROTO_ICMP6));
		// All zeros have another checksum than this arithmetic gives.
		if (t.echo == ECHO4_REPLY && fold16(sum + t.sum + (__u16)~*(__be16 *)(p + HEADER6 + 2)) == 0xffff)
			return CHECKSUM;
	}

	len = HEADER4 + payload;
	if (len > LONGEST4)
		return SIZE;
	if (tun) {
		r = led6(skb, &fib, &t, w + 2, w + 6, HEADER6 + t.wire);
		if (r != FORWARDED)
			return r;
	}
	t.wire += HEADER4;
	if (tun || t.wire > s->safe[0]) {
		r = ask4(skb, &fib, &t, src, dst, t.wire);
		if (r == FORWARDED && tun)
			r = follow(n, &fib);
		if (r != FORWARDED)
			return tun ? r : SIZE;
	}
	if (t.wire > CLEAR_DF)
		frag = DF;
	else
		id = bpf_get_prandom_u32();

	head = bpf_ntohl(w[0]);
	out[0] = bpf_htonl(0x45000000 | ((head >> 20 & s->tos_keep) | s->tos_set) << 16 | len);
	out[1] = bpf_htonl((__u32)id << 16 | frag);
	out[2] = bpf_htonl((__u32)(p[7] - 1) << 24 | (__u32)t.proto << 16);
	out[3] = src;
	out[4] = dst;
	*((__u16 *)&out[2] + 1) = ~fold16((__u64)out[0] + out[1] + out[2] + out[3] + out[4]);
	return replace(skb, &t, bpf_htons(ETH_P_IP), out, sizeof(out), sum);
}

// from4 is IPv4 to IPv6 (RFC 7915 4).
static __always_inline enum reason from4(struct __sk_buff *skb, struct settings *s, struct next *n)
{
	__u8 *p = (__u8 *)(long)skb->data + l2, *end = (__u8 *)(long)skb->data_end;
	__be32 *w = (__be32 *)p, out[10], src, dst;
	struct transport t = {};
	struct bpf_fib_lookup fib;
	struct host4 *host;
	__u32 payload, total;
	enum reason r;
	__u16 frag;
	__u64 sum;

	if (p + HEADER4 + 8 > end || p[0] >> 4 != 4)
		return BROKEN;
	if (p[0] != 0x45)
		return KIND;
	src = w[3];
	dst = w[4];
	host = bpf_map_lookup_elem(&hosts4, &dst);
	if (!host)
		return tun ? FOREIGN : MAPPING;
	if (tun && host->routed)
		return NAT;
	if (is_special(src))
		return ADDRESS;

	total = bpf_ntohs(*(__be16 *)(p + 2));
	if (total < HEADER4 + 8 || skb->len != l2 + total ||
	    fold16((__u64)w[0] + w[1] + w[2] + w[3] + w[4]) != 0xffff)
		return BROKEN;
	payload = total - HEADER4;
	frag = bpf_ntohs(*(__be16 *)(p + 6));
	if (frag & (MF | OFFSET))
		return KIND;
	if (p[8] <= 1)
		return HOPS;
	t.proto = p[9];
	r = look(skb, &t, p + HEADER4, end, payload, 0, s->clamp);
	if (r != FORWARDED)
		return r;

	out[2] = s->pool[0];
	out[3] = s->pool[1];
	out[4] = s->pool[2];
	out[5] = src;
	__builtin_memcpy(&out[6], &host->six, sizeof(host->six));
	sum = (__u64)out[2] + out[3] + out[4] + out[6] + out[7] + out[8] + out[9] + sub(dst);
	if (t.echo != NO_ECHO)
		sum += (__u64)src + dst + bpf_htonl(payload) + bpf_htonl(PROTO_ICMP6);

	if (tun) {
		r = led4(skb, &fib, &t, src, dst, HEADER4 + t.wire);
		if (r != FORWARDED)
			return r;
	}
	t.wire += HEADER6;
	if (!(frag & DF) && t.wire > s->lowest)
		return SIZE;
	if (tun || t.wire > s->safe[1]) {
		r = ask6(skb, &fib, &t, out + 2, out + 6, t.wire);
		if (r == FORWARDED && tun)
			r = follow(n, &fib);
		if (r != FORWARDED)
			return tun ? r : SIZE;
	}
	out[0] = bpf_htonl(0x60000000 | ((__u32)(p[1] & s->tos_keep) | s->tos_set) << 20);
	out[1] = bpf_htonl(payload << 16 | (__u32)t.proto << 8 | (__u32)(p[8] - 1));
	return replace(skb, &t, bpf_htons(ETH_P_IPV6), out, sizeof(out), sum);
}

SEC("tc")
int fast(struct __sk_buff *skb)
{
	__u32 zero = 0, bytes = skb->len - l2, want = l2 + HEADER6 + 20;
	struct counters *all = bpf_map_lookup_elem(&counters, &zero);
	void *inner = bpf_map_lookup_elem(&current, &zero);
	struct settings *s = NULL;
	enum reason r = OFF;
	struct next n = {};
	struct count *c;
	int from = 0;

	if (!all)
		return TC_ACT_UNSPEC;
	c = &all->at[tun ? INTERFACE : DEVICE];
	if (inner)
		s = bpf_map_lookup_elem(inner, &zero);
	if (!s)
		goto out;
	if (tun && (skb->pkt_type != PACKET_HOST || skb->vlan_present || skb->mark)) {
		r = LINK;
		goto out;
	}
	if (want > skb->len)
		want = skb->len;
	if ((__u64)skb->data + want > (__u64)skb->data_end && bpf_skb_pull_data(skb, want)) {
		r = MEMORY;
		goto out;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (s->on[0])
			r = from6(skb, s, &n);
	} else if (skb->protocol == bpf_htons(ETH_P_IP)) {
		from = 1;
		if (s->on[1])
			r = from4(skb, s, &n);
	} else {
		r = tun ? FOREIGN : KIND;
	}
out:
	if (trial)
		return r;
	if (r == FORWARDED) {
		c->packets[from]++;
		c->bytes[from] += bytes;
		if (tun)
			return bpf_redirect_neigh(n.ifindex, &n.hop, sizeof(n.hop), 0);
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	}
	c->fell[r]++;
	return r == LOST ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
