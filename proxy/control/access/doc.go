// Package access says who asks, and what they may do: for the REST API and for the
// page alike.
//
//	Authorization: Bearer ─┐
//	cookie of the page ────┼─▶ Guard ─▶ Principal ─▶ May(verb, project)
//	Unix socket's peer ────┘
//
// A secret is remembered by what it hashes to (SHA-256), so that no comparison takes
// longer for a better guess, and secrets stay in nobody's memory; the catalog compares
// in constant time. A good answer of the store holds for [Fresh]: that is how much
// later than in the store a revoked token may end. Expiry needs no store, and ends a
// token to the moment.
package access
