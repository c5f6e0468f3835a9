package labetcd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"aarch64.com/isthmus/perf/lab"
)

const (
	clientPort   = 2379
	peerPort     = 2380
	startTimeout = 60 * time.Second // of a cluster on a busy machine
	askTimeout   = 20 * time.Second // of one question to a cluster that has a leader
)

// network has a /64 for each host.
var network = netip.MustParsePrefix("2001:db8:e7cd::/48")

// Config says which cluster to start. Zero values are usable.
type Config struct {
	Program string // path of etcd; "": Debian's, see [Debian]
	Members int    // 0: 1
	Quota   int64  // bytes that each may store; 0: etcd's default, 2 GB

	TLS  bool // with certificates for members and clients, see Cluster.Files
	Auth bool // clients need Cluster.User and Cluster.Password

	Heartbeat time.Duration // between leader and followers; 0: 100 ms. A member that hears nothing for ten of them wants an election
	Flags     []string      // for etcd, besides those above
}

// Cluster is some members of one etcd cluster.
type Cluster struct {
	Members []*Member
	Net     *lab.Host // in the middle

	Files          Files  // paths of PEM files, if there is TLS
	User, Password string // if there is authentication

	lab    *lab.Lab
	config Config
	admin  *clientv3.Client

	mu    sync.Mutex
	hosts map[*lab.Host]netip.Addr // who has been joined
}

// Start makes the network and the members in the lab and waits until each
// answers. The caller closes the cluster before the lab.
func Start(l *lab.Lab, config Config) (c *Cluster, err error) {
	config.Members = max(config.Members, 1)
	if config.Heartbeat == 0 {
		config.Heartbeat = 100 * time.Millisecond
	}
	if config.Program == "" {
		if config.Program, err = Debian(); err != nil {
			return nil, err
		}
	}
	c = &Cluster{lab: l, config: config, hosts: map[*lab.Host]netip.Addr{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start etcd: %w", err), c.Close())
			c = nil
		}
	}()
	if c.Net, err = l.Host("etcdnet"); err != nil {
		return c, err
	}
	if err := c.Net.Sysctl("net.ipv6.conf.all.forwarding", "1"); err != nil {
		return c, err
	}
	for n := range config.Members {
		if err := c.addMember(n); err != nil {
			return c, err
		}
	}
	if config.TLS {
		if err := c.makeCertificates(); err != nil {
			return c, err
		}
	}
	if c.admin, err = c.Client(); err != nil {
		return c, err
	}
	for _, m := range c.Members {
		if err := m.launch(); err != nil {
			return c, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		return c, err
	}
	if config.Auth {
		if err := c.enableAuth(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Close kills the members.
func (c *Cluster) Close() error {
	var err error
	if c.admin != nil {
		if err = c.admin.Close(); errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	for _, m := range c.Members {
		m.Kill()
	}
	return err
}

// addMember makes the host of member n; nothing runs there yet.
func (c *Cluster) addMember(n int) error {
	h, err := c.lab.Host(fmt.Sprintf("etcd%d", n))
	if err != nil {
		return err
	}
	if err := c.Join(h); err != nil {
		return err
	}
	dir, err := h.Dir()
	if err != nil {
		return err
	}
	c.Members = append(c.Members, &Member{Host: h, Addr: c.Addr(h), cluster: c, dir: filepath.Join(dir, "data")})
	return nil
}

// Endpoints are the members as etcd's clients name them.
func (c *Cluster) Endpoints() []string {
	var list []string
	for _, m := range c.Members {
		list = append(list, m.Endpoint())
	}
	return list
}

// scheme is that of all URLs.
func (c *Cluster) scheme() string {
	if c.config.TLS {
		return "https"
	}
	return "http"
}

// initial is the members as they name each other at first.
func (c *Cluster) initial() string {
	var list []string
	for _, m := range c.Members {
		list = append(list, m.Name()+"="+m.url(peerPort))
	}
	return strings.Join(list, ",")
}

// WaitReady waits until every member that runs serves linearizable reads, and so
// knows a leader.
func (c *Cluster) WaitReady(ctx context.Context) error {
	errs := make([]error, len(c.Members))
	var all sync.WaitGroup
	for n, m := range c.Members {
		if m.Running() {
			all.Go(func() { errs[n] = m.WaitReady(ctx) })
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// Leader waits for a leader that a majority acknowledges, of those members that
// can be asked, and returns it.
func (c *Cluster) Leader(ctx context.Context) (*Member, error) {
	for {
		if m := c.elected(ctx); m != nil {
			return m, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no leader among %d members: %w", len(c.Members), context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// elected asks all members at once who leads.
func (c *Cluster) elected(ctx context.Context) *Member {
	says := make([]*clientv3.StatusResponse, len(c.Members))
	var all sync.WaitGroup
	for n, m := range c.Members {
		if m.Running() {
			all.Go(func() {
				if s, err := m.Status(ctx); err == nil {
					says[n] = s
				}
			})
		}
	}
	all.Wait()
	votes := map[uint64]int{}
	for _, s := range says {
		if s != nil {
			votes[s.Leader]++
		}
	}
	for n, s := range says {
		if s != nil && 2*votes[s.Header.MemberId] > len(c.Members) {
			return c.Members[n]
		}
	}
	return nil
}
