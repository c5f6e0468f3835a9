package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/etcd"
)

// checkInvariants holds the records of a catalog against each other and the log.
func checkInvariants(t *testing.T, c *Catalog) {
	t.Helper()
	all, err := c.content(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	trusts, err := c.trusted(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for host, p := range all.proxies {
		n[p.Project]++
		if _, ok := all.projects[p.Project]; !ok {
			t.Errorf("%s: there is no project %q", host, p.Project)
		}
		if (p.Proof == Trusted) != (trusts.of(host) == p.Project) {
			t.Errorf("%s of %s: %s, and the domain is trusted to %q", host, p.Project, p.Proof, trusts.of(host))
		}
	}
	counts := map[string]int{}
	_, err = c.store.List(ctx, countPrefix, func(e store.Entry) error {
		project := strings.TrimPrefix(e.Key, countPrefix)
		counts[project], err = counted(map[string]store.Entry{e.Key: e}, project)
		if counts[project] == 0 {
			delete(counts, project)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(counts) != fmt.Sprint(n) {
		t.Errorf("counted %v, and there are %v", counts, n)
	}
	checkLog(t, c, all)
}

// checkLog replays the audit log: it ends where the records are.
func checkLog(t *testing.T, c *Catalog, all content) {
	t.Helper()
	var log []Audit
	for next := ""; ; {
		page, more, err := c.AuditLog(ctx, "", next, 7)
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, page...)
		if next = more; next == "" {
			break
		}
	}
	balance := map[string]int{}
	perProject := map[string]int{}
	for _, r := range log {
		if r.Project != "" {
			perProject[r.Project]++
		}
		kind, what, _ := strings.Cut(r.Action, ".")
		switch what {
		case "create":
			balance[kind+" "+r.Target]++
		case "delete", "lose", "revoke":
			balance[kind+" "+r.Target]--
		}
	}
	there := map[string]int{}
	for name := range all.projects {
		there["project "+name] = 1
	}
	for host := range all.proxies {
		there["proxy "+host] = 1
	}
	for id, t := range all.tokens {
		kind, _, _ := strings.Cut(t.action(""), ".")
		there[kind+" "+id] = 1
	}
	for name, n := range balance {
		if n != there[name] && !strings.HasPrefix(name, "hold ") && !strings.HasPrefix(name, "trust ") {
			t.Errorf("%s: %d by the log, and %d there", name, n, there[name])
		}
		delete(there, name)
	}
	if len(there) > 0 {
		t.Errorf("not in the log: %v", there)
	}
	for project, n := range perProject {
		page, _, err := c.AuditLog(ctx, project, "", 1e6)
		if err != nil || len(page) != n {
			t.Errorf("log of %s: %d records, %v; want %d", project, len(page), err, n)
		}
	}
}

// onEngines runs a test with two catalogs of one store, of each engine: those of a
// cluster are at two members of it. There it takes longer, so share is less than 1.
func onEngines(t *testing.T, f func(t *testing.T, c, other *Catalog, share float64)) {
	t.Run("bolt", func(t *testing.T) {
		c, _ := world(t)
		f(t, c, New(c.store, c.options()), 1)
	})
	t.Run("etcd", func(t *testing.T) {
		program := etcdtest.Debian(t)
		l := labtest.New(t, "catalog")
		cluster := etcdtest.Start(t, l, labetcd.Config{Program: program, Members: 3})
		node := labtest.Host(t, l, "node")
		if err := cluster.Join(node); err != nil {
			t.Fatal(err)
		}
		var cats [2]*Catalog
		for i := range cats {
			s, err := etcd.Open(etcd.Config{Endpoints: []string{cluster.Members[i].Endpoint()}, Prefix: "/isthmus/", Dial: node.Dial})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			if i == 0 {
				cats[0], _ = worldIn(t, s)
			} else {
				cats[1] = New(s, cats[0].options())
			}
		}
		f(t, cats[0], cats[1], 0.2)
	})
}

func (c *Catalog) options() Options {
	o := c.o
	o.VMs = c.reach.Load().vms
	return o
}

// Two projects ask for one name at the same time, each at a hypervisor of its own.
func TestRace(t *testing.T) { onEngines(t, testRace) }

func testRace(t *testing.T, c, other *Catalog, share float64) {
	const lanes = 4
	each := int(1000 * share / lanes)
	var all sync.WaitGroup
	for lane := range lanes {
		all.Go(func() {
			for i := range each {
				raceFor(t, c, other, fmt.Sprintf("www%d-%d.shop.example", lane, i))
			}
		})
	}
	all.Wait()
	checkInvariants(t, c)
}

func raceFor(t *testing.T, c, other *Catalog, host string) {
	var errs [2]error
	var start, end sync.WaitGroup
	start.Add(1)
	for i, try := range []struct {
		c       *Catalog
		project string
	}{{c, "shop"}, {other, "blog"}} {
		end.Go(func() {
			start.Wait()
			_, _, errs[i] = try.c.PutProxy(ctx, Actor{By: try.project}, line(try.project, host), Match{})
		})
	}
	start.Done()
	end.Wait()
	p, err := c.Proxy(ctx, host)
	if err != nil {
		t.Error(err)
		return
	}
	loser := 1
	if p.Project == "blog" {
		loser = 0
	}
	if errs[1-loser] != nil || !errors.Is(errs[loser], ErrTaken) {
		t.Errorf("%s is %s's, and the answers were %v and %v", host, p.Project, errs[0], errs[1])
	}
}

// Many do anything at the same time; nothing gets out of step.
func TestConcurrent(t *testing.T) { onEngines(t, testConcurrent) }

func testConcurrent(t *testing.T, c, other *Catalog, share float64) {
	cats := []*Catalog{c, other}
	for _, p := range []string{"shop", "blog"} {
		old, err := c.Project(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		old.Proxies = 6
		if _, err := c.PutProject(ctx, admin, old, Match{}); err != nil {
			t.Fatal(err)
		}
	}
	hosts := []string{"shop.example", "*.shop.example", "a.shop.example", "b.shop.example", "c.b.shop.example", "*.b.shop.example", "x.example", "y.example", "z.example", "www.z.example", "v.z.example", "w.z.example"}
	domains := []string{"shop.example", "b.shop.example", "z.example"}
	projects := []string{"shop", "blog", "brief"} // the last one comes and goes
	var workers sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for w := range 8 {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			pick := func(list []string) string { return list[r.IntN(len(list))] }
			for range int(100 * share) {
				c, project, host := cats[r.IntN(2)], pick(projects), pick(hosts)
				a := Actor{By: fmt.Sprint("worker ", w)}
				var err error
				what := []string{"put", "put", "put", "put", "delete", "prove", "trust", "distrust", "project", "drop"}[r.IntN(10)]
				switch what {
				case "put":
					p := line(project, host)
					p.HTTP = uint16(80 + r.IntN(3))
					_, _, err = c.PutProxy(ctx, a, p, Match{})
				case "delete":
					_, err = c.DeleteProxy(ctx, a, project, host, Match{})
				case "prove":
					var p Proxy
					if p, err = c.Proxy(ctx, host); err == nil {
						_, err = c.RecordProof(ctx, p, Finding{At: c.o.Now(), Found: true})
					}
				case "trust":
					_, err = c.PutTrust(ctx, a, Trust{Domain: pick(domains), Project: project}, Match{})
				case "distrust":
					err = c.DeleteTrust(ctx, a, pick(domains), Match{})
				case "project":
					_, err = c.PutProject(ctx, a, Project{Name: "brief", Title: fmt.Sprint(r.IntN(3)), Prefixes: []netip.Prefix{prefix("2001:db8:64:3::/64")}, Proxies: 1}, Match{})
				case "drop":
					_, err = c.DeleteProject(ctx, a, "brief", Match{})
				}
				if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrTaken) && !errors.Is(err, ErrLimit) && !errors.Is(err, ErrInUse) {
					t.Errorf("%s: %v", what, err)
				}
				mu.Lock()
				if seen[what]++; err != nil {
					seen[what+" refused"]++
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	t.Log(seen)
	for _, p := range projects {
		list, err := list(ctx, c.store, ProxyPrefix, DecodeProxy, func(x Proxy) bool { return x.Project == p })
		if err != nil || len(list) > 6 {
			t.Errorf("%s has %d proxies of 6 at most, %v", p, len(list), err)
		}
	}
	checkInvariants(t, c)
}

// Two projects are given the same prefix at the same time.
func TestPrefixRace(t *testing.T) {
	c, _ := world(t)
	for i := range 100 {
		x := prefix(fmt.Sprintf("2001:db8:64:%x::/64", 0x100+i))
		var errs [4]error
		var end sync.WaitGroup
		for j := range errs {
			end.Go(func() {
				p := Project{Name: fmt.Sprintf("p%d-%d", i, j), Prefixes: []netip.Prefix{x}}
				_, errs[j] = c.PutProject(ctx, admin, p, Match{})
			})
		}
		end.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case Problems(err) == nil:
				t.Fatal(err)
			}
		}
		if won != 1 {
			t.Fatalf("%d projects have %v", won, x)
		}
	}
	projects, err := c.Projects(ctx)
	if err != nil || len(projects) != 102 || !slices.IsSortedFunc(projects, func(a, b Project) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d projects, %v", len(projects), err)
	}
}
