// Package labetcd runs clusters of etcd in a lab: real servers, one network
// namespace each, that can be killed, stopped, frozen, cut off and filled up.
//
//	etcd0 --- etcdnet --- etcd2      members, and whoever has been joined:
//	etcd1 ---/       \--- node0      2001:db8:e7cd:N::2, with a route to all
//
// The host in the middle forwards and is never cut off from anybody; what this
// package itself asks of the cluster is asked from there.
//
// Which etcd: [Debian] is the one in PATH, [Build] compiles the current one from
// its Go module, which perf/tools/etcd pins so that its dependencies stay out of
// the main module.
//
// Ownership: members are children of this process and go with the lab. Their
// files are in the lab's directory, which is memory on most machines.
//
// Sources: etcd's operations guide (etcd.io/docs), nft(8).
package labetcd
