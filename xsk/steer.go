package xsk

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Both include folders are Debian's; the one of the other architecture is
// simply not there.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -go-package xsk steer steer.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu

// tableSize is the most prefixes either table holds after aggregation. The
// kernel allocates per entry, so an empty table of this size costs nothing.
const tableSize = 1 << 21

// Tables are the destinations that the steering programs of all interfaces
// take: pool6 prefixes and mapped IPv4 prefixes, in two kernel maps.
type Tables struct {
	size          uint32
	pool6, mapped *ebpf.Map

	mu   sync.Mutex
	have []netip.Prefix // what the maps hold, sorted: IPv4, then IPv6
}

// NewTables makes empty tables: nothing is taken. Fails with ErrPermission or
// ErrUnsupported.
func NewTables() (*Tables, error) { return newTables(tableSize) }

func newTables(size uint32) (*Tables, error) {
	// Kernels before 5.11 charge maps to the locked-memory limit. Where that
	// can't be raised, making the map fails and says so.
	_ = rlimit.RemoveMemlock()
	spec, err := loadSteer()
	if err != nil {
		return nil, err
	}
	t := &Tables{size: size}
	if t.pool6, err = newTable(spec, steerMapPool6, size); err != nil {
		return nil, err
	}
	if t.mapped, err = newTable(spec, steerMapMapped4, size); err != nil {
		t.pool6.Close()
		return nil, err
	}
	return t, nil
}

func newTable(spec *ebpf.CollectionSpec, name string, size uint32) (*ebpf.Map, error) {
	s := spec.Maps[name]
	s.MaxEntries = size
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
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%s: %w: Linux 5.9 or newer with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS is needed: %w", what, ErrUnsupported, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Update makes the tables hold exactly these prefixes (after aggregation). New
// ones go in before old ones go out, so a destination that is in the old and in
// the new set is taken at every moment; only if there is no room for both do the
// old ones go first. More than fit are refused before anything is changed. After
// another error the tables hold some of each, and Update can be called again.
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
	four, six := Aggregate(mapped4), Aggregate(pool6)
	if n := max(len(four), len(six)); n > int(t.size) {
		return fmt.Errorf("steering: %d prefixes after aggregation: each table has room for %d", n, t.size)
	}
	want := slices.Concat(four, six) // sorted, since each is
	t.mu.Lock()
	defer t.mu.Unlock()
	add, del := difference(want, t.have), difference(t.have, want)
	err := t.add(add)
	if errors.Is(err, unix.ENOSPC) {
		if err = t.remove(del); err == nil {
			return t.add(difference(want, t.have))
		}
	}
	if err != nil {
		return err
	}
	return t.remove(del)
}

// add and remove keep count of what the maps hold, also when they fail halfway.
func (t *Tables) add(list []netip.Prefix) (err error) {
	done := 0
	for ; done < len(list); done++ {
		if err = t.put(list[done]); err != nil {
			err = explainBPF(fmt.Sprintf("steering: add %v", list[done]), err)
			break
		}
	}
	t.have = slices.Concat(t.have, list[:done])
	slices.SortFunc(t.have, netip.Prefix.Compare)
	return err
}

func (t *Tables) remove(list []netip.Prefix) (err error) {
	done := 0
	for ; done < len(list); done++ {
		if err = t.del(list[done]); err != nil {
			err = explainBPF(fmt.Sprintf("steering: remove %v", list[done]), err)
			break
		}
	}
	t.have = difference(t.have, list[:done])
	return err
}

// difference returns what is in a but not in b, both sorted.
func difference(a, b []netip.Prefix) (only []netip.Prefix) {
	for _, p := range a {
		for len(b) > 0 && b[0].Compare(p) < 0 {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != p {
			only = append(only, p)
		}
	}
	return only
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
