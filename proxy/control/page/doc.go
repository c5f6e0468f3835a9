// Package page is the web page of the proxies tab: for customers, what leads to
// their VMs and what is missing; for operators, projects and nodes.
//
//	browser ─▶ headers, cross-origin check ─▶ session ─▶ may they? ─▶ view ─┬▶ mirror.View: lists, states
//	                                                                       └▶ catalog: records, changes
//
// HTML comes from the server. A small script copies values and fetches the parts of
// a page that live anew ("?live"); without it everything works, but stands still
// until it is reloaded. Nothing is inline and nothing comes from elsewhere, so that
// the Content-Security-Policy can forbid both.
//
// A session is a token of the catalog, made by signing in with another one, and ends
// with that. The cookie holds its secret, no node has more, and so each node can
// answer each request.
package page
