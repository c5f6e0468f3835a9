// Package catalog is what is stored about projects and their proxies, and the rules
// that hold between them: who may have a host name, and what changes together.
//
//	Catalog (operations, compare and set) ─▶ store.Store
//
// Each record is one key with a JSON value. The host name is a proxy's key, so that
// a cluster has each name once. Whoever reads takes unknown fields in silence, for
// nodes of several versions live side by side.
package catalog

import (
	"net/netip"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Prefixes of keys. What a node that serves needs is all below Serving, so that it
// watches nothing else, but for who wants visits.
const (
	Serving       = "s/"
	ProjectPrefix = Serving + "project/" // + name
	ProxyPrefix   = Serving + "proxy/"   // + host
	TokenPrefix   = "token/"             // + ID
	TrustPrefix   = "trust/"             // + domain
	HoldPrefix    = "hold/"              // + host
	AuditPrefix   = "audit/"             // + time, ID
	NodePrefix    = "node/"              // + name; announced
	LockPrefix    = "lock/"              // + name; announced: who does what one node does for all
	WantedPrefix  = visits + "wanted/"   // + project, process; announced: who shows the visits of a project
	CountedPrefix = visits + "counted/"  // + project, process; announced: Visits, while somebody wants them
)

// Meta is who made a record, and when.
type Meta struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"` // ID of a token, or what an operator is called
	Changed   time.Time `json:"changed"`
	ChangedBy string    `json:"changed_by"`

	// Revision is that of the last change; it is not part of the value.
	Revision store.Revision `json:"-"`
	// Since is the revision that made the record; not part of the value, too.
	Since store.Revision `json:"-"`
}

// Project is a customer's, with the prefixes its VMs are in.
type Project struct {
	Meta
	Name string `json:"name"` // [a-z0-9-], at most 63
	// ID is random, and tells a project from an earlier one of its name, so that
	// that one's tokens, trust and TXT records are worth nothing to it.
	ID       string         `json:"id"`
	Title    string         `json:"title,omitempty"`
	Prefixes []netip.Prefix `json:"prefixes"`
	Proxies  int            `json:"max_proxies,omitempty"` // at most; 0: DefaultMaxProxies
}

// DefaultMaxProxies is how many proxies a project may have if nobody says.
const DefaultMaxProxies = 1000

// Proof is how far it is shown that a project may have a host name.
type Proof string

// States of proof. Only Proven and Trusted ones are served.
const (
	Pending Proof = "pending" // the TXT record has not been seen yet
	Proven  Proof = "proven"  // it has
	Trusted Proof = "trusted" // an operator vouches for the domain
	Lost    Proof = "lost"    // it had been seen, and is gone for longer than the time of grace
)

// Serves tells whether visitors may be served.
func (p Proof) Serves() bool { return p == Proven || p == Trusted }

// Proxy is one line of the proxies tab: a host name and where it leads.
type Proxy struct {
	Meta
	Host     string       `json:"host"` // canonical, or "*." and one: see routes.Route
	Project  string       `json:"project"`
	Backends []netip.Addr `json:"backends"`
	HTTP     uint16       `json:"http"`           // port on the VM; 0: not served
	HTTPS    uint16       `json:"https"`          // port on the VM; 0: not served
	Header   string       `json:"proxy_protocol"` // "off", "v1", "v2"
	Off      bool         `json:"off,omitempty"`  // kept, but not served

	Proof     Proof     `json:"proof"`
	Challenge string    `json:"challenge"`         // what the TXT record has to say
	Seen      time.Time `json:"seen,omitzero"`     // TXT record last found; written now and then only
	Checked   time.Time `json:"checked,omitzero"`  // last looked for; the same
	Missing   time.Time `json:"missing,omitzero"`  // since when name servers say that it is gone
	Problem   string    `json:"problem,omitempty"` // why it was not found, for the customer

	// Edited is the revision of the last change by people, if the last one of all
	// was a look at the DNS, or else 0: that look shall not spoil an If-Match.
	Edited store.Revision `json:"edited,omitempty"`
}

// Verb is what a token may do.
type Verb string

// Verbs. Each includes those before it.
const (
	Read     Verb = "read"
	Write    Verb = "write"
	Operator Verb = "operator" // everything, in all projects
)

// Token is a key to the API. Its secret is never stored, only what it hashes to.
type Token struct {
	Meta
	ID      string `json:"id"`
	Name    string `json:"name"`
	Project string `json:"project,omitempty"` // "": all, for operators only
	// ProjectID is the project's ID at that time.
	ProjectID string    `json:"project_id,omitempty"`
	Verb      Verb      `json:"verb"`
	Hash      []byte    `json:"hash"` // SHA-256 of the secret, which has 256 bits
	Expires   time.Time `json:"expires,omitzero"`
	Parent    string    `json:"parent,omitempty"` // of a session of the page: the token that signed in
}

// Trust is an operator's word that a project may have all names in a domain.
type Trust struct {
	Meta
	Domain    string `json:"domain"`
	Project   string `json:"project"`
	ProjectID string `json:"project_id"`
}

// Hold keeps a released host name from other projects for a while.
type Hold struct {
	Host    string    `json:"host"`
	Project string    `json:"project"` // which may have it back at once
	Until   time.Time `json:"until"`
}

// Audit is one change: who, what, when.
type Audit struct {
	At      time.Time `json:"at"`
	ID      string    `json:"id"`
	By      string    `json:"by"`
	From    string    `json:"from,omitempty"` // address of the client
	Project string    `json:"project,omitempty"`
	Action  string    `json:"action"` // "proxy.create", "proxy.change", "proxy.delete", "proxy.proof", "project. ...", "token. ...", "trust. ..."
	Target  string    `json:"target"`
	Before  any       `json:"before,omitempty"` // without secrets
	After   any       `json:"after,omitempty"`
}

// Node is what one says of itself while it lives.
type Node struct {
	Name    string         `json:"name"`
	POP     string         `json:"pop,omitempty"`
	Version string         `json:"version"`
	Started time.Time      `json:"started"`
	Applied store.Revision `json:"applied"` // routes up to this revision are served; 0: of none of this store
	At      time.Time      `json:"at"`      // since when
	Routes  int            `json:"routes"`
	Skipped int            `json:"skipped"`           // proxies that are not served, such as those outside prefixes
	Problem string         `json:"problem,omitempty"` // why this store is not believed
}
