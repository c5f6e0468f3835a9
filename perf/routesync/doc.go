// Package routesync measures how soon a change of the proxies tab is served
// everywhere, with real processes: etcd, isthmus on several hosts, a VM.
//
//	API of node0 ─▶ etcd0 etcd1 etcd2 ─▶ node0 … node4 ─▶ vm
//	     ▲                                    ▲
//	     └── this process changes a route ────┴── and asks each node for it
//
// The time runs from the API's answer to the first right answer of the slowest
// node. What one more node costs etcd is measured with watchers of the store, each
// with a connection of its own, as a node has.
package routesync
