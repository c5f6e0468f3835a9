//go:build ignore

// SPDX-License-Identifier: Apache-2.0
//
// Which frames the translator takes. Everything it doesn't take goes to the
// kernel untouched (XDP_PASS): ARP, neighbour discovery, SSH, routing
// protocols, multicast, whatever can't be understood.
//
//   frame ─▶ group address, ─▶ up to two VLAN tags ─▶ IPv6 to pool6?   ─▶ XSKMAP
//            not our own?                             IPv4 to mapped?      [queue]
//                ▼                                        │ no               │ no socket
//               PASS                                     PASS               PASS
//
// steer_test.go has a twin of this in Go, which must agree on every frame.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_8021Q  0x8100
#define ETH_P_8021AD 0x88a8
#define ETH_P_IP     0x0800
#define ETH_P_IPV6   0x86dd

#define MAX_TAGS 2

#define IPPROTO_ICMPV6 58
#define ND_FIRST 133 // Router Solicitation, RFC 4861 4.1
#define ND_LAST  137 // Redirect, RFC 4861 4.5

// Where a frame went; the index into `counters`. Counters in steer.go has the
// same order.
enum outcome {
	REDIRECTED,   // to a socket
	NO_SOCKET,    // ours, but its queue has no socket: kernel
	OTHER,        // not for a translated prefix: kernel
	GROUP,        // broadcast or multicast: kernel
	ND,           // neighbour discovery for a pool6 address: kernel
	MALFORMED,    // too short, or not the IP version its type says: kernel
	OTHER_HOST,   // for another station, seen in promiscuous mode: kernel
	OVERSIZE,     // larger than a chunk of the sockets' memory: kernel
	OUTCOMES,
};

// The interface's own address, set when the program is loaded. A frame for
// another one is the kernel's: a device stacked on this one may own it (macvlan,
// VRRP), and if none does, forwarding it would send it twice.
volatile const __u8 mac[6];

// How many bytes of frame a chunk holds. A larger one would be lost at the
// socket; the kernel routes it to the translator's TUN device instead.
volatile const __u32 room;

struct lpm6 {
	__u32 bits;
	__u8 addr[16];
};

struct lpm4 {
	__u32 bits;
	__u8 addr[4];
};

// Sizes are set when the maps are made.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm6);
	__type(value, __u8);
} pool6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm4);
	__type(value, __u8);
} mapped4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline int done(enum outcome o, int action)
{
	__u32 key = o;
	__u64 *n = bpf_map_lookup_elem(&counters, &key);

	if (n)
		(*n)++;
	return action;
}

static __always_inline int take(struct xdp_md *ctx, __u64 len)
{
	int action;

	if (len > room)
		return done(OVERSIZE, XDP_PASS);
	action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);

	return done(action == XDP_REDIRECT ? REDIRECTED : NO_SOCKET, action);
}

static __always_inline int steer6(struct xdp_md *ctx, __u8 *p, __u8 *end, __u64 len)
{
	struct lpm6 key = { .bits = 128 };

	if (p + 40 > end || p[0] >> 4 != 6)
		return done(MALFORMED, XDP_PASS);
	__builtin_memcpy(key.addr, p + 24, 16);
	if (!bpf_map_lookup_elem(&pool6, &key))
		return done(OTHER, XDP_PASS);
	// Whoever has pool6 on link asks the kernel about it. RFC 4861 makes
	// neighbour discovery valid with hop limit 255 only and without extension
	// headers, and it never crosses a translator.
	if (p[6] == IPPROTO_ICMPV6 && p[7] == 255 && p + 41 <= end &&
	    p[40] >= ND_FIRST && p[40] <= ND_LAST)
		return done(ND, XDP_PASS);
	return take(ctx, len);
}

static __always_inline int steer4(struct xdp_md *ctx, __u8 *p, __u8 *end, __u64 len)
{
	struct lpm4 key = { .bits = 32 };

	if (p + 20 > end || p[0] >> 4 != 4)
		return done(MALFORMED, XDP_PASS);
	__builtin_memcpy(key.addr, p + 16, 4);
	if (!bpf_map_lookup_elem(&mapped4, &key))
		return done(OTHER, XDP_PASS);
	return take(ctx, len);
}

static __always_inline int steer_frame(struct xdp_md *ctx, __u64 len)
{
	__u8 *p = (__u8 *)(long)ctx->data;
	__u8 *end = (__u8 *)(long)ctx->data_end;
	__u16 type;

	if (p + 14 > end)
		return done(MALFORMED, XDP_PASS);
	if (p[0] & 1)
		return done(GROUP, XDP_PASS);
	if (p[0] != mac[0] || p[1] != mac[1] || p[2] != mac[2] ||
	    p[3] != mac[3] || p[4] != mac[4] || p[5] != mac[5])
		return done(OTHER_HOST, XDP_PASS);
	type = bpf_ntohs(*(__be16 *)(p + 12));
	p += 14;

#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++) {
		if (type != ETH_P_8021Q && type != ETH_P_8021AD)
			break;
		if (p + 4 > end)
			return done(MALFORMED, XDP_PASS);
		type = bpf_ntohs(*(__be16 *)(p + 2));
		p += 4;
	}

	if (type == ETH_P_IPV6)
		return steer6(ctx, p, end, len);
	if (type == ETH_P_IP)
		return steer4(ctx, p, end, len);
	return done(OTHER, XDP_PASS);
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	return steer_frame(ctx, (__u64)(ctx->data_end - ctx->data));
}

// The same for drivers that hand over a large frame in several buffers, without
// which they refuse any program at MTUs beyond a page (Linux 5.18).
SEC("xdp.frags")
int steer_frags(struct xdp_md *ctx)
{
	return steer_frame(ctx, bpf_xdp_get_buff_len(ctx));
}

char _license[] SEC("license") = "Apache-2.0";
