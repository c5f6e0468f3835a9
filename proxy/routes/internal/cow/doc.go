// Package cow has containers that are never changed, only followed by another that
// shares almost all memory with the one before (copy on write). Whoever reads one
// needs no lock and sees the same for as long as they look.
//
//	Map.Edit() ─▶ Set, Delete ... ─▶ Map()      List.Edit() ─▶ Set, Delete ... ─▶ List()
//
// An edit copies what it touches, once: one change of a hundred thousand entries
// costs a few KB, and filling an empty container costs about what Go's own do.
package cow

// edit stands for one edit: what has it as its owner may be written to by it.
// It has a byte so that no two have one address.
type edit struct{ _ byte }
