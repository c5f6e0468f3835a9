package dynamic

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"aarch64.com/isthmus/translate"
)

// Config says who gets addresses, and which.
type Config struct {
	Pool4  netip.Prefix // addresses to give; the first and last of a pool under /31 are left out
	Static []translate.EAM
	Idle   time.Duration // a mapping unused for so long is forgotten
	// MaxPer64 is how many addresses one /64, which often is one host, may
	// have at a time. 0: no bound.
	MaxPer64  int
	StateFile string // "": nothing is kept across restarts
	// Limit is how many addresses of the pool, counted from its first, may be
	// given. 0: all.
	Limit int
}

// Errors of Assign.
var (
	ErrExhausted = errors.New("every address of the pool is given away")
	ErrTooMany   = errors.New("its /64 has as many addresses as it may")
)

// Errors of Add and Remove.
var (
	ErrTaken   = errors.New("taken")
	ErrUnknown = errors.New("no such mapping")
)

// Entry is one mapping.
type Entry struct {
	IPv6    netip.Addr `json:"ipv6"`
	IPv4    netip.Addr `json:"ipv4"`
	Created time.Time  `json:"created"`
	Used    time.Time  `json:"used"`   // when it was last known to be in use, give or take an epoch
	Pinned  bool       `json:"pinned"` // made by hand: never forgotten
}

// Map is the pool and who has what of it.
type Map struct {
	config Config
	epoch  time.Duration
	now    func() time.Time

	mu      sync.Mutex
	by6     map[netip.Addr]*host
	by4     map[netip.Addr]*host
	per64   map[netip.Prefix]int
	changed chan struct{}
}

type host struct {
	Entry
	active bool
}

// epochsPerIdle is how exact idle times are.
const epochsPerIdle = 8

// New makes a Map from what the state file holds. A state file that can't be used
// is set aside under another name, which problem tells; the Map is then empty.
// An error means that the Config is wrong or the file can't be read at all.
func New(c Config) (m *Map, problem, err error) {
	switch {
	case !c.Pool4.IsValid() || !c.Pool4.Addr().Is4():
		return nil, nil, fmt.Errorf("pool4 %v is no IPv4 prefix", c.Pool4)
	case c.Pool4 != c.Pool4.Masked():
		return nil, nil, fmt.Errorf("pool4 %v has bits behind its length; write %v", c.Pool4, c.Pool4.Masked())
	case c.Pool4.Bits() < 8:
		return nil, nil, fmt.Errorf("pool4 %v is too large; give /8 or less", c.Pool4)
	case c.Idle <= 0:
		return nil, nil, fmt.Errorf("idle time %v; give more than 0", c.Idle)
	}
	m = &Map{
		config: c, epoch: c.Idle / epochsPerIdle, now: time.Now,
		by6: map[netip.Addr]*host{}, by4: map[netip.Addr]*host{}, per64: map[netip.Prefix]int{},
		changed: make(chan struct{}, 1),
	}
	if c.StateFile == "" {
		return m, nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(c.StateFile), 0o700); err != nil {
		return nil, nil, fmt.Errorf("state directory: %w; make it writable or choose another [router] state_dir", err)
	}
	entries, problem, err := load(c.StateFile)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		// Another pool, or a static mapping, since the file was written.
		if m.usable(e.IPv4) && m.by6[e.IPv6] == nil && m.by4[e.IPv4] == nil {
			m.put(&host{Entry: e})
		}
	}
	return m, problem, nil
}

// Epoch is how often Age wants to be called.
func (m *Map) Epoch() time.Duration { return m.epoch }

// Pool is the prefix that addresses come from.
func (m *Map) Pool() netip.Prefix { return m.config.Pool4 }

// usable tells whether the pool may give an address away.
func (m *Map) usable(a netip.Addr) bool {
	p := m.config.Pool4
	if !p.Contains(a) {
		return false
	}
	if m.config.Limit > 0 && int(index(p, a)) >= m.config.Limit {
		return false
	}
	if p.Bits() < 31 && (a == p.Addr() || !p.Contains(a.Next())) {
		return false
	}
	return !slices.ContainsFunc(m.config.Static, func(e translate.EAM) bool { return e.IPv4.Contains(a) })
}

// index is the place of an address in a prefix.
func index(p netip.Prefix, a netip.Addr) uint32 {
	first, at := p.Addr().As4(), a.As4()
	return binary.BigEndian.Uint32(at[:]) - binary.BigEndian.Uint32(first[:])
}

func prefix64(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 64).Masked() }

func (m *Map) put(h *host) {
	m.by6[h.IPv6], m.by4[h.IPv4] = h, h
	m.per64[prefix64(h.IPv6)]++
}

func (m *Map) drop(h *host) {
	delete(m.by6, h.IPv6)
	delete(m.by4, h.IPv4)
	if p := prefix64(h.IPv6); m.per64[p] <= 1 {
		delete(m.per64, p)
	} else {
		m.per64[p]--
	}
}

// touch tells that the state file is out of date.
func (m *Map) touch() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Assign gives a host its address: the one it has, or a new one. woken tells that
// its mapping was not active before. Errors: ErrExhausted, ErrTooMany.
func (m *Map) Assign(six netip.Addr) (four netip.Addr, woken bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.by6[six]; h != nil {
		woken = !h.active
		m.wake(h)
		return h.IPv4, woken, nil
	}
	if m.config.MaxPer64 > 0 && m.per64[prefix64(six)] >= m.config.MaxPer64 {
		return four, false, ErrTooMany
	}
	four, ok := m.free(six)
	if !ok {
		return four, false, ErrExhausted
	}
	now := m.now()
	m.put(&host{Entry: Entry{IPv6: six, IPv4: four, Created: now, Used: now}, active: true})
	m.touch()
	return four, true, nil
}

// Wake makes the mapping of a pool address active again, if there is one: a
// packet to it has come.
func (m *Map) Wake(four netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.by4[four]
	if h != nil {
		m.wake(h)
	}
	return h != nil
}

func (m *Map) wake(h *host) {
	h.active, h.Used = true, m.now()
}

// free looks for an address from where the hash of the host's own leads.
func (m *Map) free(six netip.Addr) (netip.Addr, bool) {
	hash := fnv.New64a()
	b := six.As16()
	hash.Write(b[:])
	size := uint64(1) << (32 - m.config.Pool4.Bits())
	if m.config.Limit > 0 {
		size = min(size, uint64(m.config.Limit))
	}
	base := m.config.Pool4.Addr().As4()
	first := uint64(binary.BigEndian.Uint32(base[:]))
	// The high half of the product is uniform over the pool.
	at, _ := bits.Mul64(hash.Sum64(), size)
	for range size {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(first+at))
		if four := netip.AddrFrom4(a); m.by4[four] == nil && m.usable(four) {
			return four, true
		}
		at = (at + 1) % size
	}
	return netip.Addr{}, false
}

// Add maps by hand. The IPv4 address must be of the pool, and both unused:
// ErrTaken.
func (m *Map) Add(six, four netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !six.Is6() || six.Is4In6() || six.Zone() != "":
		return fmt.Errorf("%v is no IPv6 address", six)
	case !m.usable(four):
		return fmt.Errorf("%v can't be given: it is not an address for a host in %v, or a static mapping has it", four, m.config.Pool4)
	}
	if h := m.by4[four]; h != nil && h.IPv6 != six {
		return fmt.Errorf("%v is %w by %v; remove that mapping first", four, ErrTaken, h.IPv6)
	}
	if h := m.by6[six]; h != nil && h.IPv4 != four {
		return fmt.Errorf("%v is %w: it has %v; remove that mapping first", six, ErrTaken, h.IPv4)
	}
	now := m.now()
	h := m.by6[six]
	if h == nil {
		h = &host{Entry: Entry{IPv6: six, IPv4: four, Created: now}}
		m.put(h)
	}
	h.Pinned = true
	m.wake(h)
	m.touch()
	return nil
}

// Remove forgets the mapping of an address of either family, and tells the
// address that is free again: ErrUnknown.
func (m *Map) Remove(a netip.Addr) (four netip.Addr, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.by6[a]
	if h == nil {
		h = m.by4[a]
	}
	if h == nil {
		return four, fmt.Errorf("%w for %v", ErrUnknown, a)
	}
	m.drop(h)
	m.touch()
	return h.IPv4, nil
}

// Age ends an epoch: what was idle for too long is forgotten, and everything else
// sleeps until its next packet. It returns the addresses that are free again.
func (m *Map) Age() (freed []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	for _, h := range m.by6 {
		if h.active {
			h.Used, h.active = now, h.Pinned
			continue
		}
		if !h.Pinned && now.Sub(h.Used) >= m.config.Idle {
			m.drop(h)
			freed = append(freed, h.IPv4)
		}
	}
	m.touch()
	return freed
}

// Active are the mappings in use, for the Translator, in order of their IPv6
// addresses.
func (m *Map) Active() []translate.EAM {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []translate.EAM
	for _, h := range m.by6 {
		if h.active {
			out = append(out, translate.EAM{IPv6: netip.PrefixFrom(h.IPv6, 128), IPv4: netip.PrefixFrom(h.IPv4, 32)})
		}
	}
	slices.SortFunc(out, func(a, b translate.EAM) int { return a.IPv6.Addr().Compare(b.IPv6.Addr()) })
	return out
}

// List are all mappings, in order of their IPv4 addresses.
func (m *Map) List() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Entry, 0, len(m.by6))
	for _, h := range m.by6 {
		out = append(out, h.Entry)
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Or(a.IPv4.Compare(b.IPv4), a.IPv6.Compare(b.IPv6)) })
	return out
}

// Host is who has an address of the pool.
func (m *Map) Host(four netip.Addr) (six netip.Addr, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.by4[four]
	if h == nil {
		return six, false
	}
	return h.IPv6, true
}

// Len is the number of mappings.
func (m *Map) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.by6)
}
