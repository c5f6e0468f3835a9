// Package etcd is the store of a cluster: etcd, by its own client.
//
//	key k of the store ─▶ key Prefix+k of etcd; revisions are etcd's own
//
// A member that is down, frozen or cut off from the others is left within
// seconds: requests ask for a leader ("hasleader"), connections are dropped when
// what was sent is not acknowledged (TCP_USER_TIMEOUT), and each try of a read
// has a short time, after which the next member is asked. A commit is tried again
// only if a member has said that it did nothing about it.
//
// A watch is one gRPC stream. It asks for progress every two seconds, and ends if
// nothing comes back: who watches then begins again, with another member. Members
// before 3.5.8 may report progress ahead of changes that are still on their way
// (etcd issue 15220), so that from those it counts as a sign of life only.
//
// Announced keys hang on one lease of the process.
//
// Sources: etcd's API guarantees and gRPC reference (etcd.io/docs).
package etcd
