// Package bolt is the store of one process: a file, by go.etcd.io/bbolt.
//
//	Commit ─▶ queue ─▶ one writer ─▶ bbolt transaction ─▶ fsync ─▶ answers, watchers
//	                   all that wait
//
// Who commits while the writer is busy waits for its next round, which carries out
// all that have come, each with a revision of its own, and syncs once.
//
// Three buckets:
//
//	meta     format, newest revision, newest revision whose changes are forgotten
//	entries  key ▶ revisions, flags, value
//	history  revision ▶ its changes with their values; the newest ones, see Options
//
// Watchers read history, so that one which comes back goes on where it was.
// Records have checksums: what the disk has spoiled is an error, and so is a file
// that is cut short. Nothing is repaired by leaving something out.
//
// The file belongs to one process, by flock(2). It is mapped whole, with room to
// grow, so that a reader never keeps the writer from growing it.
package bolt
