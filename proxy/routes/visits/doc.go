// Package visits counts how often hosts are visited, and adds up what all nodes
// have counted while somebody looks.
//
//	a page is opened ─▶ Exchange.Of ─▶ visits/wanted/PROJECT/PROCESS ─┐ every node
//	       ▲                                                          ▼ watches these
//	       └── Summary ◀── visits/counted/PROJECT/PROCESS ◀── Counter of each node
//
// All keys are announced, so that they go with the process that they are of. While
// nobody looks there are none, and nothing is written. Decision 018 has the figures.
package visits
