// Package proxiestab has no code but a test of the proxies tab, end to end: a customer
// with Chromium, real name servers, real etcd, and isthmus on several hosts.
//
//	              the Internet: a router
//	   ┌────────────┬────┴──────┬─────────────────┐
//	visitor     resolver    root ns1 ns2      node0 … node4 ── etcd0 etcd1 etcd2
//	Chromium    unbound     nsd  nsd nsd      isthmus  └────── vm
//	IPv4 only   dual stack  dual stack        dual stack       IPv6 only
//
// The customer opens the page of one node, the one of another in a second tab, and the
// site itself. Name servers have public addresses, since isthmus asks no others; names
// are looked up from the root down.
//
// With ISTHMUS_SCREENSHOTS set to a directory, what Chromium shows is kept there.
package proxiestab
