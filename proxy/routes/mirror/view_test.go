package mirror

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// filled is a view of records at revisions from 1 on.
func filled(puts ...store.Put) *Mirror {
	m := New(Config{})
	var changes []store.Change
	for i, p := range puts {
		r := store.Revision(i + 1)
		changes = append(changes, store.Change{Entry: store.Entry{Key: p.Key, Value: p.Value, Created: r, Modified: r}})
	}
	m.apply(changes, store.Revision(len(puts)), true)
	return m
}

func TestPages(t *testing.T) {
	puts := []store.Put{projectPut("shop", "2001:db8:64:1::/64"), projectPut("blog", "2001:db8:64:2::/64"), projectPut("unused")}
	hosts := map[string][]string{}
	for i := range 1500 {
		project := []string{"shop", "blog", "gone"}[rand.IntN(3)]
		host := fmt.Sprintf("h%d.d%d.example", i, i%7)
		puts = append(puts, proxyPut(project, host, 80))
		hosts[project] = append(hosts[project], host)
		hosts[""] = append(hosts[""], host)
	}
	rand.Shuffle(len(puts), func(i, j int) { puts[i], puts[j] = puts[j], puts[i] })
	v := filled(puts...).View()
	for project, all := range hosts {
		slices.Sort(all)
		for _, text := range []string{"", "h1", "D3.", "nothing"} {
			want := slices.DeleteFunc(slices.Clone(all), func(h string) bool { return !strings.Contains(h, strings.ToLower(text)) })
			for _, n := range []int{1, 7, 100, 10_000} {
				if n == 1 && len(want) > 200 {
					continue
				}
				var got []string
				for after := ""; ; {
					page, next := v.ProxiesOf(project, text, after, n)
					if len(page) > n || next != "" && len(page) < n {
						t.Fatalf("page of %d, want %d", len(page), n)
					}
					for _, p := range page {
						got = append(got, p.Host)
					}
					if after = next; after == "" {
						break
					}
				}
				if hosts := slices.Collect(v.HostsOf(project)); text == "" && project != "" && !slices.Equal(hosts, want) {
					t.Errorf("the hosts of %s are %q, want %q", project, hosts, want)
				}
				if !slices.Equal(got, want) {
					t.Errorf("project %q with %q in pages of %d: %d hosts, want %d", project, text, n, len(got), len(want))
				}
			}
		}
	}
	for text, want := range map[string]string{"": "blog shop unused", "the s": "shop", "blo": "blog", "gone": ""} {
		var got []string
		for after := ""; ; {
			page, next := v.Projects(text, after, 1)
			for _, p := range page {
				got = append(got, p.Name)
			}
			if after = next; after == "" {
				break
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("projects with %q: %v, want %s", text, got, want)
		}
	}
	if c := v.Counts(); c.All() != 1500 || c.Projects != 3 || c.Skipped() != len(hosts["gone"]) || c.Proxies[NoProject] != len(hosts["gone"]) {
		t.Errorf("%+v", c)
	}
	if list, next := v.ProxiesOf("nobody", "", "", 10); list != nil || next != "" {
		t.Error("proxies of a project that is not there")
	}
}

// Whoever reads sees one state, while changes and other rules come in.
func TestReadersSeeOneState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", nil)
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				v := n.View()
				list, _ := v.ProxiesOf("shop", "", "", 1000)
				served := 0
				for _, p := range list {
					if p.Reason == Served {
						served++
					}
					if same, ok := v.Proxy(p.Host); !ok || same.Revision != p.Revision {
						t.Errorf("%s in the list and alone differ", p.Host)
					}
				}
				if c := v.ProjectCounts("shop"); c.All() != len(list) || c.Proxies[Served] != served {
					t.Errorf("counts %+v, and %d of %d are served", c, served, len(list))
				}
				// Both come in pairs.
				_, a := v.Proxy("a.example")
				_, b := v.Proxy("b.example")
				if a != b {
					t.Error("half of a commit")
				}
				n.Stats()
			}
		})
	}
	for i := range 50 {
		w.put(proxyPut("shop", "a.example", 80), proxyPut("shop", "b.example", 80), proxyPut("shop", fmt.Sprintf("h%d.example", i), 80))
		n.SetReach(reach)
		w.remove(catalog.ProxyPrefix+"a.example", catalog.ProxyPrefix+"b.example")
	}
	close(stop)
	wait.Wait()
}
