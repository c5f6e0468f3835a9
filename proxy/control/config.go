package control

import (
	"context"
	"errors"
	"net/http"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
)

// Config is what a [Server] is told. Catalog, Mirror and Guard are required; the
// zero value of all else is its default.
type Config struct {
	// Listen may be empty: then there is only the Unix socket, see [Server.Local].
	Listen []Listen
	// Hosts are further names by which clients may call loopback listeners, which
	// answer to nothing else but localhost and loopback addresses.
	Hosts []string

	Catalog *catalog.Catalog
	Mirror  *mirror.Mirror
	Guard   *access.Guard // tells tokens; the page has the same one

	// Check looks into the DNS now, for the TXT record that proves a proxy's name
	// and for the CNAME record. It stores what the first one proves and gives what
	// is stored then; see [Look]. nil: nobody can ask for it.
	Check func(context.Context, catalog.Proxy) (catalog.Proxy, wire.Found, error)

	POPs   []string // of the cluster
	Domain string   // of the operator: POP.proxy.DOMAIN is what CNAME records lead to

	// Page answers whatever is not below /api/; nil: nothing is there.
	Page http.Handler

	Timeouts Timeouts

	// Log gets what an operator should know.
	Log func(warn bool, message string)

	shared    *shared // of the Server
	maxImport int64   // bytes
}

// Timeouts end what does not get on. 0 stands for the default.
type Timeouts struct {
	Header  time.Duration // until a request's header is there; 5 s
	Body    time.Duration // until its body is, but for an import; 10 s
	Request time.Duration // for what it asks for, but for everything at once; 30 s: name servers may be slow
	Idle    time.Duration // between requests of a connection; 1 min
	Applied time.Duration // for the own copy of the routes to have what was just changed; 2 s
}

func (t *Timeouts) setDefaults() {
	set := func(v *time.Duration, to time.Duration) {
		if *v <= 0 {
			*v = to
		}
	}
	set(&t.Header, 5*time.Second)
	set(&t.Body, 10*time.Second)
	set(&t.Request, 30*time.Second)
	set(&t.Idle, time.Minute)
	set(&t.Applied, 2*time.Second)
}

func (c *Config) check() error {
	if c.Catalog == nil || c.Mirror == nil || c.Guard == nil {
		return errors.New("the API needs the catalog of a store, a mirror of it and a guard")
	}
	for i := range c.Listen {
		if _, err := c.Listen[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// shared is what outlives a configuration.
type shared struct {
	nodes  *fresh[[]catalog.Node]
	tokens *fresh[[]catalog.Token]
	bulk   chan struct{} // one export or import at a time: each has everything in memory
}

// How old answers of the store may be that many ask for.
const (
	nodesFresh  = 200 * time.Millisecond
	tokensFresh = time.Second // the own node's changes are seen at once
)

func newShared() *shared {
	return &shared{newFresh[[]catalog.Node](nodesFresh), newFresh[[]catalog.Token](tokensFresh), make(chan struct{}, 1)}
}

func (c *Config) setDefaults(s *shared) {
	c.shared = s
	if c.maxImport == 0 {
		c.maxImport = maxImport
	}
	c.Timeouts.setDefaults()
	if c.Log == nil {
		c.Log = func(bool, string) {}
	}
}

// cnames are what CNAME records may lead to.
func (c *Config) cnames() []string {
	list := make([]string, len(c.POPs))
	for i, pop := range c.POPs {
		list[i] = pop + ".proxy." + c.Domain
	}
	return list
}
