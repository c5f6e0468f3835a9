package wire

import "time"

// List is one page of a list.
type List[T any] struct {
	Items []T    `json:"items" doc:"What there is, in order"`
	Next  string `json:"next,omitempty" doc:"Ask for the next page with this as ?after=; absent on the last"`
}

// Token is a key to the API, without its secret.
type Token struct {
	ID      string    `json:"id" doc:"What it is called in records"`
	Name    string    `json:"name" doc:"What it is for"`
	Project string    `json:"project,omitempty" doc:"The project it is good for; none: an operator's"`
	Verb    string    `json:"verb" enum:"read,write,operator" doc:"What it may do; each includes those before it"`
	Expires time.Time `json:"expires,omitzero" doc:"When it ends; absent: never"`
	Parent  string    `json:"parent,omitempty" doc:"The token it was made with, and ends with"`
	Made
}

// PostToken asks for a token.
type PostToken struct {
	Name    string    `json:"name" minLength:"1" maxLength:"100" doc:"What it is for"`
	Project string    `json:"project,omitempty" maxLength:"63" doc:"The project it shall be good for; an operator's has none"`
	Verb    string    `json:"verb" enum:"read,write,operator" doc:"What it may do; each includes those before it"`
	Expires time.Time `json:"expires,omitzero" doc:"When it shall end; absent: never"`
}

// NewToken is a token that has just been made.
type NewToken struct {
	Token
	Secret string `json:"secret" doc:"What goes behind Authorization: Bearer; it is shown this once"`
}

// Me is who asks.
type Me struct {
	By       string   `json:"by" doc:"What records call this one"`
	Operator bool     `json:"operator" doc:"Whether everything in all projects is allowed"`
	Token    *Token   `json:"token,omitempty" doc:"The token; absent over the Unix socket"`
	CNAMEs   []string `json:"cnames" doc:"What CNAME records of host names may lead to"`
}

// Trust is an operator's word that a project may have all names in a domain.
type Trust struct {
	Domain  string `json:"domain" example:"shop.example" doc:"The domain"`
	Project string `json:"project" example:"shop" doc:"Who may have names in it"`
	Made
}

// PutTrust says who may have all names in a domain.
type PutTrust struct {
	Project string `json:"project" minLength:"1" maxLength:"63" doc:"Who may have names in it without proof"`
}

// Node is what a node says of itself while it lives.
type Node struct {
	Name    string    `json:"name" doc:"Name of the node"`
	POP     string    `json:"pop,omitempty" doc:"Where it is"`
	Version string    `json:"version" doc:"Version of isthmus"`
	Started time.Time `json:"started" doc:"Since when it runs"`
	Applied int64     `json:"applied" doc:"Routes up to this revision are served"`
	At      time.Time `json:"at" doc:"Since when"`
	Routes  int       `json:"routes" doc:"Host names that are served"`
	Skipped int       `json:"skipped" doc:"Proxies that are not served, such as those outside their project's prefixes"`
}

// Audit is one change: who, what, when.
type Audit struct {
	ID      string    `json:"id" doc:"What it is called"`
	At      time.Time `json:"at" doc:"When"`
	By      string    `json:"by" doc:"ID of a token, or the name of an operator"`
	From    string    `json:"from,omitempty" doc:"Address of the client"`
	Project string    `json:"project,omitempty" doc:"Whose it was"`
	Action  string    `json:"action" example:"proxy.change" doc:"What was done"`
	Target  string    `json:"target" example:"www.shop.example" doc:"To what"`
	Before  any       `json:"before,omitempty" doc:"What it was"`
	After   any       `json:"after,omitempty" doc:"What it is"`
}

// Hold keeps a released host name from other projects for a while.
type Hold struct {
	Host    string    `json:"host" doc:"The name"`
	Project string    `json:"project" doc:"Who may have it back at once"`
	Until   time.Time `json:"until" doc:"When others may have it"`
}

// Imported is what an import has changed, or would.
type Imported struct {
	Projects Diff     `json:"projects" doc:"By name"`
	Proxies  Diff     `json:"proxies" doc:"By host name"`
	Trusts   Diff     `json:"trusts" doc:"By domain"`
	Tokens   Diff     `json:"tokens" doc:"By ID"`
	Pending  []string `json:"pending" doc:"Host names of the file that are not served until they are proven"`
}

// Diff names what differs.
type Diff struct {
	Added   []string `json:"added" doc:"New ones"`
	Changed []string `json:"changed" doc:"Ones that were different"`
	Removed []string `json:"removed" doc:"Ones that are gone"`
	Same    int      `json:"same" doc:"How many were the same"`
}
