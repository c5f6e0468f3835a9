package page

import (
	"context"
	"errors"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/visits"
)

// Mirror is what the page takes of a [mirror.Mirror].
type Mirror interface {
	View() *mirror.View
	WaitFor(context.Context, store.Revision) error
	Stats() mirror.Stats
}

// Config is what the page is told. Catalog, Mirror and Guard are required; the zero
// value of all else leaves out what it is for.
type Config struct {
	Catalog *catalog.Catalog
	Mirror  Mirror
	Guard   *access.Guard // the same one as the API's: a token revoked there ends here at once

	// Check looks into the DNS now, as that of the API does: for the TXT record,
	// storing what it proves, and for what leads visitors here.
	Check func(context.Context, catalog.Proxy) (catalog.Proxy, wire.Found, error)

	// CNAMEs are what CNAME records may lead to, one for each POP.
	CNAMEs []string

	// Visits says how much the hosts of a project have been visited.
	Visits func(project string) visits.Summary

	// Log gets what an operator should know.
	Log func(warn bool, message string)

	now       func() time.Time
	lookAgain time.Duration // pause between looks at the DNS while something is missing; 10 s
}

// sessionLife is when a session ends at the latest.
const sessionLife = 12 * time.Hour

// Bounds.
const (
	maxForm     = 64 << 10         // bytes of a form
	perPage     = 50               // lines of a list
	maxSessions = 50               // of one token: the oldest gives way
	perRequest  = 30 * time.Second // for what a page asks the store, and name servers
	perLook     = 20 * time.Second // at the DNS
	waitApplied = 2 * time.Second  // for the own copy to have what has just been changed
)

func (c *Config) check() error {
	if c.Catalog == nil || c.Mirror == nil || c.Guard == nil {
		return errors.New("the page needs the catalog of a store, a mirror of it and a guard")
	}
	if c.Log == nil {
		c.Log = func(bool, string) {}
	}
	if c.lookAgain == 0 {
		c.lookAgain = 10 * time.Second
	}
	if c.now == nil {
		c.now = time.Now
	}
	return nil
}
