// Package hosts finds the NAT64 addresses of names for software that DNS64 does
// not help, and keeps them as lines in /etc/hosts.
//
//	names: arguments, a preset, a log
//	   |
//	   |     servers of resolv.conf --- A, AAAA ---+
//	   v                                           v
//	Finder.Find  --- no AAAA of its own ---> Pref64.Embed ---> TCP probe ---> Report
//	                                             ^                              |
//	prefix: router advertisement, ipv4only.arpa -+                     lines    v
//	                                             File.Update: the block in /etc/hosts
//
// The name servers are asked directly. The system's resolver would read
// /etc/hosts, and the block would confirm itself.
//
// Sources: RFC 6052 (addresses), RFC 6147 (DNS64), RFC 7050 and RFC 8781 (the
// prefix), RFC 4861 (router solicitation), hosts(5), resolv.conf(5).
package hosts
