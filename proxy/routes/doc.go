// Package routes says which host name leads to which VM.
//
//	file, store ─▶ Snapshot ─▶ Table ─▶ proxy: Lookup(host)
//
// A [Snapshot] is immutable: whoever has one sees the same routes for as long as
// they look. A [Table] holds the one that counts. Replacing it takes effect for the
// next connection or request, and those that exist go on.
package routes
