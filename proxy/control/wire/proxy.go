package wire

import (
	"net/netip"
	"time"
)

// Made says who made something, and when.
type Made struct {
	Created   time.Time `json:"created" doc:"When it was made"`
	CreatedBy string    `json:"created_by" doc:"ID of the token that made it, or the name of an operator"`
	Changed   time.Time `json:"changed" doc:"When it was last changed"`
	ChangedBy string    `json:"changed_by" doc:"Who changed it last"`
	Revision  int64     `json:"revision" doc:"Revision of the store that changed it last"`
}

// Project is a customer's, with the prefixes its VMs are in.
type Project struct {
	Name       string         `json:"name" example:"shop" doc:"Name of the project"`
	Title      string         `json:"title" doc:"What people call it"`
	Prefixes   []netip.Prefix `json:"prefixes" example:"2001:db8:64::/64" doc:"IPv6 prefixes that its VMs are in"`
	MaxProxies int            `json:"max_proxies" doc:"How many proxies it may have"`
	Made
}

// PutProject is what an operator says of a project.
type PutProject struct {
	Title      string   `json:"title,omitempty" maxLength:"200" doc:"What people call it"`
	Prefixes   []string `json:"prefixes" maxItems:"64" example:"2001:db8:64::/64" doc:"IPv6 prefixes that its VMs are in; none: no proxy is served"`
	MaxProxies int      `json:"max_proxies,omitempty" minimum:"0" maximum:"100000" doc:"How many proxies it may have; 0: as many as is usual"`
}

// Proxy is one line of the proxies tab: a host name and where it leads.
type Proxy struct {
	Host          string       `json:"host" example:"www.shop.example" doc:"Host name, or *. and a domain: all names with one label more"`
	Project       string       `json:"project" example:"shop" doc:"Whose it is"`
	Backends      []netip.Addr `json:"backends" example:"2001:db8:64::2" doc:"VMs, in the order in which they are tried"`
	HTTP          uint16       `json:"http" doc:"Port on the VM for what comes to port 80; 0: not served"`
	HTTPS         uint16       `json:"https" doc:"Port on the VM for what comes to port 443; 0: not served"`
	ProxyProtocol string       `json:"proxy_protocol" enum:"off,v1,v2" doc:"Header of the PROXY protocol that the VM gets"`
	Off           bool         `json:"off" doc:"Kept, but not served"`
	Proof         Proof        `json:"proof" doc:"Whether it is shown that the project may have this name"`
	CNAMEs        []string     `json:"cnames" example:"dfw.proxy.infra.example.com" doc:"What a CNAME record of the host name may lead to"`
	Made
}

// Proof is how far it is shown that a project may have a host name.
type Proof struct {
	State   string    `json:"state" enum:"pending,proven,trusted,lost" doc:"pending: the TXT record has not been seen yet; proven: it has; trusted: an operator vouches for the domain; lost: it has been gone for too long. Only proven and trusted ones are served"`
	Record  string    `json:"record" example:"_isthmus-challenge.www.shop.example" doc:"Name of the TXT record"`
	Value   string    `json:"value" doc:"What the TXT record has to say"`
	Seen    time.Time `json:"seen,omitzero" doc:"When it was last found"`
	Checked time.Time `json:"checked,omitzero" doc:"When it was last looked for"`
	Problem string    `json:"problem,omitempty" doc:"Why it was not found"`
}

// PutProxy is where a host name shall lead. What is left out is as it says here.
type PutProxy struct {
	Backends      []netip.Addr `json:"backends" minItems:"1" maxItems:"8" example:"2001:db8:64::2" doc:"VMs of the project, in the order in which they are tried"`
	HTTP          *uint16      `json:"http,omitempty" minimum:"0" maximum:"65535" default:"80" doc:"Port on the VM for what comes to port 80; 0: not served"`
	HTTPS         *uint16      `json:"https,omitempty" minimum:"0" maximum:"65535" default:"443" doc:"Port on the VM for what comes to port 443; 0: not served"`
	ProxyProtocol string       `json:"proxy_protocol,omitempty" enum:"off,v1,v2" default:"off" doc:"Header of the PROXY protocol that the VM gets; it has to expect one on both ports"`
	Off           bool         `json:"off,omitempty" doc:"Keep it, but do not serve it"`
}

// State is how far a proxy has come.
type State struct {
	Revision int64  `json:"revision" doc:"Revision of the proxy's last change"`
	Served   bool   `json:"served" doc:"Whether visitors are served, where the change has arrived"`
	Problem  string `json:"problem,omitempty" doc:"Why they are not, and what to do"`
	Live
}

// Live is on how many nodes a revision is.
type Live struct {
	Live  int `json:"live" doc:"Nodes that serve this revision"`
	Nodes int `json:"nodes" doc:"Nodes that there are"`
}

// Check is what was found in the DNS just now.
type Check struct {
	Proof Proof `json:"proof" doc:"What the TXT record proves now"`
	CNAME Found `json:"cname" doc:"Whether the host name leads here"`
}

// Found is one finding in the DNS.
type Found struct {
	OK      bool     `json:"ok" doc:"Whether it is as it should be"`
	Found   []string `json:"found" doc:"What is there"`
	Problem string   `json:"problem,omitempty" doc:"What is not as it should be, and what to do"`
}
