// Package proof asks the DNS whether a project may have a host name, and whether the
// name leads to the proxies.
//
//	_isthmus-challenge.www.shop.example TXT "…"   ─▶ DNS.Look   ─▶ catalog.RecordProof
//	www.shop.example CNAME dfw.proxy.example.com  ─▶ DNS.Points ─▶ what the page says
//
// The name servers of the name's zone are asked, all of them: a cache may be hours
// behind, and one server alone may be behind the others, or forged. The operator's
// resolver only tells which servers those are. It takes
//
//   - one that has the record and none that denies it, for a proof;
//   - one that denies it and none that has it, for its absence.
//
// Servers that fail say nothing: a proof does not end because somebody's name servers
// can't be reached.
//
// Whoever owns a zone decides which addresses are asked, so only public ones are, on
// port 53, and the number of questions has a bound.
//
// Sources: RFC 1034, 1035 (DNS), RFC 2308 (negative answers), RFC 5452 (forged
// answers), RFC 6891 (EDNS), RFC 7766 (TCP), RFC 6890 (special addresses).
package proof
