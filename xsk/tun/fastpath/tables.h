//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//
// What fast.c goes by: constants of the protocols, the maps that user space fills,
// and what is read of the kernel's own structures.

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

#define PACKET_HOST 0 // to this station

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
	// At interfaces only:
	FOREIGN,  // nothing that is translated
	LINK,     // another station's, or with a VLAN tag or a mark
	NAT,      // a host whose packets NAT44 has to see
	ROUTE,    // routing doesn't lead it to the TUN device, or not on from there
	SOURCE,   // doesn't come from where its source is
	REASONS,
};

struct settings {
	__be32 pool[3];  // the first 96 bits of what IPv4 addresses stand under
	__u32 lowest;    // bytes that an IPv4 packet without DF may become (4)
	__u32 safe[2];   // bytes that fit every link: of IPv4, of IPv6
	__u8 on[2];      // directions: from IPv6, from IPv4
	__u8 tos_keep;   // and-mask and or-mask of the traffic class
	__u8 tos_set;
	__u8 clamp;      // leave TCP segments with SYN: their MSS option changes
	__u8 unused[3];
};

struct addr6 {
	__be32 word[4];
};

struct host6 {
	__be32 four;
	__u32 routed;    // only by way of the TUN device
};

struct host4 {
	struct addr6 six;
	__u32 routed;
};

struct lpm4 {
	__u32 bits;
	__be32 addr;
};

// Where the program sits.
enum point {
	DEVICE,    // egress of the TUN device
	INTERFACE, // ingress of an interface with Ethernet frames
	POINTS,
};

struct count {
	__u64 packets[2]; // forwarded: from IPv6, from IPv4
	__u64 bytes[2];   // of IP packets as they came
	__u64 fell[REASONS];
};

struct counters {
	struct count at[POINTS];
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

// Index of the TUN device, for a program at an interface; 0: at the device.
volatile const __u32 tun;

// Whether this is a test run (Try in program.go).
volatile const __u32 trial;

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
