// Package explain tells what the translator does with one packet, and why.
//
//	hex, pcap, pcapng        config            the data plane's own calls
//	       |                   |
//	  hex.go, capture.go   translate.New -->  Trace    why
//	  link.go                  |              Decide   \
//	       |                   |              Fit       | what, exactly as a
//	       +---- IP packet ----+------------> Rewrite   | worker calls them
//	                                          Split     | (explain.go)
//	                                          Error    /
//	                                             |
//	                               Report: text.go for people, JSON for programs
//
// Nothing here decides anything about a packet: the steps are Translator.Trace's,
// and the bytes are those that the data plane would send. It needs neither root
// nor a running isthmus.
//
// Errors are sentences with what is wrong, where, and how to put it right.
package explain
