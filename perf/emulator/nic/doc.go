// Package nic has tests for network cards with several queues: virtio-net in an
// emulated machine, whose cards eth0, eth1 and eth2 are joined by a bridge. They
// take these cards for themselves, so they run there alone (build tag nic; "make
// test-arm64" does it).
package nic
