package ordering

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// Acquire and release as arm64 has them, of 32 bits: docs/arm64.md.
const (
	acquire = "LDARW"
	release = "STLRW"
)

// Check reads a package's source and the disassembly of a program that contains it,
// and lists what could be reordered:
//
//   - an index or flag that is accessed other than by LDAR and STLR, in the source
//     or in what became of it;
//   - a slot that is accessed before its ring's index was loaded, after it was
//     stored, or without that it is stored at all;
//   - a line of the source of which the program has nothing, so that nothing of it
//     was checked.
//
// Functions of some names may look into rings that stand still.
func Check(dir string, dump io.Reader, still ...string) ([]string, error) {
	s, err := readSource(dir)
	if err != nil {
		return nil, err
	}
	list, err := readDump(dump)
	if err != nil {
		return nil, err
	}
	found := slices.Clone(s.plain)
	met := map[line]bool{}
	for _, f := range list {
		found = append(found, s.check(f, met, slices.Contains(still, f.name))...)
	}
	for _, lines := range []map[line]bool{s.load, s.flags, s.store} {
		for l := range lines {
			if !met[l] {
				found = append(found, fmt.Sprintf("%v: the program has no code of it", l))
			}
		}
	}
	for l := range s.slots {
		if !met[l] {
			found = append(found, fmt.Sprintf("%v: the program has no code of it", l))
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// check looks at a function, with what the compiler has put into it.
func (s *source) check(f *function, met map[line]bool, still bool) (found []string) {
	has := map[line]map[string]bool{}
	rings := map[string]bool{}
	for _, c := range f.code {
		if has[c.line] == nil {
			has[c.line] = map[string]bool{}
		}
		has[c.line][c.op] = true
		if ring, ok := s.slots[c.line]; ok {
			rings[ring] = true
		}
	}
	say := func(l line, what string) { found = append(found, fmt.Sprintf("%v: %s", l, what)) }
	for l, ops := range has {
		met[l] = true
		if (s.load[l] || s.flags[l]) && !ops[acquire] {
			say(l, "an index or flag is loaded without "+acquire)
		}
		if s.store[l] && !ops[release] {
			say(l, "an index is stored without "+release)
		}
	}
	if still {
		return found
	}
	if len(rings) > 1 {
		return append(found, fmt.Sprintf("%s accesses slots of %v; with one ring for each function they can be told apart", f.name, slices.Sorted(maps.Keys(rings))))
	}
	isSlot := func(c *instruction) bool { return s.slots[c.line] != "" && c.memory() }
	isStore := func(c *instruction) bool { return s.store[c.line] && c.op == release }
	for i := range f.code {
		c := &f.code[i]
		switch {
		case isStore(c):
			for _, after := range f.reach(i, func(*instruction) bool { return false }) {
				if isSlot(after) {
					say(after.line, "a slot is accessed when its index has been stored")
				}
			}
		case isSlot(c):
			for _, after := range f.reach(i, isStore) {
				if s.load[after.line] && after.op == acquire {
					say(c.line, "a slot is accessed before its index is loaded")
				}
				if after.op == "RET" {
					say(c.line, "a slot is accessed, and its index is not stored")
				}
			}
		}
	}
	return found
}
