package nexthop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Config says what to mirror.
type Config struct {
	Ports    []string     // interface names of the AF_XDP ports; Hop.Port is an index into it
	OnChange func()       // called after each new Table but the first; may be nil
	Warn     func(string) // told once when a condition begins that makes forwarding slower; may be nil
}

// Mirror keeps a Table current. Open it on a thread in the network namespace
// that it shall mirror; Run may be called on any.
type Mirror struct {
	config Config
	handle *netlink.Handle
	events *nl.NetlinkSocket
	table  atomic.Pointer[Table]
	built  atomic.Uint64

	known map[neighbourKey]string // neighbours of the current table
	state kernelState
}

var groups = []uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
	unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
	unix.RTNLGRP_NEXTHOP,
}

// Open subscribes to the kernel's changes and builds the first Table.
func Open(c Config) (*Mirror, error) {
	m := &Mirror{config: c}
	var err error
	// Subscribing comes first: a change between it and the dump is seen.
	if m.events, err = nl.Subscribe(unix.NETLINK_ROUTE, groups...); err != nil {
		return nil, fmt.Errorf("subscribe to route changes: %w", err)
	}
	if err = m.events.SetReceiveTimeout(&unix.Timeval{Usec: pollInterval.Microseconds()}); err != nil {
		m.events.Close()
		return nil, fmt.Errorf("subscribe to route changes: %w", err)
	}
	if m.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		m.events.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := m.rebuild(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Table is the current table; load it once per batch.
func (m *Mirror) Table() *Table { return m.table.Load() }

// Builds counts the tables built so far.
func (m *Mirror) Builds() uint64 { return m.built.Load() }

// Close ends the subscription. Run must have returned.
func (m *Mirror) Close() {
	m.events.Close()
	m.handle.Close()
}

const (
	pollInterval    = 100 * time.Millisecond // how soon the end of the context is seen
	refreshInterval = 30 * time.Second       // how often neighbours in use are confirmed
	auditInterval   = time.Minute            // a dump without an event, should one have been lost
)

// Run follows the kernel until ctx ends. An error means that the kernel could
// not be asked; the last table stays in use.
func (m *Mirror) Run(ctx context.Context) error {
	var dirty bool
	var earliest time.Time // of the next dump: a large table is not dumped all the time
	refresh, audit := time.Now().Add(refreshInterval), time.Now().Add(auditInterval)
	for ctx.Err() == nil {
		wait := pollInterval
		if dirty {
			wait = min(wait, max(0, time.Until(earliest)))
		}
		changed, err := m.receive(wait)
		if err != nil {
			return err
		}
		dirty = dirty || changed
		now := time.Now()
		if now.After(refresh) {
			m.confirmNeighbours()
			refresh = now.Add(refreshInterval)
		}
		if (dirty && now.After(earliest)) || now.After(audit) {
			if err := m.rebuild(); err != nil {
				return err
			}
			dirty = false
			earliest = time.Now().Add(10 * time.Since(now))
			audit = time.Now().Add(auditInterval)
		}
	}
	return nil
}

// receive waits for events and tells whether one of them changes what the table
// says.
func (m *Mirror) receive(wait time.Duration) (bool, error) {
	fds := [1]unix.PollFd{{Fd: int32(m.events.GetFd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds[:], int(wait.Milliseconds())+1); n == 0 || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	msgs, _, err := m.events.Receive()
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case errors.Is(err, unix.ENOBUFS):
		return true, nil // events were lost: look at everything
	case err != nil:
		return false, fmt.Errorf("receive route changes: %w", err)
	}
	changed := false
	for i := range msgs {
		t := msgs[i].Header.Type
		if t != unix.RTM_NEWNEIGH && t != unix.RTM_DELNEIGH {
			changed = true
			continue
		}
		n, err := netlink.NeighDeserialize(msgs[i].Data)
		if err != nil {
			changed = true
			continue
		}
		changed = changed || m.neighbourChanged(n, t == unix.RTM_DELNEIGH)
	}
	return changed, nil
}

// neighbourChanged tells an address that appeared, moved or went from the many
// events in which only the reachability state ages.
func (m *Mirror) neighbourChanged(n *netlink.Neigh, deleted bool) bool {
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return false
	}
	old, known := m.known[neighbourKey{n.LinkIndex, addr.Unmap()}]
	if deleted || !usable(n) {
		return known
	}
	return !known || old != string(n.HardwareAddr)
}

// rebuild dumps the kernel's state and publishes a new table.
func (m *Mirror) rebuild() error {
	if err := m.dump(); err != nil {
		return err
	}
	t, err := build(&m.state, m.config.Ports)
	if err != nil {
		return err
	}
	m.known = neighbourSet(m.state.neighs)
	old := m.table.Swap(t)
	m.built.Add(1)
	if t.policy && (old == nil || !old.policy) && m.config.Warn != nil {
		m.config.Warn("the host has policy routing rules (ip rule): every translated packet takes the kernel's way, which is right but slower")
	}
	if old != nil && m.config.OnChange != nil {
		m.config.OnChange()
	}
	return nil
}

func (m *Mirror) dump() error {
	var err error
	ask := func(what string, f func() error) {
		if err != nil {
			return
		}
		// A dump that the kernel interrupted is incomplete; a second one
		// nearly always is not, and an event will ask for a third.
		for range 5 {
			if err = f(); !errors.Is(err, netlink.ErrDumpInterrupted) {
				break
			}
		}
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			err = nil
		}
		if err != nil {
			err = fmt.Errorf("list %s: %w", what, err)
		}
	}
	s := &m.state
	ask("links", func() (e error) { s.links, e = m.handle.LinkList(); return })
	ask("addresses", func() (e error) { s.addrs, e = m.handle.AddrList(nil, netlink.FAMILY_ALL); return })
	ask("neighbours", func() (e error) { s.neighs, e = m.handle.NeighList(0, netlink.FAMILY_ALL); return })
	ask("rules", func() (e error) { s.rules, e = m.handle.RuleList(netlink.FAMILY_ALL); return })
	s.routes = s.routes[:0]
	for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		ask("routes", func() error {
			rs, e := m.handle.RouteListFiltered(f, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
			for i := range rs {
				rs[i].Family = f
			}
			s.routes = append(s.routes, rs...)
			return e
		})
	}
	return err
}

// confirmNeighbours asks the kernel to probe the neighbours that packets may be
// using without the kernel seeing it. Without that an entry would grow stale
// and stay so, even when the machine behind it has gone (NTF_USE,
// net/core/neighbour.c).
func (m *Mirror) confirmNeighbours() {
	for i := range m.state.neighs {
		n := m.state.neighs[i]
		if n.State != netlink.NUD_STALE || !m.onPort(n.LinkIndex) {
			continue
		}
		n.Flags |= netlink.NTF_USE
		n.HardwareAddr = nil
		// A neighbour that vanished since the dump is no error.
		_ = m.handle.NeighSet(&n)
	}
}

func (m *Mirror) onPort(ifindex int) bool {
	for _, l := range m.state.links {
		if l.Attrs().Index == ifindex || l.Attrs().ParentIndex == ifindex {
			for _, p := range m.config.Ports {
				if l.Attrs().Name == p {
					return true
				}
			}
		}
	}
	return false
}
