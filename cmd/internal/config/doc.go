// Package config reads the one configuration file of isthmus.
//
//	file ──parse──► tree ──decode──► Config ──check──► Config or Errors
//	       syntax,  every value       types, ranges,    what one key alone
//	       double   with its line     unknown keys      cannot tell
//	       keys     and column
//
// keys.go is the language: one entry per key with its type, default and
// meaning. Decoding, defaults, "did you mean", docs/config.md and
// deploy/isthmus.toml all come from that table, so they cannot disagree.
//
// The file is strict: a key that is not in the table is an error. Every error
// says file, line, column and key, what is wrong and what to do, and as many
// errors as there are come back at once.
//
// Ownership: a Config is built once and then only read. The package touches no
// state of the machine beyond reading the file: whether an interface exists or
// a port is free is for the caller to find out.
//
// Sources: TOML 1.0 (toml.io), RFC 6052 (pool6), RFC 7757 (eam), RFC 6791
// (icmp_source4, icmp_source6), RFC 7915 (the rest of [router]).
package config

//go:generate go run ../gendocs ../../..
