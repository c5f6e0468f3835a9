package nat44

import (
	"bytes"
	"errors"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// leftover is what an earlier run has left of our table.
type leftover struct {
	ours bool // our mark is on it
	fits bool // its chains and its map are as we would make them
	sets []*nftables.Set
	objs []nftables.Obj
}

// find looks at the table of our name; nil: there is none.
func (r ruleset) find() (*leftover, error) {
	tables, err := r.c.ListTablesOfFamily(r.table.Family)
	if err != nil || !slices.ContainsFunc(tables, func(x *nftables.Table) bool { return x.Name == r.table.Name }) {
		return nil, err
	}
	old := &leftover{}
	// Rules that can't be read are not ours.
	rules, err := r.c.GetRules(r.table, &nftables.Chain{Name: chainForward, Table: r.table})
	if errors.Is(err, unix.EPERM) {
		return nil, err
	}
	for _, rule := range rules {
		old.ours = old.ours || bytes.Contains(rule.UserData, []byte(mark))
	}
	if !old.ours {
		return old, nil
	}
	chains, err := r.c.ListChainsOfTableFamily(r.table.Family)
	if err != nil {
		return nil, err
	}
	sets, err := r.c.GetSets(r.table)
	if err != nil {
		return nil, err
	}
	if old.objs, err = r.c.GetObjects(r.table); err != nil {
		return nil, err
	}
	old.fits = r.sameChains(chains)
	found := false
	for _, s := range sets {
		switch want := r.slices(); {
		case s.Anonymous: // goes with its rule
		case s.Name == setSlices:
			found = true
			old.fits = old.fits && s.IsMap && !s.Dynamic && !s.HasTimeout && !s.Interval && !s.Constant &&
				s.KeyType.Bytes == want.KeyType.Bytes && s.DataType.Bytes == want.DataType.Bytes
		default:
			old.sets = append(old.sets, s)
		}
	}
	old.fits = old.fits && found
	return old, nil
}

// sameChains tells whether the table has our chains, and no others.
func (r ruleset) sameChains(all []*nftables.Chain) bool {
	want := map[string]*nftables.Chain{}
	for _, c := range r.chains() {
		want[c.Name] = c
	}
	for _, c := range all {
		if c.Table.Name != r.table.Name {
			continue
		}
		w := want[c.Name]
		delete(want, c.Name)
		switch {
		case w == nil, w.Type != c.Type, !same(w.Hooknum, c.Hooknum), !same(w.Priority, c.Priority), !same(w.Policy, c.Policy):
			return false
		}
	}
	return len(want) == 0
}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// clear begins a batch that replaces what is there.
//
// Where it can, it keeps the chains and the map, and puts new rules and new elements
// into them. A base chain that a batch removes runs its old rules until its hook is
// gone, but their sets are empty from the commit on: for that time the kernel would
// refuse each new connection as one without a slice. (nf_tables_commit_chain_prepare
// leaves out chains that go; seen with Linux 6.1 and 6.18.)
func (r ruleset) clear(old *leftover) (kept bool) {
	if old == nil || !old.fits {
		r.c.AddTable(r.table) // so that there is one to delete
		r.c.DelTable(r.table)
		r.c.AddTable(r.table)
		return false
	}
	r.c.FlushTable(r.table)
	for _, s := range old.sets {
		r.c.DelSet(s)
	}
	for _, o := range old.objs {
		r.c.DeleteObject(o)
	}
	r.c.FlushSet(r.slices())
	return true
}
