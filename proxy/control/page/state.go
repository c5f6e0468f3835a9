package page

import (
	"context"
	"fmt"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/store"
)

// state is how far a proxy has come, in words.
type state struct {
	Kind string // "ok", "wait", "bad", "off": its color and sign
	Text string
	More string // a sentence on why and what to do; may be empty
}

// nodes remembers what nodes have said, so that many who look are one to the store.
type nodes struct {
	asking chan struct{} // has a place for one who asks
	at     time.Time
	all    []catalog.Node
}

// nodesFresh is how old that may be.
const nodesFresh = time.Second

func (s *server) aliveNodes(ctx context.Context) ([]catalog.Node, error) {
	n := &s.nodes
	select {
	case n.asking <- struct{}{}:
		defer func() { <-n.asking }()
	case <-ctx.Done(): // the store keeps another one waiting
		return nil, ctx.Err()
	}
	if time.Since(n.at) >= nodesFresh {
		all, err := s.Catalog.Nodes(ctx)
		if err != nil {
			return nil, err
		}
		n.all, n.at = all, time.Now()
	}
	return n.all, nil
}

// liveOn counts the nodes that have applied a revision.
func liveOn(all []catalog.Node, r store.Revision) (n int) {
	for i := range all {
		if all[i].Applied >= r {
			n++
		}
	}
	return n
}

// stateOf says how far a proxy has come.
func stateOf(p *mirror.Proxy, nodes []catalog.Node) state {
	switch p.Reason {
	case mirror.Served:
		live := liveOn(nodes, p.Revision)
		switch {
		case len(nodes) == 0:
			return state{"wait", "Going live", "No hypervisor has reported yet."}
		case live < len(nodes):
			return state{"wait", fmt.Sprintf("Going live: %d of %s", live, plural(len(nodes), "hypervisor")), ""}
		case !p.Missing.IsZero():
			return state{"wait", "Live, but the TXT record is gone", p.Proxy.Problem}
		}
		return state{"ok", fmt.Sprintf("Live on %d of %s", live, plural(len(nodes), "hypervisor")), ""}
	case mirror.Off:
		return state{"off", "Switched off", "It is kept, but nobody is served. Edit it to switch it on."}
	case mirror.Unproven:
		if p.Proof == catalog.Lost {
			return state{"bad", "Not served: the TXT record is gone", "Put it back, then press “Check now”."}
		}
		return state{"wait", "Waiting for TXT record", "Add the TXT record to the DNS of your domain."}
	case mirror.Unreachable:
		return state{"bad", "Not served: no VM to lead to", upperFirst(p.Problem) + ". Edit it, and give the address of a VM of this project."}
	case mirror.NoProject:
		return state{"bad", "Not served: the project is gone", ""}
	}
	return state{"bad", "Not served", upperFirst(p.Problem)}
}

// summary is a list's states in numbers.
type summary struct {
	All, Live, Wait, Bad, Off int
}

func summarize(c mirror.Counts) summary {
	s := summary{All: c.All(), Live: c.Proxies[mirror.Served], Wait: c.Proxies[mirror.Unproven], Off: c.Proxies[mirror.Off]}
	s.Bad = s.All - s.Live - s.Wait - s.Off
	return s
}
