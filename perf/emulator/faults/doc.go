// Package faults has tests that go wrong, to see that package emulator says so
// (build tag faults). They crash the machine they run on.
package faults
