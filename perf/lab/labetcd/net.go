package labetcd

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"aarch64.com/isthmus/perf/lab"
)

// joinedPort is a joined host's interface towards the cluster.
const joinedPort = "etcd"

// Join connects a host of the lab with the cluster's network: it gets the
// interface "etcd", an address and a route to all that have been joined.
func (c *Cluster) Join(h *lab.Host) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hosts[h].IsValid() {
		return fmt.Errorf("%s has been joined already", h.Name())
	}
	b := network.Addr().As16()
	n := len(c.hosts)
	b[6], b[7], b[15] = byte(n>>8), byte(n), 1
	gateway := netip.AddrFrom16(b)
	addr := gateway.Next()
	port := fmt.Sprintf("h%d", n)
	if err := c.lab.Link(c.Net, h, lab.LinkConfig{NameA: port, NameB: joinedPort, ChecksumOffload: true}); err != nil {
		return err
	}
	if err := c.Net.Addr(port, netip.PrefixFrom(gateway, 64).String()); err != nil {
		return err
	}
	if err := h.Addr(joinedPort, netip.PrefixFrom(addr, 64).String()); err != nil {
		return err
	}
	if err := h.Route(network.String(), gateway.String(), ""); err != nil {
		return err
	}
	if err := makeWall(h); err != nil {
		return fmt.Errorf("%s: make a table to cut it off with: %w", h.Name(), err)
	}
	c.hosts[h] = addr
	return nil
}

// Addr is a joined host's address in the cluster's network.
func (c *Cluster) Addr(h *lab.Host) netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts[h]
}

// Cut makes two hosts lose what they send each other, in silence, as a broken
// network does.
func (c *Cluster) Cut(a, b *lab.Host) error { return c.change(a, b, true) }

// Mend undoes Cut.
func (c *Cluster) Mend(a, b *lab.Host) error { return c.change(a, b, false) }

// Isolate cuts a host off from all others that have been joined.
func (c *Cluster) Isolate(h *lab.Host) error { return c.withOthers(h, true) }

// Rejoin undoes Isolate.
func (c *Cluster) Rejoin(h *lab.Host) error { return c.withOthers(h, false) }

func (c *Cluster) withOthers(h *lab.Host, cut bool) error {
	c.mu.Lock()
	var others []*lab.Host
	for o := range c.hosts {
		if o != h {
			others = append(others, o)
		}
	}
	c.mu.Unlock()
	for _, o := range others {
		if err := c.change(h, o, cut); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) change(a, b *lab.Host, cut bool) error {
	for _, p := range [][2]*lab.Host{{a, b}, {b, a}} {
		from := c.Addr(p[1])
		if !from.IsValid() {
			return fmt.Errorf("%s has not been joined to the cluster's network", p[1].Name())
		}
		if err := changeWall(p[0], from, cut); err != nil {
			return fmt.Errorf("cut %s off from %s: %w", p[0].Name(), p[1].Name(), err)
		}
	}
	return nil
}

// The wall of a host: what comes from addresses of a set is dropped.
//
//	table ip6 labetcd { set cut { type ipv6_addr }
//	    chain input { type filter hook input priority 0; ip6 saddr @cut drop } }
var (
	wallTable = &nftables.Table{Name: "labetcd", Family: nftables.TableFamilyIPv6}
	wallSet   = nftables.Set{Table: wallTable, Name: "cut", KeyType: nftables.TypeIP6Addr}
)

// sourceOffset is where an IPv6 header has its source address, RFC 8200.
const sourceOffset = 8

func makeWall(h *lab.Host) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(h.NS())))
	if err != nil {
		return err
	}
	conn.AddTable(wallTable)
	set := wallSet
	if err := conn.AddSet(&set, nil); err != nil {
		return err
	}
	chain := conn.AddChain(&nftables.Chain{
		Name: "input", Table: wallTable, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	conn.AddRule(&nftables.Rule{Table: wallTable, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset, Len: 16},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return conn.Flush()
}

func changeWall(h *lab.Host, from netip.Addr, cut bool) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(h.NS())))
	if err != nil {
		return err
	}
	// An element that is there, or not, would be an error to the kernel.
	set := wallSet
	there, err := conn.GetSetElements(&set)
	if err != nil {
		return err
	}
	element := nftables.SetElement{Key: from.AsSlice()}
	found := false
	for _, e := range there {
		found = found || string(e.Key) == string(element.Key)
	}
	switch {
	case found == cut:
		return nil
	case cut:
		err = conn.SetAddElements(&set, []nftables.SetElement{element})
	default:
		err = conn.SetDeleteElements(&set, []nftables.SetElement{element})
	}
	if err != nil {
		return err
	}
	return conn.Flush()
}
