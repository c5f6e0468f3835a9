package nat44

import (
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// mark is the comment of the first rule of a table that is ours. Tables have
// no comment before Linux 5.10, and the library can't read it.
const mark = "made by isthmus for address sharing"

// Chains and sets of the table.
const (
	chainForward     = "forward"
	chainShared      = "shared"
	chainPostrouting = "postrouting"
	setSlices        = "slices"
	setRates         = "rates"
	setBlocked       = "blocked"
	setLimited       = "limited"
)

// Counters of the table, one per thing that can become of a packet.
const (
	counterOpened         = "opened"
	counterNoSlice        = "no_slice"
	counterProtocol       = "protocol"
	counterTooMany        = "too_many"
	counterTooFast        = "too_fast"
	counterInvalid        = "invalid"
	counterUntranslatable = "untranslatable"
)

var counters = []string{
	counterOpened, counterNoSlice, counterProtocol, counterTooMany,
	counterTooFast, counterInvalid, counterUntranslatable,
}

const (
	rateMemory    = 10 * time.Second // of the rate of a VM that opens nothing
	limitedMemory = time.Hour        // of who has run into a limit

	// maxElements keeps the elements of one message below the 64 KB that a
	// netlink attribute can have.
	maxElements = 500

	// icmpProhibited is "communication administratively prohibited",
	// RFC 1812 section 5.2.7.1.
	icmpProhibited = 13

	// reg is the register that everything is loaded into. It is 16 bytes long
	// and the same memory as NFT_REG32_00 to NFT_REG32_03; nft(8) uses these
	// names in this way, and can only list rules that do.
	reg = unix.NFT_REG_1

	// Bits of conntrack's status (linux/netfilter/nf_conntrack_common.h).
	// A connection is confirmed when its first packet has left.
	statusConfirmed = 1 << 3
	statusSourceNAT = 1 << 4

	addressLen   = 4
	sourceOffset = 12 // of the source address in the IPv4 header
)

// ruleset writes one table into a batch; as nft(8) would show it:
//
//	map slices      { type ipv4_addr : ipv4_addr . inet_service . ipv4_addr . inet_service }
//	set rates       { type ipv4_addr; flags dynamic,timeout; timeout 10s }
//	set blocked     { type ipv4_addr; flags timeout }
//	set limited     { type ipv4_addr; flags dynamic,timeout; timeout 1h }
//
//	chain forward {
//	        type filter hook forward priority filter; policy accept
//	        ip saddr != POOL accept comment MARK
//	        ct status & (confirmed|snat) == confirmed|snat accept
//	        ct status confirmed counter name untranslatable drop
//	        ct state != new,related counter name invalid drop
//	        ip saddr @slices goto shared
//	        counter name no_slice reject with icmp admin-prohibited
//	}
//	chain shared {
//	        meta l4proto != tcp,udp,icmp counter name protocol reject ...
//	        update @rates { ip saddr limit rate over N/second burst N packets }
//	                update @limited { ip saddr counter } counter name too_fast drop
//	        ip saddr @blocked update @limited { ip saddr counter } counter name too_many reject ...
//	        counter name opened
//	}
//	chain postrouting {
//	        type nat hook postrouting priority srcnat - 1
//	        snat to ip saddr map @slices
//	}
//
// A new connection is one that conntrack has not confirmed, not one in state
// NEW: that is also each further packet that nobody has answered yet.
type ruleset struct {
	c     *nftables.Conn
	table *nftables.Table
}

func (r ruleset) slices() *nftables.Set {
	return &nftables.Set{
		Table: r.table, Name: setSlices, IsMap: true, KeyType: nftables.TypeIPAddr,
		DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService,
			nftables.TypeIPAddr, nftables.TypeInetService),
	}
}

func (r ruleset) blocked() *nftables.Set {
	return &nftables.Set{Table: r.table, Name: setBlocked, KeyType: nftables.TypeIPAddr, HasTimeout: true}
}

func (r ruleset) limited() *nftables.Set {
	return &nftables.Set{
		Table: r.table, Name: setLimited, KeyType: nftables.TypeIPAddr,
		Dynamic: true, HasTimeout: true, Timeout: limitedMemory,
	}
}

// chains are those of the table. Sources are translated before others do it, such as
// a masquerade for all that leaves: the first for a connection is the only one.
func (r ruleset) chains() []*nftables.Chain {
	accept := nftables.ChainPolicyAccept
	before := *nftables.ChainPriorityNATSource - 1
	return []*nftables.Chain{
		{
			Table: r.table, Name: chainForward, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &accept,
		},
		{Table: r.table, Name: chainShared},
		{
			Table: r.table, Name: chainPostrouting, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: &before, Policy: &accept,
		},
	}
}

// create makes the table, or replaces what an earlier run has left of it, in one
// transaction: no packet sees it missing.
func (r ruleset) create(c Config, p *Plan, mapped []netip.Addr, old *leftover) error {
	kept := r.clear(old)
	for _, name := range counters {
		r.c.AddObj(&nftables.NamedObj{
			Table: r.table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{},
		})
	}
	slices, limited := r.slices(), r.limited()
	rates := &nftables.Set{
		Table: r.table, Name: setRates, KeyType: nftables.TypeIPAddr,
		Dynamic: true, HasTimeout: true, Timeout: rateMemory,
	}
	blocked := r.blocked()
	sets := []*nftables.Set{limited, rates, blocked}
	if !kept {
		sets = append(sets, slices)
	}
	for _, s := range sets {
		if err := r.c.AddSet(s, nil); err != nil {
			return err
		}
	}
	protocols := &nftables.Set{Table: r.table, Anonymous: true, Constant: true, KeyType: nftables.TypeInetProto}
	if err := r.c.AddSet(protocols, []nftables.SetElement{
		{Key: []byte{unix.IPPROTO_TCP}}, {Key: []byte{unix.IPPROTO_UDP}}, {Key: []byte{unix.IPPROTO_ICMP}},
	}); err != nil {
		return err
	}
	if err := r.add(slices, p, mapped); err != nil {
		return err
	}

	chains := r.chains()
	if !kept {
		for _, chain := range chains {
			r.c.AddChain(chain)
		}
	}
	forward, shared, postrouting := chains[0], chains[1], chains[2]

	outside := append(source(), masked(reg, c.Pool4)...)
	r.c.AddRule(&nftables.Rule{
		Table: r.table, Chain: forward,
		Exprs:    append(outside, different(c.Pool4.Addr().AsSlice()), verdict(expr.VerdictAccept, "")),
		UserData: userdata.AppendString(nil, userdata.TypeComment, mark),
	})
	translated := binaryutil.NativeEndian.PutUint32(statusConfirmed | statusSourceNAT)
	r.rule(forward, status(statusConfirmed|statusSourceNAT), equal(translated), verdict(expr.VerdictAccept, ""))
	r.rule(forward, status(statusConfirmed), different(make([]byte, 4)),
		count(counterUntranslatable), verdict(expr.VerdictDrop, ""))
	r.rule(forward, state(expr.CtStateBitNEW|expr.CtStateBitRELATED), equal(make([]byte, 4)),
		count(counterInvalid), verdict(expr.VerdictDrop, ""))
	// What is not in the map ends the rule. The comparison is always true: a map
	// can be looked into without using the value only since Linux 6.4.
	r.rule(forward, source(), lookup(slices), different(make([]byte, 16)), verdict(expr.VerdictGoto, chainShared))
	r.rule(forward, count(counterNoSlice), prohibited())

	r.rule(shared, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Lookup{SourceRegister: reg, SetName: protocols.Name, SetID: protocols.ID, Invert: true},
		count(counterProtocol), prohibited())
	// Too fast is dropped, not refused: the next try gets through, and a flood
	// uses up no ICMP errors of the host's, of which the kernel allows only so
	// many per second. So the rate comes first.
	if c.NewPerSecond > 0 {
		r.rule(shared, source(), &expr.Dynset{
			SrcRegKey: reg, SetName: setRates, SetID: rates.ID, Operation: unix.NFT_DYNSET_OP_UPDATE,
			Exprs: []expr.Any{&expr.Limit{
				Type: expr.LimitTypePkts, Rate: uint64(c.NewPerSecond), Unit: expr.LimitTimeSecond,
				Burst: uint32(c.NewPerSecond), Over: true,
			}},
		}, remember(limited), count(counterTooFast), verdict(expr.VerdictDrop, ""))
	}
	r.rule(shared, source(), &expr.Lookup{SourceRegister: reg, SetName: blocked.Name, SetID: blocked.ID},
		remember(limited), count(counterTooMany), prohibited())
	r.rule(shared, count(counterOpened))

	r.rule(postrouting, source(), lookup(slices), &expr.NAT{
		Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4,
		RegAddrMin: reg, RegProtoMin: unix.NFT_REG32_01, RegAddrMax: unix.NFT_REG32_02, RegProtoMax: unix.NFT_REG32_03,
	})
	return nil
}

// add puts mapped addresses into the map, leaving out those without a slice.
func (r ruleset) add(slices *nftables.Set, p *Plan, mapped []netip.Addr) error {
	var elements []nftables.SetElement
	for _, m := range mapped {
		shared, ports, ok := p.Slice(m)
		if !ok {
			continue
		}
		elements = append(elements, nftables.SetElement{Key: m.AsSlice(), Val: natRange(shared, ports)})
	}
	return inChunks(elements, func(e []nftables.SetElement) error { return r.c.SetAddElements(slices, e) })
}

// remove takes mapped addresses out of the map, in which they all must be.
func (r ruleset) remove(slices *nftables.Set, mapped []netip.Addr) error {
	var elements []nftables.SetElement
	for _, m := range mapped {
		elements = append(elements, nftables.SetElement{Key: m.AsSlice()})
	}
	return inChunks(elements, func(e []nftables.SetElement) error { return r.c.SetDeleteElements(slices, e) })
}

func inChunks(elements []nftables.SetElement, do func([]nftables.SetElement) error) error {
	for len(elements) > 0 {
		n := min(len(elements), maxElements)
		if err := do(elements[:n]); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return nil
}

// natRange is an element's value: what the nat expression wants in four
// registers: least address, least port, greatest address, greatest port.
func natRange(a netip.Addr, p Ports) []byte {
	b := make([]byte, 0, 16)
	for _, port := range []uint16{p.First, p.Last} {
		b = append(b, a.AsSlice()...)
		b = append(b, byte(port>>8), byte(port), 0, 0)
	}
	return b
}

// rule appends a rule; parts are expressions and lists of them.
func (r ruleset) rule(chain *nftables.Chain, parts ...any) {
	var exprs []expr.Any
	for _, p := range parts {
		switch p := p.(type) {
		case []expr.Any:
			exprs = append(exprs, p...)
		case expr.Any:
			exprs = append(exprs, p)
		}
	}
	r.c.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: exprs})
}

func source() []expr.Any {
	return []expr.Any{&expr.Payload{
		DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset, Len: addressLen,
	}}
}

func masked(register uint32, p netip.Prefix) []expr.Any {
	ones := ^uint32(0) << (32 - p.Bits())
	if p.Bits() == 0 {
		ones = 0
	}
	return []expr.Any{&expr.Bitwise{
		SourceRegister: register, DestRegister: register, Len: addressLen,
		Mask: binaryutil.BigEndian.PutUint32(ones), Xor: make([]byte, addressLen),
	}}
}

func status(mask uint32) []expr.Any { return ctBits(expr.CtKeySTATUS, mask) }
func state(mask uint32) []expr.Any  { return ctBits(expr.CtKeySTATE, mask) }

func ctBits(key expr.CtKey, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg},
		&expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4),
		},
	}
}

func equal(b []byte) expr.Any     { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: b} }
func different(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: b} }

func lookup(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: s.Name, SetID: s.ID}
}

func count(name string) expr.Any {
	return &expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}
}

func remember(s *nftables.Set) expr.Any {
	return &expr.Dynset{
		SrcRegKey: reg, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_UPDATE,
		Exprs: []expr.Any{&expr.Counter{}},
	}
}

func verdict(k expr.VerdictKind, chain string) expr.Any { return &expr.Verdict{Kind: k, Chain: chain} }

func prohibited() expr.Any {
	return &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: icmpProhibited}
}
