// Package mirror keeps a node's copy of everything in the store that serving takes,
// and makes routes of it.
//
//	store ─▶ List, Watch ─▶ apply ─┬▶ routes.Table ─▶ proxy
//	                               ├▶ View ─▶ API and page
//	disk copy ◀────────────────────┘
//
// Nothing that happens to the store takes a route away, but a commit: a store that
// is away leaves the last copy in force, from the disk too; one that has lost what
// the copy has, by a wipe or a mistaken address, is not believed until an operator
// says so ([catalog.Catalog.Accept]). docs/decisions/014-routes-store.md tells why.
//
// What is read concurrently is immutable ([View], [routes.Snapshot]), and one change
// costs some ten microseconds however much there is.
package mirror
