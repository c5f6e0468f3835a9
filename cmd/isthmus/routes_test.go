package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/store/etcd"
)

// routesLab is a proxyLab whose web proxy has a store of routes and an API.
type routesLab struct{ *proxyLab }

// apiAddr is where the API listens, in the namespace of the host.
const apiAddr = "[::1]:8444"

func newRoutesLab(t *testing.T) *routesLab {
	r := &routesLab{newProxyLab(t, "")}
	r.configure("engine = 'bolt'")
	return r
}

// configure replaces the configuration. There is no file of routes.
func (r *routesLab) configure(store string) {
	r.t.Helper()
	r.write("isthmus.toml", fmt.Sprintf(`
pop = "dfw"
domain = "infra.example.com"
[router]
state_dir = "%[1]s/state"
[control]
socket = %[2]q
[proxy]
listen_http = ["%[3]s:8080"]
listen_https = ["%[3]s:8443"]
vm_prefixes = ["2001:db8:64::/64", "2001:db8:65::/64"]
[api]
listen = ["%[4]s"]
[routes]
node = "dfw0"
%[5]s
`, r.dir, r.socket, proxyAddr4, apiAddr, store))
}

// start starts web proxy and API in one process, as nobody.
func (r *routesLab) start() *process {
	r.t.Helper()
	s := startAs(r.t, r.host, nobody, nil, "run", "--only", "proxy,api", "-c", filepath.Join(r.dir, "isthmus.toml"))
	s.wait(`"message":"ready"`)
	return s
}

func (r *routesLab) stop(s *process, signal syscall.Signal) {
	r.t.Helper()
	s.signal(signal)
	if status := s.end(); status != 0 {
		r.t.Errorf("status %d; it said\n%s", status, strings.Join(s.seen, "\n"))
	}
}

// cli runs a command over the control socket.
func (r *routesLab) cli(args ...string) (status int, stdout, stderr string) {
	return isthmus(append(args, "--socket", r.socket)...)
}

// says fails unless a command succeeds and says all of want.
func (r *routesLab) says(line string, want ...string) string {
	r.t.Helper()
	status, stdout, stderr := r.cli(strings.Fields(line)...)
	if status != 0 || stderr != "" {
		r.t.Fatalf("isthmus %s: status %d, %s%s", line, status, stdout, stderr)
	}
	for _, w := range want {
		if !strings.Contains(stdout, w) {
			r.t.Errorf("isthmus %s: no %q in\n%s", line, w, stdout)
		}
	}
	return stdout
}

// refuses fails unless a command fails and says all of want.
func (r *routesLab) refuses(line string, want ...string) {
	r.t.Helper()
	status, _, stderr := r.cli(strings.Fields(line)...)
	if status != 1 {
		r.t.Errorf("isthmus %s: status %d, %s", line, status, stderr)
	}
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			r.t.Errorf("isthmus %s: no %q in\n%s", line, w, stderr)
		}
	}
}

// there runs a command in the namespace of the host, as a user.
func (r *routesLab) there(user uint32, env []string, args ...string) (status int, out string) {
	r.t.Helper()
	c := command(args...)
	if user != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	}
	c.Env = append(c.Env, env...)
	var both bytes.Buffer
	c.Stdout, c.Stderr = &both, &both
	if err := r.host.Start(c); err != nil {
		r.t.Fatal(err)
	}
	_ = c.Wait()
	return c.ProcessState.ExitCode(), both.String()
}

// shop makes a project whose domain is vouched for.
func (r *routesLab) shop() {
	r.t.Helper()
	r.says("project add shop --prefix 2001:db8:64::/64", "made project shop, VMs in 2001:db8:64::/64")
	r.says("project trust add shop.example shop", "project shop may have shop.example and all names in it")
}

// On an empty machine: a project, a proxy, a visitor; and it is still there after a
// restart.
func TestRoutesFromNothing(t *testing.T) {
	r := newRoutesLab(t)
	s := r.start()
	r.says("routes list", "host")
	r.shop()
	r.says("routes add www.shop.example "+shopAddr+" --project shop", "www.shop.example leads to "+shopAddr+" (project shop)", "live on 1 of 1 hypervisors", "CNAME record to dfw.proxy.infra.example.com")
	r.gets("http://www.shop.example/", "shop for www.shop.example")
	r.gets("https://www.shop.example/", "shop for www.shop.example")

	// What is not proven is stored and not served.
	r.says("routes add blog.example "+shopAddr+" --project shop", "it is not served before this record is in the DNS:\n  _isthmus-challenge.blog.example TXT ")
	r.gets("http://blog.example/", "There is no site here by this name")

	r.refuses("routes add www.shop.example "+shopAddr+" --project shop", "project shop has www.shop.example already; `isthmus routes set` changes it")
	r.refuses("routes add a.shop.example 2001:db8:65::2 ::1 --project shop", "backends/0: 2001:db8:65::2 is outside the prefixes of project shop; give", "backends/1: ::1")
	r.refuses("routes add a.shop.example "+shopAddr+" --project none", `project "none": there is none of that name`)
	r.refuses("project add shop", "there is a project shop already; `isthmus project set` changes it")
	r.refuses("routes remove none.example", "no project has none.example")
	r.refuses("project remove shop", "still has proxies")

	r.says("routes list --search www", "www.shop.example", "trusted")
	var list []wire.Proxy
	if err := json.Unmarshal([]byte(r.says("routes list -o json")), &list); err != nil || len(list) != 2 || list[1].Host != "www.shop.example" {
		t.Errorf("routes list -o json: %+v, %v", list, err)
	}
	r.says("routes set www.shop.example --https 0", "leads to")
	if got, err := r.curl("https://www.shop.example/"); err == nil || !strings.Contains(got, "unrecognized name") {
		t.Errorf("without https: %q, %v", got, err)
	}
	r.says("routes nodes", "dfw0  dfw  ")
	r.says("routes audit -n 1", "proxy.change", "www.shop.example", "root")

	var st status
	if err := json.Unmarshal([]byte(r.says("status --json")), &st); err != nil || st.Store == nil || !st.Store.Up || st.Store.Proxies["served"] != 1 || st.Store.Proxies["unproven"] != 1 || st.Store.Lag.Changes == 0 || len(st.Store.Nodes) != 1 {
		t.Errorf("status: %+v, %v", st.Store, err)
	}
	r.says("status", "store          bolt ", "answers for", "proxies        served 1, unproven 1, in 1 projects", "nodes          1, this one is dfw0; behind: none", "API            on http://"+apiAddr)
	_, body := s.get("/metrics")
	for _, want := range []string{"isthmus_routes_store_up 1", `isthmus_routes_proxies{state="served"} 1`, "isthmus_routes_skipped 1", "isthmus_proxy_routes 1", `isthmus_api_answers_total{status="412"}`, "isthmus_routes_apply_lag_seconds_bucket"} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics: no %s", want)
		}
	}

	// Out and in again.
	backup := filepath.Join(t.TempDir(), "backup.json")
	r.says("routes export " + backup + " --tokens")
	r.refuses("routes export "+backup, "is there already; name a new file")
	r.says("routes remove blog.example")
	r.says("routes import "+backup+" --dry-run", "would change", "1 added, 0 changed, 0 removed, 1 as before", "blog.example")
	r.says("routes list --search blog", "host")
	r.says("routes import "+backup, "1 added", "not served yet", "blog.example")
	r.says("routes export --format routes", "[[route]]\nhost = 'www.shop.example'")

	r.stop(s, syscall.SIGTERM)
	r.refuses("routes list", "no isthmus runs behind "+r.socket)
	s = r.start()
	r.gets("http://www.shop.example/", "shop")
	r.says("routes list", "www.shop.example", "blog.example")
	r.says("routes remove www.shop.example --project shop")
	r.says("routes holds", "www.shop.example", "shop")
	r.says("routes holds --release www.shop.example")
	r.gets("http://www.shop.example/", "There is no site here by this name")
	r.stop(s, syscall.SIGINT)
}

// From elsewhere it takes a token, and each may do what it is for.
func TestTokens(t *testing.T) {
	r := newRoutesLab(t)
	r.start()
	r.shop()
	r.says("project add blog --prefix 2001:db8:65::/64")
	file := filepath.Join(r.dir, "token")
	out := r.says("token create page --project shop --write-to "+file, "file   "+file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || strings.Contains(out, "isth_") {
		t.Errorf("token file: %v, %v; it said %s", info, err, out)
	}
	r.refuses("token create again --project shop --write-to "+file, "file exists")
	r.refuses("token create x --project none", "none")

	remote := []string{"ISTHMUS_SERVER=http://" + apiAddr, "ISTHMUS_TOKEN_FILE=" + file}
	for _, tt := range []struct {
		line   string
		status int
		want   string
	}{
		{"routes add www.shop.example " + shopAddr, 0, "live on 1 of 1 hypervisors"},
		{"routes list", 0, "www.shop.example  shop"},
		{"routes set www.shop.example --off", 0, "it is switched off"},
		{"routes check www.shop.example --no-dial", 1, "it is switched off; `isthmus routes set www.shop.example --off=false` switches it on"},
		{"routes set www.shop.example --off=false", 0, "live on 1"},
		{"routes add www.shop.example " + blogAddr + " --project blog", 1, `there is no project "blog"`},
		{"routes audit", 0, "proxy.change"},
		{"token list", 0, "page"},
		{"project add other --prefix 2001:db8:66::/64", 1, `there is no project "other"`},
		{"token create x --project shop", 1, "needs one that may do all that operators may"},
		{"routes export", 1, "needs one that may do all that operators may"},
		{"routes accept", 1, "needs one that may do all that operators may"},
	} {
		if status, out := r.there(0, remote, strings.Fields(tt.line)...); status != tt.status || !strings.Contains(out, tt.want) {
			t.Errorf("isthmus %s: status %d, want %d, %q in\n%s", tt.line, status, tt.status, tt.want, out)
		}
	}
	id := strings.Fields(r.says("token list --project shop"))
	for i, w := range id {
		if w == "page" {
			r.says("token revoke " + id[i-1])
		}
	}
	// The API goes by what the store has said for a second at most.
	eventually(t, "the end of a token", func() (bool, string) {
		status, out := r.there(0, remote, "routes", "list")
		return status == 1 && strings.Contains(out, "the token is not known: it is wrong, expired or revoked"), out
	})
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if status, out := r.there(0, remote, "routes", "list"); status != 1 || !strings.Contains(out, "others may read this token; run chmod 600") {
		t.Errorf("a token for all to see: %d, %s", status, out)
	}
	// Over the socket, nobody but root and the user of the daemon is anybody.
	if status, out := r.there(nobody-1, nil, "routes", "list", "--socket", r.socket); status != 1 || !strings.Contains(out, "is not for this user; run as root") {
		t.Errorf("another user: %d, %s", status, out)
	}
}

// isthmus routes check follows the way of a visitor.
func TestRoutesCheck(t *testing.T) {
	r := newRoutesLab(t)
	r.start()
	r.shop()
	r.says("routes add www.shop.example " + shopAddr + " --project shop")
	r.says("routes add down.shop.example 2001:db8:64::2 --http 81 --https 444 --project shop")
	check := func(host string) (int, string) {
		return r.there(0, nil, "routes", "check", host, "--socket", r.socket)
	}
	_, out := check("www.shop.example")
	for _, want := range []string{"www.shop.example, of project shop", "proof        trusted", "hypervisors  1 of 1 have it", "[" + shopAddr + "]:80 takes connections, after"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	status, out := check("down.shop.example")
	if status != 1 || !strings.Contains(out, "]:81: connection refused") || !strings.Contains(out, "no VM takes a connection from here") {
		t.Errorf("status %d\n%s", status, out)
	}
	if status, out := check("none.example"); status != 1 || !strings.Contains(out, "no project has none.example") {
		t.Errorf("status %d\n%s", status, out)
	}
}

// The old process lets go of the file when it begins to drain; until then the new
// one serves from the copy on the disk.
func TestRoutesTakeover(t *testing.T) {
	r := newRoutesLab(t)
	old := r.start()
	r.shop()
	r.says("routes add www.shop.example " + shopAddr + " --project shop")
	r.stop(old, syscall.SIGTERM) // which writes the copy
	old = r.start()
	slow := make(chan string, 1)
	go func() {
		out, err := r.curl("http://www.shop.example/slow")
		slow <- fmt.Sprintf("%s %v", out, err)
	}()
	eventually(t, "the visitor", func() (bool, string) { return r.status().Proxy.Connections > 0, "" })
	next := r.start()
	if said := strings.Join(next.seen, "\n"); !strings.Contains(said, "routes: 1 of the store from ") || !strings.Contains(said, "another process has the file") {
		t.Errorf("it said\n%s", said)
	}
	r.refuses("routes add b.shop.example "+shopAddr+" --project shop", "the store does not answer now", "`isthmus status` on a hypervisor says why")
	r.says("status", "another process has the file", "routes of before go on")
	r.says("routes list", "www.shop.example") // the new one's copy
	old.signal(syscall.SIGTERM)
	next.wait("routes: the store is open")
	r.says("routes add b.shop.example " + shopAddr + " --project shop")
	r.gets("http://b.shop.example/", "shop")
	r.gets("http://www.shop.example/", "shop")
	if got := <-slow; !strings.HasSuffix(got, "to the end\n <nil>") {
		t.Errorf("a page under way: %q", got)
	}
	if status := old.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(old.seen, "\n"))
	}
	r.stop(next, syscall.SIGTERM)
}

// A store that is spoiled, or away, takes no route from anybody.
func TestRoutesWithoutStore(t *testing.T) {
	r := newRoutesLab(t)
	s := r.start()
	r.shop()
	r.says("routes add www.shop.example " + shopAddr + " --project shop")
	r.stop(s, syscall.SIGTERM) // which writes the copy

	file := filepath.Join(r.dir, "state", "routes.db")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Repeat([]byte("no store. "), 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	s = r.start()
	r.gets("http://www.shop.example/", "shop")
	r.says("routes list", "www.shop.example")
	r.refuses("routes remove www.shop.example --project shop", "the store does not answer now")
	r.says("status", "away for", "is damaged", "isthmus routes import", "routes of before go on", "from the copy on the disk")
	_, body := s.get("/metrics")
	if !strings.Contains(body, "isthmus_routes_store_up 0\n") {
		t.Error("/metrics: the store is up")
	}
	r.stop(s, syscall.SIGTERM)
	if now, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(now, []byte("no store. no store.")) {
		t.Errorf("the damaged file has been touched: %v", err)
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}

	// etcd is where nobody answers.
	r.configure("engine = 'etcd'\n[routes.etcd]\nendpoints = ['http://[2001:db8:64::2]:2379']")
	r.start()
	r.gets("http://www.shop.example/", "shop")
	r.says("routes list", "www.shop.example")
	r.says("status", "store          etcd http://[2001:db8:64::2]:2379, keys /isthmus/, away for")
}

// Where VMs may be holds for what is stored already, at once.
func TestRoutesReload(t *testing.T) {
	r := newRoutesLab(t)
	s := r.start()
	r.shop()
	r.says("routes add www.shop.example " + shopAddr + " --project shop")
	r.gets("http://www.shop.example/", "shop")
	file := filepath.Join(r.dir, "isthmus.toml")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r.write("isthmus.toml", strings.Replace(string(before), `"2001:db8:64::/64", `, "", 1))
	s.signal(syscall.SIGHUP)
	s.wait(`"message":"reloaded"`)
	r.gets("http://www.shop.example/", "There is no site here by this name")
	r.refuses("routes add b.shop.example "+shopAddr+" --project shop", "backends/0: "+shopAddr)
	r.says("status", "unreachable 1")
	r.write("isthmus.toml", string(before))
	s.signal(syscall.SIGHUP)
	s.wait(`"message":"reloaded"`)
	r.gets("http://www.shop.example/", "shop")
}

// From a file to a cluster is one command.
func TestRoutesMigrate(t *testing.T) {
	r := newRoutesLab(t)
	etcdtest.Debian(t)
	s := r.start()
	r.shop()
	r.says("routes add www.shop.example " + shopAddr + " --project shop")
	file := filepath.Join(r.dir, "state", "routes.db")
	cluster := etcdtest.Start(t, r.lab, labetcd.Config{})
	if err := cluster.Join(r.host); err != nil {
		t.Fatal(err)
	}
	to := "etcd:" + strings.Join(cluster.Endpoints(), ",")
	migrate := func(from, to string, more ...string) (int, string) {
		return r.there(0, nil, append([]string{"routes", "migrate", "--from", from, "--to", to}, more...)...)
	}
	if status, out := migrate("bolt:"+file, to); status != 1 || !strings.Contains(out, file+" is in use; stop isthmus first") {
		t.Errorf("a store in use: %d, %s", status, out)
	}
	r.stop(s, syscall.SIGTERM)
	if status, out := migrate("bolt:"+file+"x", to); status != 1 || !strings.Contains(out, "no such file") {
		t.Errorf("no store: %d, %s", status, out)
	}
	if status, out := migrate("bolt:"+file, to); status != 0 || !strings.Contains(out, " records are in "+to+" now") {
		t.Fatalf("migrate: %d, %s", status, out)
	}
	if status, out := migrate("config:"+filepath.Join(r.dir, "isthmus.toml"), to); status != 1 || !strings.Contains(out, "remove them with --force") {
		t.Errorf("not empty: %d, %s", status, out)
	}
	r.configure(fmt.Sprintf("engine = 'etcd'\n[routes.etcd]\nendpoints = [%q]", cluster.Endpoints()[0]))
	s = r.start()
	r.gets("http://www.shop.example/", "shop")
	r.says("routes list", "www.shop.example", "trusted")
	r.says("routes add b.shop.example "+shopAddr+" --project shop", "live on 1 of 1 hypervisors")
	r.gets("http://b.shop.example/", "shop")
	r.stop(s, syscall.SIGTERM)
}

func TestRoutesConfigCheck(t *testing.T) {
	dir := t.TempDir()
	const base = "[proxy]\nvm_prefixes = ['2001:db8::/32']\n[router]\nstate_dir = '/nowhere'\n"
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, doc string
		want      []string
	}{
		{"bolt", base + "[routes]\nengine = 'bolt'\n[api]\nlisten = ['[::1]:8443']", []string{"store of routes", "bolt /nowhere/routes.db", "on http://[::1]:8443, the control socket"}},
		{"certificate", base + "[routes]\nengine = 'bolt'\n[api]\nlisten = ['[::1]:8443']\ncert_file = '/nowhere/c'\nkey_file = '/nowhere/k'", []string{"certificate of the API: open /nowhere/c: no such file or directory; the API would not start here"}},
		{"etcd", base + "[routes]\nengine = 'etcd'\n[routes.etcd]\nendpoints = ['https://a:1']", []string{"etcd https://a:1, keys /isthmus/"}},
		{"authorities", base + "[routes]\nengine = 'etcd'\n[routes.etcd]\nendpoints = ['https://a:1']\nca_file = '/nowhere/ca'", []string{"certificates of etcd's authorities: open /nowhere/ca", "web proxy and API would not start here"}},
		{"password", base + "[routes]\nengine = 'etcd'\n[routes.etcd]\nendpoints = ['https://a:1']\nuser = 'i'\npassword_file = '" + secret + "'", []string{"others may read this password; run chmod 600 " + secret}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := isthmus("check", "-c", writeConfig(t, tt.doc))
			for _, want := range tt.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
			if status != 0 || stderr != "" {
				t.Errorf("status %d, %s", status, stderr)
			}
		})
	}
}

// eventually waits until something holds; what it says last is shown if it never does.
func eventually(t *testing.T, what string, holds func() (ok bool, said string)) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		ok, said := holds()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not come:\n%s", what, said)
		}
	}
}

// What is announced goes with the process, so that the end does not wait for a
// cluster that is away. A store's request has etcd.DefaultTimeout.
func TestRoutesStopWithoutCluster(t *testing.T) {
	for _, how := range []string{"killed", "frozen"} {
		t.Run(how, func(t *testing.T) {
			r := newRoutesLab(t)
			etcdtest.Debian(t)
			cluster := etcdtest.Start(t, r.lab, labetcd.Config{})
			if err := cluster.Join(r.host); err != nil {
				t.Fatal(err)
			}
			r.configure(fmt.Sprintf("engine = 'etcd'\n[routes.etcd]\nendpoints = [%q]", cluster.Endpoints()[0]))
			s := r.start()
			r.shop()
			r.says("routes add www.shop.example "+shopAddr+" --project shop", "live on 1 of 1 hypervisors")
			if m := cluster.Members[0]; how == "killed" {
				m.Kill()
			} else if err := m.Freeze(); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			r.stop(s, syscall.SIGTERM)
			if took := time.Since(began); took >= etcd.DefaultTimeout/2 {
				t.Errorf("it has ended after %v", took)
			} else {
				t.Logf("it has ended after %v", took)
			}
			// The copy on the disk has what was acknowledged.
			s = r.start()
			r.gets("http://www.shop.example/", "shop")
			r.stop(s, syscall.SIGTERM)
		})
	}
}
