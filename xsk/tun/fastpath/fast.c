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
// Nothing is changed before everything is known to be right, so that what
// falls through is as it came. What "right" means is package translate's to
// say: this either does to the byte what translate does, or leaves the packet
// alone. RFC 7915 section numbers are given where a rule is applied.

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_IP   0x0800
#define ETH_P_IPV6 0x86dd
#define AF_INET    2
#define AF_INET6   10

#define PROTO_ICMP4 1
#define PROTO_TCP   6
#define PROTO_UDP   17
#define PROTO_ICMP6 58

#define ECHO4_REPLY   0
#define ECHO4_REQUEST 8
#define ECHO6_REQUEST 128
#define ECHO6_REPLY   129

#define HEADER4 20
#define HEADER6 40

#define DF       0x4000
#define MF       0x2000
#define OFFSET   0x1fff
#define CLEAR_DF 1260 // RFC 7915 5.1: up to here routers behind us may fragment
#define LONGEST4 65535

// What happened to a packet; the index into counters.fell. Reasons in stats.go
// has the same order.
enum reason {
	FORWARDED,
	OFF,      // no settings, or not for this direction
	KIND,     // not plain: options, extension headers, fragments, other protocols
	BROKEN,   // lengths or header checksum don't add up
	HOPS,     // hop limit too low
	ADDRESS,  // not under the pool, or of a special class
	MAPPING,  // no host mapping
	CHECKSUM, // UDP without one, or a partial one that isn't this header's
	OFFLOAD,  // a superpacket of a kind that isn't known to survive
	SIZE,     // too large for the egress link
	MEMORY,   // the kernel had none; not changed
	LOST,     // the kernel failed halfway; dropped
	REASONS,
};

struct settings {
	__be32 pool[3];  // the first 96 bits of what IPv4 addresses stand under
	__u32 lowest;    // bytes that an IPv4 packet without DF may become (4)
	__u32 safe[2];   // bytes that fit every link: of IPv4, of IPv6
	__u8 on[2];      // directions: from IPv6, from IPv4
	__u8 tos_keep;   // and-mask and or-mask of the traffic class
	__u8 tos_set;
};

struct addr6 {
	__be32 word[4];
};

struct host6 {
	__be32 four;
	__u32 used;      // when last, see now()
};

struct host4 {
	struct addr6 six;
	__u32 used;
};

struct lpm4 {
	__u32 bits;
	__be32 addr;
};

struct counters {
	__u64 packets[2]; // forwarded: from IPv6, from IPv4
	__u64 bytes[2];   // of IP packets as they came
	__u64 fell[REASONS];
};

// The kernel's own, as far as it is read (include/linux/skbuff.h).
struct sk_buff {
	unsigned char *head;
	unsigned char *data;
	unsigned int end;
	__u16 csum_start; // from head
	__u16 csum_offset;
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

struct skb_shared_info {
	unsigned int gso_type;
} __attribute__((preserve_access_index));

#define CHECKSUM_PARTIAL 3

#define GSO_TCPV4   (1 << 0)
#define GSO_DODGY   (1 << 1) // from a virtual machine; validated where it is cut
#define GSO_ECN     (1 << 2)
#define GSO_FIXEDID (1 << 3)
#define GSO_TCPV6   (1 << 4)
#define GSO_UDP_L4  (1 << 17)

void *bpf_cast_to_kern_ctx(void *) __ksym;
void *bpf_rdonly_cast(const void *, __u32) __ksym;

// Bytes in front of the IP header. The device has none; a test run has Ethernet.
volatile const __u32 l2;

// Holds the settings while they and the tables agree; else nothing, and
// everything falls through. That it is a map of maps makes the kernel wait,
// before an update returns, until no program is left that has seen the old.
struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__uint(value_size, sizeof(struct settings));
};

// Keeps the type in the object's BTF, for bpf2go: a map in a map doesn't.
const struct settings *keep_settings __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct inner);
} current SEC(".maps");

// Sizes are set when the maps are made.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct addr6);
	__type(value, struct host6);
} hosts6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, struct host4);
} hosts4 SEC(".maps");

// IPv4 addresses that aren't simply embedded in the pool.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm4);
	__type(value, __u8);
} special4 SEC(".maps");

// One byte per /16: whether special4 or hosts4 has anything there. Nearly all
// of the Internet is settled by this one load.
#define ROW 64
struct row {
	__u8 of[ROW];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536 / ROW);
	__type(key, __u32);
	__type(value, struct row);
} nets4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

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

// now is in units of 2^30 ns, about a second: a mapping in use is written to
// that often and no more, so that CPUs don't fight for its cache line.
static __always_inline __u32 now(void) { return bpf_ktime_get_coarse_ns() >> 30; }

static __always_inline void touch(__u32 *used)
{
	__u32 t = now();

	if (*used != t)
		*used = t;
}

// is_special tells addresses that have a rule of their own: mapped, private,
// denied, the host's.
static __always_inline int is_special(__be32 addr)
{
	__u32 net = bpf_ntohl(addr) >> 16;
	__u32 key = net / ROW;
	struct row *row = bpf_map_lookup_elem(&nets4, &key);
	struct lpm4 prefix = { 32, addr };

	if (!row)
		return 1;
	if (!row->of[net % ROW])
		return 0;
	return bpf_map_lookup_elem(&special4, &prefix) || bpf_map_lookup_elem(&hosts4, &addr);
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

// fits asks the routing table whether a packet has a way out that takes it.
static __always_inline int fits(struct __sk_buff *skb, struct bpf_fib_lookup *p, __u32 wire)
{
	long rc;

	if (wire > LONGEST4)
		return 0;
	p->ifindex = skb->ifindex;
	p->tot_len = wire;
	rc = bpf_fib_lookup(skb, p, sizeof(*p), 0);
	return rc == BPF_FIB_LKUP_RET_SUCCESS || rc == BPF_FIB_LKUP_RET_NO_NEIGH;
}

// transport is what translation needs to know of TCP, UDP and echo.
struct transport {
	__u32 field; // offset of the checksum
	__u32 wire;  // bytes of the largest segment
	__u64 flags; // for bpf_l4_csum_replace
	__u8 echo;   // the new ICMP type, or NO_ECHO
	__u8 proto;  // the new protocol
	__u64 sum;   // what the ICMP type changes the sum by
};

#define NO_ECHO 255

// look reads the transport header at p, which has at least 8 bytes in [p, end)
// and payload in the packet.
static __always_inline enum reason look(struct __sk_buff *skb, struct transport *t, __u8 *p, __u8 *end, __u32 payload, int six)
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

// from6 is IPv6 to IPv4 (RFC 7915 5).
static __always_inline enum reason from6(struct __sk_buff *skb, struct settings *s)
{
	__u8 *p = (__u8 *)(long)skb->data + l2, *end = (__u8 *)(long)skb->data_end;
	__be32 *w = (__be32 *)p, out[5], src, dst;
	struct transport t = {};
	struct addr6 key;
	struct host6 *host;
	__u32 payload, len, head;
	enum reason r;
	__u16 frag = 0, id = 0;
	__u64 sum;

	if (p + HEADER6 + 8 > end || p[0] >> 4 != 6)
		return BROKEN;
	dst = w[9];
	if (w[6] != s->pool[0] || w[7] != s->pool[1] || w[8] != s->pool[2] || is_special(dst))
		return ADDRESS;
	__builtin_memcpy(&key, p + 8, sizeof(key));
	host = bpf_map_lookup_elem(&hosts6, &key);
	if (!host)
		return MAPPING;
	src = host->four;

	payload = bpf_ntohs(*(__be16 *)(p + 4));
	if (payload < 8 || skb->len != l2 + HEADER6 + payload)
		return BROKEN;
	if (p[7] <= 1)
		return HOPS;
	t.proto = p[6];
	r = look(skb, &t, p + HEADER6, end, payload, 1);
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
	t.wire += HEADER4;
	if (t.wire > s->safe[0]) {
		struct bpf_fib_lookup fib = { .family = AF_INET, .l4_protocol = t.proto, .ipv4_src = src, .ipv4_dst = dst };

		if (!fits(skb, &fib, t.wire))
			return SIZE;
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
	touch(&host->used);
	return replace(skb, &t, bpf_htons(ETH_P_IP), out, sizeof(out), sum);
}

// from4 is IPv4 to IPv6 (RFC 7915 4).
static __always_inline enum reason from4(struct __sk_buff *skb, struct settings *s)
{
	__u8 *p = (__u8 *)(long)skb->data + l2, *end = (__u8 *)(long)skb->data_end;
	__be32 *w = (__be32 *)p, out[10], src, dst;
	struct transport t = {};
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
		return MAPPING;
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
	r = look(skb, &t, p + HEADER4, end, payload, 0);
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

	t.wire += HEADER6;
	if (!(frag & DF) && t.wire > s->lowest)
		return SIZE;
	if (t.wire > s->safe[1]) {
		struct bpf_fib_lookup fib = { .family = AF_INET6, .l4_protocol = t.proto };

		__builtin_memcpy(fib.ipv6_src, &out[2], 16);
		__builtin_memcpy(fib.ipv6_dst, &out[6], 16);
		if (!fits(skb, &fib, t.wire))
			return SIZE;
	}
	out[0] = bpf_htonl(0x60000000 | ((__u32)(p[1] & s->tos_keep) | s->tos_set) << 20);
	out[1] = bpf_htonl(payload << 16 | (__u32)t.proto << 8 | (__u32)(p[8] - 1));
	touch(&host->used);
	return replace(skb, &t, bpf_htons(ETH_P_IPV6), out, sizeof(out), sum);
}

SEC("tc")
int fast(struct __sk_buff *skb)
{
	__u32 zero = 0, bytes = skb->len - l2, want = l2 + HEADER6 + 20;
	struct counters *c = bpf_map_lookup_elem(&counters, &zero);
	void *inner = bpf_map_lookup_elem(&current, &zero);
	struct settings *s = NULL;
	enum reason r = OFF;
	int from = 0;

	if (!c)
		return TC_ACT_UNSPEC;
	if (inner)
		s = bpf_map_lookup_elem(inner, &zero);
	if (!s)
		goto out;
	if (want > skb->len)
		want = skb->len;
	if ((__u64)skb->data + want > (__u64)skb->data_end && bpf_skb_pull_data(skb, want)) {
		r = MEMORY;
		goto out;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (s->on[0])
			r = from6(skb, s);
	} else if (skb->protocol == bpf_htons(ETH_P_IP)) {
		from = 1;
		if (s->on[1])
			r = from4(skb, s);
	} else {
		r = KIND;
	}
out:
	if (l2)
		return r; // Try in program.go asks for nothing else
	if (r == FORWARDED) {
		c->packets[from]++;
		c->bytes[from] += bytes;
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	}
	c->fell[r]++;
	return r == LOST ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
