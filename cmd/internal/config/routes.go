package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Engines of [routes].
const (
	EngineAuto = "auto" // see Config.chooseEngine; a checked Config never has it
	EngineOff  = "off"
	EngineBolt = "bolt"
	EngineEtcd = "etcd"
)

// Bounds of durations of [routes].
const (
	minReconcile = 10 * time.Second
	minHold      = time.Minute
)

// Routes is the [routes] section.
type Routes struct {
	Engine    string
	File      string // "": in the state directory, see Config.RoutesFile
	Copy      string // "": in the state directory, see Config.RoutesCopy
	Node      string // "": the host name
	Reconcile time.Duration
	Hold      time.Duration
	Grace     time.Duration
	Audit     time.Duration
	Resolvers []netip.AddrPort // none: the host's
	// NameServers are where name servers may be asked besides public addresses.
	NameServers []netip.Prefix
	Etcd        Etcd
}

// Etcd is the [routes.etcd] section.
type Etcd struct {
	Endpoints                 []string
	Prefix                    string
	CAFile, CertFile, KeyFile string // absolute paths or ""
	User, PasswordFile        string
}

// API is the [api] section. Of its limits 0 is no bound.
type API struct {
	Listen                     []netip.AddrPort
	CertFile, KeyFile          string // absolute paths or ""
	Hosts                      []string
	POPs                       []string // see Config.POPs
	PerSecond, Burst, Failures int
}

// On tells whether there is a store of routes.
func (r *Routes) On() bool { return r.Engine != EngineOff }

// chooseEngine decides what "auto" is: whoever says where etcd is means it, and a
// store of one host takes no saying at all.
func (c *Config) chooseEngine() {
	r := &c.Routes
	if r.Engine != EngineAuto {
		return
	}
	switch {
	case len(r.Etcd.Endpoints) > 0:
		r.Engine = EngineEtcd
	case r.File != "", len(c.API.Listen) > 0, c.Proxy.Listens() && c.Proxy.RoutesFile == "":
		r.Engine = EngineBolt
	default:
		r.Engine = EngineOff
	}
}

// RoutesFile is the file of the engine bolt.
func (c *Config) RoutesFile() string { return c.inState(c.Routes.File, "routes.db") }

// RoutesCopy is the file of this host's copy of the store, or "" for none.
func (c *Config) RoutesCopy() string { return c.inState(c.Routes.Copy, "routes.copy") }

// inState is a path, or where the file is in the state directory if that is empty.
func (c *Config) inState(path, name string) string {
	if path != "" || c.Router.StateDir == "" {
		return path
	}
	return filepath.Join(c.Router.StateDir, name)
}

// POPs are the points of presence that customers are shown.
func (c *Config) POPs() []string {
	if len(c.API.POPs) == 0 && c.POP != "" {
		return []string{c.POP}
	}
	return c.API.POPs
}

// checkRoutes makes sure that the store has what its engine needs.
func checkRoutes(d *decoder, root *node) {
	c := d.config
	r := &c.Routes
	at := func(key string) int { return valueOffset(root, "routes", key) }
	if r.On() && len(c.Proxy.VMPrefixes) == 0 && !c.Proxy.Listens() { // else checkProxy says so
		d.add(valueOffset(root, "proxy", "vm_prefixes"), "proxy.vm_prefixes", "missing, and no project could have a VM", `add to [proxy] the prefixes of the VMs, such as vm_prefixes = ["2001:db8:64::/64"]`)
	}
	if r.Engine == EngineBolt && c.RoutesFile() == "" {
		d.add(at("file"), "routes.file", "missing, and router.state_dir is empty", `add file = "/var/lib/isthmus/routes.db"`)
	}
	if r.File != "" && r.File == r.Copy {
		d.add(at("copy"), "routes.copy", "is the file of the store", "give it a path of its own, or leave it out")
	}
	if r.Engine == EngineEtcd {
		checkEtcd(d, root)
	}
}

func checkEtcd(d *decoder, root *node) {
	e := &d.config.Routes.Etcd
	add := func(key, problem, remedy string) {
		d.add(valueOffset(root, "routes", "etcd", key), "routes.etcd."+key, problem, remedy)
	}
	if len(e.Endpoints) == 0 && len(d.errs.List) == 0 {
		add("endpoints", "missing, and nobody knows where etcd is", `add endpoints = ["https://etcd1.example:2379"] below [routes.etcd]`)
	}
	checkPair(e.CertFile, e.KeyFile, add)
	if (e.User == "") != (e.PasswordFile == "") {
		add("user", "etcd takes a user with a password, or neither", "give both user and password_file, or none")
	}
	https := func(s string) bool { return strings.HasPrefix(s, "https://") }
	if i := slices.IndexFunc(e.Endpoints, func(s string) bool { return https(s) != https(e.Endpoints[0]) }); i > 0 {
		d.add(valueOffset(root, "routes", "etcd", "endpoints", i), fmt.Sprintf("routes.etcd.endpoints[%d]", i), "some have TLS and some have not", "write all with https://, or all with http://")
	}
	if len(e.Endpoints) > 0 && !https(e.Endpoints[0]) && (e.CAFile != "" || e.CertFile != "") {
		add("endpoints", "certificates are given, but the members are asked in clear text", "write them with https://")
	}
}

// checkPair makes sure that a certificate has its key.
func checkPair(cert, key string, add func(key, problem, remedy string)) {
	switch {
	case cert != "" && key == "":
		add("cert_file", "a certificate needs its key", "add key_file, or remove cert_file")
	case cert == "" && key != "":
		add("key_file", "a key needs its certificate", "add cert_file, or remove key_file")
	}
}

// checkAPI makes sure that no token crosses a network in clear text.
func checkAPI(d *decoder, root *node) {
	a := &d.config.API
	if len(a.Listen) == 0 {
		return
	}
	checkPair(a.CertFile, a.KeyFile, func(key, problem, remedy string) {
		d.add(valueOffset(root, "api", key), "api."+key, problem, remedy)
	})
	if !d.config.Routes.On() {
		d.add(valueOffset(root, "api", "listen"), "api.listen", "there is no store whose API this could be", `leave engine out of [routes], or remove listen`)
	}
	for i, at := range a.Listen {
		if a.CertFile == "" && a.KeyFile == "" && !at.Addr().IsLoopback() {
			d.add(valueOffset(root, "api", "listen", i), fmt.Sprintf("api.listen[%d]", i), fmt.Sprintf("tokens would come to %v in clear text", at), `add cert_file and key_file, or listen on a loopback address such as "[::1]:8443"`)
		}
		if slices.Contains(slices.Concat(d.config.Proxy.ListenHTTP, d.config.Proxy.ListenHTTPS), at) {
			d.add(valueOffset(root, "api", "listen", i), fmt.Sprintf("api.listen[%d]", i), fmt.Sprintf("the web proxy listens on %v", at), `choose another port, such as "[::]:8443"`)
		}
	}
}

// routesWarnings names what is allowed and probably not meant.
func (c *Config) routesWarnings() []string {
	r := &c.Routes
	if !r.On() {
		if r.File != "" || r.Copy != "" || len(r.Etcd.Endpoints) > 0 || c.API.CertFile != "" {
			return []string{`routes.engine = "off": there is no store of routes, and no API; write engine = "bolt" or engine = "etcd"`}
		}
		return nil
	}
	var w []string
	if c.API.CertFile != "" && len(c.API.Listen) == 0 {
		w = append(w, "api.cert_file has no effect without listen")
	}
	if c.RoutesCopy() == "" {
		w = append(w, "routes.copy and router.state_dir are empty: a start while the store is away is one without its routes")
	}
	if len(c.POPs()) == 0 || c.Domain == "" {
		w = append(w, "pop and domain are not both set: customers can't be told where their CNAME records have to lead")
	}
	if c.Control.Socket == "" && len(c.API.Listen) == 0 {
		w = append(w, "control.socket and api.listen are both empty: nobody can change the store here")
	}
	if r.Engine == EngineBolt && len(r.Etcd.Endpoints) > 0 {
		w = append(w, `routes.etcd has no effect with engine = "bolt"`)
	}
	if r.Engine == EngineEtcd {
		if r.File != "" {
			w = append(w, `routes.file has no effect with engine = "etcd"`)
		}
		if !strings.HasPrefix(r.Etcd.Endpoints[0], "https://") && !slices.ContainsFunc(r.Etcd.Endpoints, loopbackURL) {
			w = append(w, "routes.etcd.endpoints: whoever is on the way to etcd can read and change all routes; use https://")
		}
	}
	return w
}

func loopbackURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

// endpoints reads URLs of etcd's members.
func (v value) endpoints(to *[]string) {
	const remedy = `write one such as "https://etcd1.example:2379"`
	var list []string
	v.each("a list of URLs", func(item value) {
		s, ok := item.text("a URL")
		if !ok {
			return
		}
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "":
			item.fail(fmt.Sprintf("%q is not the URL of a member of etcd", s), remedy)
		case slices.Contains(list, s):
			item.fail(s+" comes twice", "remove one")
		default:
			list = append(list, s)
		}
	})
	*to = list
}

// etcdPrefix reads what keys begin with.
func (v value) etcdPrefix(to *string) {
	s, ok := v.text("a prefix of keys")
	if !ok {
		return
	}
	if len(s) < 2 || len(s) > 256 || s[0] != '/' || s[len(s)-1] != '/' || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		v.fail(fmt.Sprintf("%q cannot be the prefix of keys", s), `write one such as "/isthmus/"`)
		return
	}
	*to = s
}

// word reads a name without spaces, or nothing.
func (v value) word(to *string) {
	s, ok := v.text("a name")
	if !ok {
		return
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		v.fail(fmt.Sprintf("%q is not a name", s), "write it without spaces")
		return
	}
	*to = s
}

func (v value) dnsNames(to *[]string) {
	v.names(to, "a list of DNS names", value.dnsName)
}

func (v value) dnsLabels(to *[]string) {
	v.names(to, "a list of DNS labels", value.dnsLabel)
}

// names reads a list of different names, none of them empty.
func (v value) names(to *[]string, want string, read func(value, *string)) {
	var list []string
	v.each(want, func(item value) {
		var s string
		before := len(v.d.errs.List)
		read(item, &s)
		switch {
		case len(v.d.errs.List) > before:
		case s == "":
			item.fail("empty", "write a name, or remove it")
		case slices.Contains(list, s):
			item.fail(s+" comes twice", "remove one")
		default:
			list = append(list, s)
		}
	})
	*to = list
}
