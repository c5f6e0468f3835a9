package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/store"
)

// populated is a world with something of each kind.
func populated(t *testing.T) (c *Catalog, secret string) {
	t.Helper()
	c, k := world(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	shop, err := c.Project(ctx, "shop")
	must(err)
	shop.Title, shop.Proxies = `The "shop" \ é`, 50
	_, err = c.PutProject(ctx, admin, shop, Match{})
	must(err)
	_, err = c.PutTrust(ctx, admin, Trust{Domain: "trusted.example", Project: "blog"}, Match{})
	must(err)
	full := line("shop", "full.shop.example")
	full.Backends = append(full.Backends, vm("2001:db8:64:1::3"))
	full.HTTP, full.HTTPS, full.Header = 0, 8443, "v2"
	off := line("shop", "off.shop.example")
	off.Off = true
	for _, p := range []Proxy{full, off, line("shop", "*.shop.example"), line("shop", "pending.example.com"), line("blog", "www.trusted.example"), line("shop", "gone.example.com")} {
		_, _, err := c.PutProxy(ctx, admin, p, Match{})
		must(err)
	}
	prove(t, c, "full.shop.example")
	prove(t, c, "off.shop.example")
	gone := prove(t, c, "gone.example.com")
	k.add(time.Hour)
	_, err = c.RecordProof(ctx, gone, Finding{At: k.now, Gone: true, Problem: "not there"})
	must(err)
	secret, _, err = c.CreateToken(ctx, admin, Token{Name: "ci", Project: "shop", Verb: Write, Expires: k.now.Add(30 * day)})
	must(err)
	_, _, err = c.CreateToken(ctx, admin, Token{Name: "root", Verb: Operator})
	must(err)
	return c, secret
}

func export(t *testing.T, c *Catalog, o ExportOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Export(ctx, &b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// empty is a catalog with nothing in it.
func empty(t *testing.T, like *Catalog) *Catalog {
	t.Helper()
	return New(newStore(t), Options{Now: like.o.Now, VMs: like.reach.Load().vms})
}

func TestExportImport(t *testing.T) {
	for _, f := range []Format{JSON, TOML} {
		t.Run(string(f), func(t *testing.T) {
			c, secret := populated(t)
			doc := export(t, c, ExportOptions{Format: f, Tokens: true})
			other := empty(t, c)
			dry, err := other.Import(ctx, admin, strings.NewReader(doc), ImportOptions{Format: f, DryRun: true})
			if err != nil {
				t.Fatalf("%v\n%s", err, doc)
			}
			if all, err := other.content(ctx); err != nil || len(all.projects)+len(all.proxies)+len(all.tokens)+len(all.trusts) != 0 {
				t.Fatalf("a dry run has changed something: %+v, %v", all, err)
			}
			r, err := other.Import(ctx, admin, strings.NewReader(doc), ImportOptions{Format: f})
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(r) != fmt.Sprint(dry) || len(r.Projects.Added) != 2 || len(r.Proxies.Added) != 6 || len(r.Trusts.Added) != 1 || len(r.Tokens.Added) != 2 ||
				!slices.Equal(r.Pending, []string{"*.shop.example", "pending.example.com"}) {
				t.Errorf("report %+v\ndry    %+v", r, dry)
			}
			if again := export(t, other, ExportOptions{Format: f, Tokens: true}); again != doc {
				t.Errorf("exported\n%s\nand after the import\n%s", doc, again)
			}
			if tok, err := other.Authenticate(ctx, secret); err != nil || !tok.May(Write, "shop") {
				t.Errorf("token: %+v, %v", tok, err)
			}
			checkInvariants(t, other)
			for _, replace := range []bool{false, true} {
				r, err := other.Import(ctx, admin, strings.NewReader(doc), ImportOptions{Format: f, Replace: replace})
				if err != nil || len(r.Projects.Added)+len(r.Projects.Changed)+len(r.Proxies.Added)+len(r.Proxies.Changed)+len(r.Proxies.Removed)+len(r.Tokens.Changed)+len(r.Tokens.Removed)+len(r.Trusts.Changed) != 0 || r.Proxies.Same != 6 {
					t.Errorf("once more: %+v, %v", r, err)
				}
			}
			if doc := export(t, c, ExportOptions{Format: f}); strings.Contains(doc, "hash") {
				t.Error("tokens are in an export without")
			}
		})
	}
}

// What is exported as routes is a file that the proxy reads, of what is served.
func TestExportRoutes(t *testing.T) {
	c, _ := populated(t)
	doc := export(t, c, ExportOptions{Format: Routes, Tokens: true})
	list, err := routes.Parse("routes.toml", []byte(doc), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	var got []string
	for _, r := range list {
		got = append(got, r.Host)
	}
	if want := []string{"full.shop.example", "gone.example.com", "www.trusted.example"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p, err := c.Proxy(ctx, "full.shop.example")
	if err != nil {
		t.Fatal(err)
	}
	shop, err := c.Project(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	if want, err := p.Route(&shop, nil); err != nil || fmt.Sprint(list[0]) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", list[0], want)
	}
}

// An operator's file of routes moves into the store.
func TestImportRoutes(t *testing.T) {
	c, _ := populated(t)
	const doc = `# the shop
[[route]]
host     = "www.shop.example"
project  = "shop"
backends = ["2001:db8:64:1::2"]

[[route]]
host     = "full.shop.example"    # is there, and proven
project  = "shop"
backends = ["2001:db8:64:1::9"]
proxy_protocol = "v1"

[[route]]
host     = "known.example.com"
project  = "new"
backends = ["2001:db8:64:3::2"]
http     = 8_080
proof    = "proven"

[[route]]
host     = "pending.example.com"  # was shop's
project  = "blog"
backends = ["2001:db8:64:2::2"]

[[project]]
name     = "new"
prefixes = ["2001:db8:64:3::/64"]
`
	r, err := c.Import(ctx, admin, strings.NewReader(doc), ImportOptions{Format: TOML})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Projects.Added, []string{"new"}) || !slices.Equal(r.Proxies.Added, []string{"known.example.com", "www.shop.example"}) ||
		!slices.Equal(r.Proxies.Changed, []string{"full.shop.example", "pending.example.com"}) || r.Proxies.Removed == nil || len(r.Proxies.Removed) != 0 ||
		!slices.Equal(r.Pending, []string{"www.shop.example", "pending.example.com"}) {
		t.Errorf("report %+v", r)
	}
	for host, want := range map[string]string{
		"www.shop.example":    "shop [2001:db8:64:1::2] 80 443 off pending",
		"full.shop.example":   "shop [2001:db8:64:1::9] 80 443 v1 proven",
		"known.example.com":   "new [2001:db8:64:3::2] 8080 443 off proven",
		"pending.example.com": "blog [2001:db8:64:2::2] 80 443 off pending",
		"gone.example.com":    "shop [2001:db8:64:1::2] 80 443 off proven",
	} {
		p, err := c.Proxy(ctx, host)
		if got := fmt.Sprint(p.Project, " ", p.Backends, " ", p.HTTP, " ", p.HTTPS, " ", p.Header, " ", p.Proof); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", host, got, err, want)
		}
	}
	checkInvariants(t, c)
}

func TestImportReplace(t *testing.T) {
	c, secret := populated(t)
	// Two projects swap their prefixes, one goes, and so does what the file lacks.
	for _, name := range []string{"a", "b", "c"} {
		if _, err := c.PutProject(ctx, admin, Project{Name: name, Prefixes: []netip.Prefix{prefix("2001:db8:64:a" + name + "::/64")}}, Match{}); err != nil {
			t.Fatal(err)
		}
	}
	const doc = `
[[project]]
name = "a"
prefixes = ["2001:db8:64:ab::/64", "2001:db8:64:2::/64"]
[[project]]
name = "b"
prefixes = ["2001:db8:64:aa::/64"]
[[route]]
host = "www.trusted.example"
project = "a"
backends = ["2001:db8:64:2::2"]
`
	r, err := c.Import(ctx, admin, strings.NewReader(doc), ImportOptions{Format: TOML, Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Projects.Removed, []string{"blog", "c", "shop"}) || len(r.Proxies.Removed) != 5 || len(r.Trusts.Removed) != 1 || len(r.Tokens.Removed) != 1 {
		t.Errorf("report %+v", r)
	}
	all, err := c.content(ctx)
	if err != nil || len(all.projects) != 2 || len(all.proxies) != 1 || len(all.trusts) != 0 || len(all.tokens) != 1 {
		t.Errorf("left: %+v, %v", all, err)
	}
	if p := all.proxies["www.trusted.example"]; p.Project != "a" || p.Proof != Pending {
		t.Errorf("got %+v", p)
	}
	if _, err := c.Authenticate(ctx, secret); !errors.Is(err, ErrToken) {
		t.Errorf("token of a project that is gone: %v", err)
	}
	if holds, err := c.Holds(ctx, "shop"); err != nil || len(holds) != 3 {
		t.Errorf("holds: %+v, %v", holds, err)
	}
	checkInvariants(t, c)
}

func TestImportInvalid(t *testing.T) {
	c, _ := populated(t)
	const route = "[[route]]\nhost = 'a.example.com'\nproject = 'shop'\nbackends = ['2001:db8:64:1::2']\n"
	before := export(t, c, ExportOptions{Format: JSON, Tokens: true})
	for name, x := range map[string]struct {
		o    ImportOptions
		doc  string
		want string
	}{
		"syntax":            {ImportOptions{Format: TOML}, "[[route]\n", "line 1, column "},
		"unknown key":       {ImportOptions{Format: TOML}, route + "ports = 80\n", "line 5: unknown key route.ports"},
		"type":              {ImportOptions{Format: TOML}, route + "http = 'x'\n", "line 5, column "},
		"backend":           {ImportOptions{Format: TOML}, "[[route]]\nbackends = ['x']\n", "line 2, column "},
		"JSON":              {ImportOptions{Format: JSON}, `{"route":[{"hots":"a"}]}`, "not the JSON of an export, near byte "},
		"more JSON":         {ImportOptions{Format: JSON}, `{} {}`, "not the JSON of an export: more follows at byte "},
		"format":            {ImportOptions{Format: "yaml"}, "", `"yaml" is no format; take "json", "toml" or "routes"`},
		"no project":        {ImportOptions{Format: TOML}, "[[route]]\nhost = 'a.example.com'\nbackends = ['2001:db8:64:1::2']\n", `route "a.example.com".project: missing; add project = "shop"`},
		"unknown project":   {ImportOptions{Format: TOML}, strings.Replace(route, "'shop'", "'x'", 1), `route "a.example.com".project: there is no "x"; `},
		"project goes":      {ImportOptions{Format: TOML, Replace: true}, route, `route "a.example.com".project: there is no "shop"; `},
		"port":              {ImportOptions{Format: TOML}, route + "http = 65536\n", `route "a.example.com".http: 65536 is no port; `},
		"proof":             {ImportOptions{Format: TOML}, route + "proof = 'yes'\n", `route "a.example.com".proof: "yes" is not a choice; `},
		"twice":             {ImportOptions{Format: TOML}, route + route, `route "a.example.com".host: comes twice; keep one of them`},
		"outside":           {ImportOptions{Format: TOML}, strings.Replace(route, ":1::", ":2::", 1), `route "a.example.com".backends[0]: 2001:db8:64:2::2 is outside the prefixes of project shop; `},
		"public suffix":     {ImportOptions{Format: TOML}, strings.Replace(route, "a.example.com", "*.co.uk", 1), `route "*.co.uk".host: co.uk is a public suffix`},
		"prefixes in use":   {ImportOptions{Format: TOML}, "[[project]]\nname = 'x'\nprefixes = ['2001:db8:64:1::/80']\n", `project "x".prefixes: 2001:db8:64:1::/80 has addresses of project shop; `},
		"limit":             {ImportOptions{Format: TOML}, "[[project]]\nname = 'shop'\nprefixes = ['2001:db8:64:1::/64']\nmax_proxies = 5\n" + route, `project "shop".max_proxies: 6 proxies are more than 5; allow more`},
		"trust in nobody":   {ImportOptions{Format: TOML}, "[[trust]]\ndomain = 'example.com'\nproject = 'x'\n", `trust "example.com".project: there is no "x"; `},
		"trust in all":      {ImportOptions{Format: TOML}, "[[trust]]\ndomain = 'com'\nproject = 'shop'\n", `trust "com".domain: com is a registry's; `},
		"hash":              {ImportOptions{Format: TOML}, "[[token]]\nid = 'x'\nname = 'x'\nverb = 'operator'\nhash = 'x'\n", `token "x".hash: not one of an export; `},
		"token of a nobody": {ImportOptions{Format: TOML}, "[[token]]\nid = 'aaaaaaaaaaaaaaaa'\nname = 'x'\nverb = 'read'\nproject = 'x'\nhash = '" + strings.Repeat("A", 43) + "='\n", `token "aaaaaaaaaaaaaaaa".project: there is no "x"; `},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Import(ctx, admin, strings.NewReader(x.doc), x.o)
			if err == nil || !strings.HasPrefix(err.Error(), x.want) {
				t.Errorf("got  %v\nwant %s", err, x.want)
			}
		})
	}
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "[[route]]\nhost = 'A%d.example.com'\nproject = 'shop'\nbackends = ['2001:db8:64:1::2']\n", i)
	}
	if _, err := c.Import(ctx, admin, strings.NewReader(many.String()), ImportOptions{Format: TOML}); len(Problems(err)) != maxWrong {
		t.Errorf("%d problems", len(Problems(err)))
	}
	if after := export(t, c, ExportOptions{Format: JSON, Tokens: true}); after != before {
		t.Error("a wrong file has changed something")
	}
}

// An import while people go on changing the same records.
func TestImportConcurrent(t *testing.T) {
	c, _ := world(t)
	var doc strings.Builder
	for i := range 300 {
		fmt.Fprintf(&doc, "[[route]]\nhost = 'www%d.example.com'\nproject = 'shop'\nbackends = ['2001:db8:64:1::2']\n", i)
	}
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			host := fmt.Sprintf("www%d.example.com", i%300)
			p := line("shop", host)
			p.HTTP = 8080
			if _, _, err := c.PutProxy(ctx, admin, p, Match{}); err != nil {
				done <- err
				return
			}
		}
	}()
	_, err := c.Import(ctx, admin, strings.NewReader(doc.String()), ImportOptions{Format: TOML})
	close(stop)
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	checkInvariants(t, c)
}

func TestMigrate(t *testing.T) {
	c, secret := populated(t)
	for i := range 150 { // more than one transaction
		if _, _, err := c.PutProxy(ctx, admin, line("blog", fmt.Sprintf("www%d.blog.example", 200-i)), Match{}); err != nil {
			t.Fatal(err)
		}
	}
	node, err := c.store.Announce(ctx, NodePrefix+"dfw0")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if err := node.Set(ctx, Node{Name: "dfw0"}.Encode()); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{WantedKey("shop", "dfw0/x"), VisitsPrefix("shop") + "dfw0/x"} {
		if _, err := c.store.Commit(ctx, store.Txn{Put: []store.Put{{Key: key, Value: Visits{Node: "dfw0"}.Encode(store.MaxValue)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if nodes, err := c.Nodes(ctx); err != nil || len(nodes) != 1 || nodes[0].Name != "dfw0" {
		t.Errorf("nodes: %+v, %v", nodes, err)
	}
	to := empty(t, c)
	n, err := Migrate(ctx, c.store, to.store, false)
	if err != nil || n.Records == 0 || n.Removed != 0 {
		t.Fatalf("%+v, %v", n, err)
	}
	if got, want := export(t, to, ExportOptions{Format: JSON, Tokens: true}), export(t, c, ExportOptions{Format: JSON, Tokens: true}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := to.Authenticate(ctx, secret); err != nil {
		t.Errorf("token: %v", err)
	}
	if nodes, err := to.Nodes(ctx); err != nil || len(nodes) != 0 {
		t.Errorf("nodes: %+v, %v", nodes, err)
	}
	checkInvariants(t, to)
	// Who was older is older.
	a, _ := to.Proxy(ctx, "www200.blog.example")
	b, _ := to.Proxy(ctx, "www51.blog.example")
	if a.Since >= b.Since {
		t.Errorf("made in revisions %d and %d", a.Since, b.Since)
	}

	if _, err := Migrate(ctx, c.store, to.store, false); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("to one that is not empty: %v", err)
	}
	if _, _, err := to.PutProxy(ctx, admin, line("blog", "extra.blog.example"), Match{}); err != nil {
		t.Fatal(err)
	}
	if n, err = Migrate(ctx, c.store, to.store, true); err != nil || n.Removed == 0 {
		t.Errorf("forced: %+v, %v", n, err)
	}
	if _, err := to.Proxy(ctx, "extra.blog.example"); !errors.Is(err, ErrNotFound) {
		t.Errorf("forced: %v", err)
	}
	checkInvariants(t, to)
}
