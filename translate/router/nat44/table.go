package nat44

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Defaults of the zero values in Config.
const (
	DefaultTable          = "isthmus"
	DefaultPortsPerVM     = 256
	DefaultMaxConnections = 4000
	DefaultNewPerSecond   = 400
)

// Config says what is shared, and how much of it one VM may have.
type Config struct {
	Pool4     netip.Prefix // the mapped pool: sources that are translated
	Addresses []netip.Addr // the shared addresses, in this order; none: all new connections are refused until Update
	Mapped    []netip.Addr // VMs that are there from the start, see Table.Add

	PortsPerVM     int  // ports of a slice, MinPortsPerVM to MaxPortsPerVM; 0: DefaultPortsPerVM
	MaxConnections int  // of one VM at a time, enforced by Table.Run; 0: DefaultMaxConnections; negative: no limit
	NewPerSecond   int  // connections that one VM may open per second, and at once; 0: DefaultNewPerSecond; negative: no limit
	Keep           bool // Close leaves the table, so that connections outlive a restart

	Table string // name of the table (family ip); "": DefaultTable
}

// Errors of Open, for errors.Is.
var (
	ErrPermission  = errors.New("the capability CAP_NET_ADMIN is missing")
	ErrUnsupported = errors.New("the kernel lacks what address sharing needs")
	ErrForeign     = errors.New("the nftables table is somebody else's")
)

// Table is the nftables table, and who shares an address by it.
type Table struct {
	config    Config
	hostPorts []Ports
	home      netns.NsHandle
	flows     *conntrack
	count     *os.File // countFile
	rules     ruleset

	mu        sync.Mutex // guards what follows
	plan      *Plan
	mapped    map[netip.Addr]bool   // value: has a slice, and so is in the kernel's map
	over      []nftables.SetElement // VMs with too many connections
	forgotten uint64
	closed    bool
	keep      bool // see Config.Keep
	found     bool // there was one when it was opened
}

// Open makes the table in the network namespace of the calling thread, in one
// transaction. A table that an earlier run left is replaced, connections go on.
func Open(c Config) (t *Table, err error) {
	c.setDefaults()
	t = &Table{config: c, keep: c.Keep, home: netns.None(), mapped: map[netip.Addr]bool{}}
	made := false
	defer func() {
		if err != nil {
			if made && !t.found {
				t.rules.c.DelTable(t.rules.table)
				_ = t.rules.c.Flush()
			}
			t.release()
			t = nil
		}
	}()
	if t.hostPorts, err = HostPorts(); err != nil {
		return t, err
	}
	if t.plan, err = NewPlan(c.Pool4, c.Addresses, c.PortsPerVM, t.hostPorts...); err != nil {
		return t, err
	}
	if t.home, err = netns.Get(); err != nil {
		return t, fmt.Errorf("find the network namespace: %w", err)
	}
	if t.flows, err = openConntrack(); err != nil {
		return t, explain("open netlink", err)
	}
	// A connection of its own per transaction: after an error, answers are
	// left in it that would be taken for those of the next one.
	conn, err := nftables.New(nftables.WithNetNSFd(int(t.home)), nftables.WithSockOptions(bufferForBatch))
	if err != nil {
		return t, explain("open netlink", err)
	}
	t.rules = ruleset{c: conn, table: &nftables.Table{Name: c.Table, Family: nftables.TableFamilyIPv4}}
	old, err := t.rules.find()
	if err != nil {
		return t, explain("read table "+c.Table, err)
	}
	if old != nil && !old.ours {
		return t, fmt.Errorf("table ip %s exists, but without the comment %q: %w (see `nft list table ip %s`; delete it, or choose another name)",
			c.Table, mark, ErrForeign, c.Table)
	}
	t.found = old != nil
	for _, m := range c.Mapped {
		_, _, t.mapped[m] = t.plan.Slice(m)
	}
	if err := t.rules.create(c, t.plan, c.Mapped, old); err != nil {
		return t, fmt.Errorf("make table %s: %w", c.Table, err)
	}
	if err := conn.Flush(); err != nil {
		return t, explain("make table "+c.Table, err)
	}
	made = true
	// The file is there from the first rule about connections on.
	if t.count, err = openCount(); err != nil {
		return t, err
	}
	return t, t.forget(outside(t.plan))
}

// HostPorts are the host's own ports as the slices allow for them.
func (t *Table) HostPorts() []Ports { return t.hostPorts }

func (c *Config) setDefaults() {
	c.Addresses, c.Mapped = slices.Clone(c.Addresses), slices.Clone(c.Mapped)
	for v, d := range map[*int]int{
		&c.PortsPerVM: DefaultPortsPerVM, &c.MaxConnections: DefaultMaxConnections, &c.NewPerSecond: DefaultNewPerSecond,
	} {
		if *v == 0 {
			*v = d
		}
	}
	if c.Table == "" {
		c.Table = DefaultTable
	}
}

// bufferForBatch makes room for a batch with all slices that there can be.
func bufferForBatch(c *mdnetlink.Conn) error {
	if err := c.SetWriteBuffer(16 << 20); err != nil {
		return err
	}
	return c.SetReadBuffer(4 << 20)
}

// explain wraps an error of netlink with what to do about it.
func explain(what string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w: %w", what, ErrPermission, err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%s: %w: %w (Linux 5.10 or later with nf_tables, nft_chain_nat, nft_ct, nft_limit, nft_reject and nf_conntrack_netlink is needed; `modprobe -a` them)", what, ErrUnsupported, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Add lets VMs share an address: new connections from their mapped addresses
// are translated from now on. It must come before their first packet, which is
// refused otherwise. Those without a slice are refused, and are named by the
// error (ErrNoSlice); they get one when Update makes room. The others are added
// all the same, in one transaction. Adding twice is no error.
func (t *Table) Add(mapped ...netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errClosed
	}
	var added []netip.Addr
	var refused error
	for _, m := range mapped {
		if _, _, ok := t.plan.Slice(m); !ok {
			if refused == nil {
				refused = t.plan.noSlice(m)
			}
			if t.plan.pool.Contains(m) {
				t.mapped[m] = false
			}
		} else if !t.mapped[m] && !slices.Contains(added, m) {
			added = append(added, m)
		}
	}
	if len(added) == 0 {
		return refused
	}
	if err := t.rules.add(t.rules.slices(), t.plan, added); err != nil {
		return err
	}
	if err := t.rules.c.Flush(); err != nil {
		return explain("add to table "+t.config.Table, err)
	}
	for _, m := range added {
		t.mapped[m] = true
	}
	return refused
}

// Remove takes VMs out: new connections from their mapped addresses are refused
// and known ones forgotten, so that the addresses can be given to others.
// Removing what is not there is no error.
func (t *Table) Remove(mapped ...netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errClosed
	}
	var removed []netip.Addr
	gone := map[netip.Addr]bool{}
	for _, m := range mapped {
		if t.mapped[m] && !gone[m] {
			removed = append(removed, m)
			gone[m] = true
		}
	}
	if len(removed) > 0 {
		if err := t.rules.remove(t.rules.slices(), removed); err != nil {
			return err
		}
		if err := t.rules.c.Flush(); err != nil {
			return explain("remove from table "+t.config.Table, err)
		}
	}
	for _, m := range mapped {
		delete(t.mapped, m)
	}
	if len(gone) == 0 {
		return nil
	}
	return t.forget(func(f *flow) bool { return gone[f.source] })
}

// Update replaces the shared addresses: all slices change hands in one
// transaction. Connections through an address that is gone are forgotten.
// After an error about the addresses nothing has changed.
func (t *Table) Update(addresses []netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errClosed
	}
	if slices.Equal(addresses, t.plan.addresses) {
		return nil
	}
	plan, err := NewPlan(t.config.Pool4, addresses, t.config.PortsPerVM, t.hostPorts...)
	if err != nil {
		return err
	}
	set := t.rules.slices()
	t.rules.c.FlushSet(set)
	var all []netip.Addr
	for m := range t.mapped {
		all = append(all, m)
	}
	if err := t.rules.add(set, plan, all); err != nil {
		return err
	}
	if err := t.rules.c.Flush(); err != nil {
		return explain("update table "+t.config.Table, err)
	}
	t.plan = plan
	for _, m := range all {
		_, _, t.mapped[m] = plan.Slice(m)
	}
	return t.forget(outside(plan))
}

func (t *Table) forget(which func(*flow) bool) error {
	n, err := t.flows.forget(which)
	t.forgotten += uint64(n)
	if err != nil {
		return explain("conntrack", err)
	}
	return nil
}

// Plan tells whose ports are whose at the moment.
func (t *Table) Plan() *Plan {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.plan
}

// Slice is the shared address and the ports of a mapped address, see Plan.Slice.
func (t *Table) Slice(mapped netip.Addr) (shared netip.Addr, ports Ports, ok bool) {
	return t.Plan().Slice(mapped)
}

// Owner is the mapped address that a port of a shared address belongs to, see
// Plan.Owner.
func (t *Table) Owner(shared netip.Addr, port uint16) (mapped netip.Addr, ok bool) {
	return t.Plan().Owner(shared, port)
}

var errClosed = errors.New("address sharing is closed")

// ForGood makes Close remove the table, whatever Config.Keep says.
func (t *Table) ForGood() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep = false
}

// Found tells whether Open replaced a table that an earlier run had left.
func (t *Table) Found() bool { return t.found }

// Close removes the table, unless it is to be kept. Without it the kernel takes
// answers to the VMs for its own and resets their connections, so Keep is for a
// restart and its absence for the end.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	defer t.release()
	if t.keep {
		return nil
	}
	t.rules.c.DelTable(t.rules.table)
	// Somebody else may have removed it already.
	if err := t.rules.c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return explain("remove table "+t.config.Table, err)
	}
	return nil
}

func (t *Table) release() {
	if t.flows != nil {
		t.flows.close()
	}
	if t.count != nil {
		t.count.Close()
	}
	if t.home.IsOpen() {
		t.home.Close()
	}
}
