package kernelpath

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// closeSink makes the router drop UDP where it comes in from the hypervisor, so that
// what follows costs the path no CPU. The interface has counted it by then.
//
//	table netdev sink { chain in { type filter hook ingress device eth0 priority 0; meta l4proto udp drop } }
func closeSink(router *lab.Host) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(router.NS())))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	defer conn.CloseLasting()
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: sinkTable})
	chain := conn.AddChain(&nftables.Chain{
		Name: "in", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter, Device: "eth0",
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("drop small packets at the router: %w", err)
	}
	return nil
}

const sinkTable = "sink"
