package xsk

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Both include folders are Debian's; the one of the other architecture is
// simply not there.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -go-package xsk steer steer.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu

// tableSize is the most prefixes a table holds after aggregation. The kernel
// allocates per entry, so an empty table of this size costs nothing.
const tableSize = 1 << 21

// Tables are the destinations that the steering programs of all interfaces
// take: pool6 prefixes and mapped IPv4 prefixes, in two kernel maps.
type Tables struct {
	mu            sync.Mutex
	pool6, mapped *ebpf.Map
	have          map[netip.Prefix]bool
}

// NewTables makes empty tables: nothing is taken. Fails with ErrPermission or
// ErrUnsupported.
func NewTables() (*Tables, error) {
	// Kernels before 5.11 charge maps to the locked-memory limit. Where that
	// can't be raised, making the map fails and says so.
	_ = rlimit.RemoveMemlock()
	spec, err := loadSteer()
	if err != nil {
		return nil, err
	}
	t := &Tables{have: map[netip.Prefix]bool{}}
	if t.pool6, err = newTable(spec, steerMapPool6); err != nil {
		return nil, err
	}
	if t.mapped, err = newTable(spec, steerMapMapped4); err != nil {
		t.pool6.Close()
		return nil, err
	}
	return t, nil
}

func newTable(spec *ebpf.CollectionSpec, name string) (*ebpf.Map, error) {
	s := spec.Maps[name]
	s.MaxEntries = tableSize
	m, err := ebpf.NewMap(s)
	if err != nil {
		return nil, explainBPF("make steering table "+name, err)
	}
	return m, nil
}

// explainBPF adds to an error of bpf(2) what is missing and what to do.
func explainBPF(what string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: %w: give the process CAP_BPF and CAP_NET_ADMIN (CAP_SYS_ADMIN before Linux 5.8; before 5.11 also raise the locked-memory limit): %w", what, ErrPermission, err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%s: %w: Linux 5.9 or newer with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS is needed: %w", what, ErrUnsupported, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Update makes the tables hold exactly these prefixes (after aggregation). New
// ones go in before old ones go out, so a destination that is in the old and in
// the new set is taken at every moment. After an error the tables hold some of
// each; Update can be called again.
func (t *Tables) Update(pool6, mapped4 []netip.Prefix) error {
	for _, p := range pool6 {
		if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() {
			return fmt.Errorf("steering: pool6 prefix %v isn't IPv6", p)
		}
	}
	for _, p := range mapped4 {
		if !p.IsValid() || !p.Addr().Is4() {
			return fmt.Errorf("steering: mapped prefix %v isn't IPv4", p)
		}
	}
	want := append(Aggregate(pool6), Aggregate(mapped4)...)
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := make(map[netip.Prefix]bool, len(want))
	for _, p := range want {
		keep[p] = true
		if t.have[p] {
			continue
		}
		if err := t.put(p); err != nil {
			return explainBPF(fmt.Sprintf("steering: add %v (of %d prefixes; room is for %d)", p, len(want), tableSize), err)
		}
		t.have[p] = true
	}
	for p := range t.have {
		if keep[p] {
			continue
		}
		if err := t.del(p); err != nil {
			return explainBPF(fmt.Sprintf("steering: remove %v", p), err)
		}
		delete(t.have, p)
	}
	return nil
}

func (t *Tables) put(p netip.Prefix) error {
	if p.Addr().Is4() {
		return t.mapped.Put(steerLpm4{Bits: uint32(p.Bits()), Addr: p.Addr().As4()}, uint8(1))
	}
	return t.pool6.Put(steerLpm6{Bits: uint32(p.Bits()), Addr: p.Addr().As16()}, uint8(1))
}

func (t *Tables) del(p netip.Prefix) error {
	if p.Addr().Is4() {
		return t.mapped.Delete(steerLpm4{Bits: uint32(p.Bits()), Addr: p.Addr().As4()})
	}
	return t.pool6.Delete(steerLpm6{Bits: uint32(p.Bits()), Addr: p.Addr().As16()})
}

// Close drops our reference; programs that use the tables keep theirs.
func (t *Tables) Close() error {
	return errors.Join(t.pool6.Close(), t.mapped.Close())
}
