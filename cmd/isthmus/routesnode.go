package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/reach"
	"aarch64.com/isthmus/cmd/internal/version"
	"aarch64.com/isthmus/proxy"
	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/proof"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/visits"
)

// shared is what the services of one process have in common. It is made when the
// first one asks for it.
type shared struct {
	names []string // of the services
	node  *routesNode
}

// routesNode is this process's part in the store of routes. Web proxy and API of a
// process have one together, for a file of the engine bolt is one process's.
type routesNode struct {
	name    string
	serves  bool // visitors
	store   *lateStore
	table   *routes.Table
	mirror  *mirror.Mirror
	catalog *catalog.Catalog
	log     zerolog.Logger
	cancel  context.CancelFunc
	done    chan struct{} // closed when the mirror has ended

	mu      sync.Mutex
	vms     []netip.Prefix
	holders int
	ending  []<-chan struct{} // what uses the store until it is closed

	visits *visits.Counter
	others *visits.Exchange // of what is counted
	dns    *proof.DNS
}

// patienceAtStart is how long a start waits for the first routes.
const patienceAtStart = 5 * time.Second

// routes gives the process's part in the store, and what ends it for the service
// that asked. It is nil where the configuration has no store.
func (sh *shared) routes(c *config.Config, log zerolog.Logger) (n *routesNode, release func(), err error) {
	if !c.Routes.On() {
		return nil, func() {}, nil
	}
	if sh.node == nil {
		if w := sh.apart(c); w != "" {
			log.Warn().Msg(w)
		}
		if sh.node, err = startRoutes(c, slices.Contains(sh.names, "proxy"), log); err != nil {
			return nil, nil, err
		}
	}
	n = sh.node
	n.mu.Lock()
	n.holders++
	n.mu.Unlock()
	return n, sync.OnceFunc(n.release), nil
}

// apart warns of a file that two processes would want.
func (sh *shared) apart(c *config.Config) string {
	if c.Routes.Engine != config.EngineBolt || !c.Proxy.Listens() {
		return ""
	}
	const remedy = "; run both in one process with --only proxy,api, or use etcd"
	switch proxy, api := slices.Contains(sh.names, "proxy"), slices.Contains(sh.names, "api"); {
	case !api:
		return "routes: this process has no API, and no other process can have the file of its store" + remedy
	case !proxy:
		return "routes: this process serves no visitors, and no other process can have the file of its store" + remedy
	}
	return ""
}

// startRoutes opens the store and begins to follow it. One that serves visitors is
// announced as a node.
func startRoutes(c *config.Config, serves bool, log zerolog.Logger) (*routesNode, error) {
	name, err := nodeName(c)
	if err != nil {
		return nil, err
	}
	if c.Routes.Engine == config.EngineEtcd {
		// What is wrong with its files does not mend itself. It does not connect yet.
		s, err := openEngine(context.Background(), c)
		if err != nil {
			return nil, err
		}
		s.Close()
	}
	rule := reach.New(c.Proxy.VMPrefixes)
	n := &routesNode{
		name: name, serves: serves, table: &routes.Table{}, vms: c.Proxy.VMPrefixes, visits: visits.NewCounter(), log: log, done: make(chan struct{}),
		dns: proof.New(proof.Config{Resolvers: c.Routes.Resolvers, Allow: nameServerRule(c.Routes.NameServers)}),
	}
	n.store = openLate(func(ctx context.Context) (store.Store, error) { return openEngine(ctx, c) }, logTo(log))
	n.catalog = catalog.New(n.store, catalog.Options{
		Reach: rule.Check, VMs: c.Proxy.VMPrefixes, Look: n.dns.Texts, Hold: c.Routes.Hold, Grace: c.Routes.Grace, Audit: c.Routes.Audit,
	})
	node := catalog.Node{POP: c.POP, Version: version.Get().Version, Started: time.Now().UTC()}
	if serves {
		node.Name = name
	}
	n.mirror = mirror.New(mirror.Config{
		Open: n.store.opened, Disk: c.RoutesCopy(), Table: n.table, Reach: rule.Check, Node: node, Reconcile: c.Routes.Reconcile, Log: logTo(log),
	})
	n.others = visits.New(n.exchange(c))
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		defer close(n.done)
		var wait sync.WaitGroup
		wait.Go(func() { n.forget(ctx) })
		wait.Go(func() { n.others.Run(ctx) })
		n.mirror.Run(ctx)
		wait.Wait()
	}()
	return n, nil
}

// exchange says with whom visits are told. A file of the engine bolt is one process's.
func (n *routesNode) exchange(c *config.Config) visits.Config {
	out := visits.Config{
		Node:  n.name,
		Hosts: func(project string) iter.Seq[string] { return n.mirror.View().HostsOf(project) },
		Nodes: func() int { return n.mirror.Stats().Nodes },
	}
	if c.Routes.Engine == config.EngineEtcd {
		out.Store = n.store
	}
	if n.serves {
		out.Counter = n.visits
	}
	return out
}

// nameServerRule says which name servers may be asked.
func nameServerRule(besides []netip.Prefix) func(netip.Addr) error {
	return func(a netip.Addr) error {
		if slices.ContainsFunc(besides, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) }) {
			return nil
		}
		return proof.Public(a)
	}
}

// forgetEvery is how often visits of hosts that have no route are forgotten.
const forgetEvery = time.Hour

func (n *routesNode) forget(ctx context.Context) {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			now := n.table.Load()
			n.visits.Keep(func(host string) bool { return now.Get(host) != nil })
		case <-ctx.Done():
			return
		}
	}
}

// visited counts a request or connection for the owner of its route.
func (n *routesNode) visited(r *proxy.Record) {
	route := n.table.Load().Lookup(r.Host)
	if route == nil {
		return
	}
	failed := false
	switch r.Result {
	case proxy.Unreachable, proxy.SlowBackend, proxy.BrokenByVM, proxy.Forbidden:
		failed = true
	}
	n.visits.Add(route.Host, failed, r.Start.Add(r.Took))
}

// nodeName is what this host is called among those that share the store.
func nodeName(c *config.Config) (string, error) {
	if c.Routes.Node != "" {
		return c.Routes.Node, nil
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "", errors.Join(errors.New("this host has no name; set node in [routes]"), err)
	}
	return name, nil
}

// await waits until there are routes, for a while: who takes over from another
// process should have them.
func (n *routesNode) await() {
	select {
	case <-n.mirror.Ready():
	case <-time.After(patienceAtStart):
		why := ""
		if err := n.store.problem(); err != nil {
			why = ": " + err.Error()
		}
		n.log.Warn().Msgf("routes: nothing of the store yet%s; starting without its routes", why)
	}
}

// setVMs makes other prefixes those that VMs are in.
func (n *routesNode) setVMs(vms []netip.Prefix) {
	n.mu.Lock()
	same := slices.Equal(n.vms, vms)
	n.vms = vms
	n.mu.Unlock()
	if same {
		return
	}
	rule := reach.New(vms)
	n.catalog.SetReach(rule.Check, vms)
	n.mirror.SetReach(rule.Check)
}

// endsAfter has the store stay until a channel is closed, if that is soon.
func (n *routesNode) endsAfter(done <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ending = append(n.ending, done)
}

// goodbye is how long what uses the store may still take to end by itself. While the
// store is away, removing what was announced would take seconds; closing the store
// ends that, and the keys go with the process.
const goodbye = 200 * time.Millisecond

// release ends a service's use of it. With the last one, the routes stay as they
// are, the disk gets them, and the store is closed: another process can have it.
func (n *routesNode) release() {
	n.mu.Lock()
	n.holders--
	last, ending := n.holders == 0, append(n.ending, n.done)
	n.mu.Unlock()
	if !last {
		return
	}
	n.cancel()
	soon, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	for _, done := range ending {
		select {
		case <-done:
		case <-soon.Done():
		}
	}
	if err := n.store.Close(); err != nil {
		n.log.Warn().Msg(fmt.Sprintf("routes: close the store: %v", err))
	}
	for _, done := range ending {
		<-done
	}
}
