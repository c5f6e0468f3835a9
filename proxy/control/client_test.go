package control

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
)

// socket serves the world's API on a Unix socket, as the daemon does.
func (w *world) socket() string {
	w.t.Helper()
	l, err := net.Listen("unix", filepath.Join(w.t.TempDir(), "s"))
	if err != nil {
		w.t.Fatal(err)
	}
	s := &http.Server{Handler: w.server.Local(), ConnContext: Peer}
	go s.Serve(l)
	w.t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

func (w *world) dial(o client.Options) *client.Client {
	w.t.Helper()
	c, err := client.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func (w *world) caFile() string { return w.config.Listen[0].CertFile }

// Everything that the client can ask for, over the Unix socket without a token.
func TestClientOverTheSocket(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.dial(client.Options{URL: "unix:" + w.socket()})
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	me, err := c.Me(ctx)
	if check("me", err); !me.Operator || me.Token != nil || me.By == "" {
		t.Errorf("this is %+v", me)
	}
	p, a, err := c.PutProject(ctx, "new", wire.PutProject{Prefixes: []string{"2001:db8:66::/64"}}, client.If{Absent: true})
	if check("put project", err); !a.Created || a.Revision == 0 || p.CreatedBy != me.By {
		t.Errorf("%+v, %+v", p, a)
	}
	if p, _, err = c.Project(ctx, "new"); err != nil || p.Name != "new" {
		t.Errorf("%+v, %v", p, err)
	}
	names := ""
	for p, err := range c.Projects(ctx) {
		check("projects", err)
		names += p.Name + " "
	}
	if names != "blog new shop " {
		t.Errorf("projects: %s", names)
	}

	zero := uint16(0)
	vm := []netip.Addr{netip.MustParseAddr("2001:db8:66::2")}
	x, a, err := c.PutProxy(ctx, "new", "*.new.example", wire.PutProxy{Backends: vm, HTTP: &zero}, client.If{})
	if check("put proxy", err); x.HTTP != 0 || x.HTTPS != 443 || a.ETag == "" {
		t.Errorf("%+v, %+v", x, a)
	}
	if x, a, err = c.Proxy(ctx, "new", "*.new.example"); err != nil || x.Host != "*.new.example" || a.ETag == "" {
		t.Errorf("%+v, %v", x, err)
	}
	n := 0
	for _, err := range c.Proxies(ctx, "new", "new") {
		check("proxies", err)
		n++
	}
	for range c.Proxies(ctx, "new", "other") {
		n++
	}
	if n != 1 {
		t.Errorf("%d proxies", n)
	}
	if s, err := c.State(ctx, "new", "*.new.example"); err != nil || s.Served || s.Revision != x.Revision {
		t.Errorf("%+v, %v", s, err)
	}
	trust, _, err := c.PutTrust(ctx, "new.example", "new", client.If{})
	if check("put trust", err); trust.Project != "new" {
		t.Errorf("%+v", trust)
	}
	for _, err := range c.Trusts(ctx) {
		check("trusts", err)
		n++
	}
	w.eventually("trusted and served", func() bool {
		s, err := c.State(ctx, "new", "*.new.example")
		check("state", err)
		return s.Served && n == 2
	})
	check("delete trust", c.DeleteTrust(ctx, "new.example", client.If{}))

	made, err := c.CreateToken(ctx, wire.PostToken{Name: "x", Project: "new", Verb: "read", Expires: time.Now().Add(time.Hour)})
	if check("create token", err); made.Secret == "" {
		t.Errorf("%+v", made)
	}
	for tok, err := range c.Tokens(ctx, "new") {
		check("tokens", err)
		if tok.ID != made.ID || tok.Expires.IsZero() {
			t.Errorf("%+v", tok)
		}
	}
	check("revoke token", c.RevokeToken(ctx, "new", made.ID))
	_, err = c.Nodes(ctx)
	check("nodes", err)
	live, err := c.WaitLive(ctx, x.Revision)
	if check("live", err); live.Live != live.Nodes {
		t.Errorf("%+v", live)
	}
	_, err = c.DeleteProxy(ctx, "new", "*.new.example", client.If{ETag: `"1"`})
	if client.Status(err) != 412 || !strings.Contains(err.Error(), "get it again") {
		t.Errorf("got %v", err)
	}
	_, a, err = c.Proxy(ctx, "new", "*.new.example")
	check("get it again", err)
	_, err = c.DeleteProxy(ctx, "new", "*.new.example", client.If{ETag: a.ETag})
	check("delete proxy", err)
	_, err = c.DeleteProject(ctx, "new", client.If{})
	check("delete project", err)
	log := ""
	for r, err := range c.Audit(ctx, "new") {
		check("audit", err)
		if r.By == me.By && r.Target == "new" {
			log += r.Action + " "
		}
	}
	if log != "project.delete project.create " {
		t.Errorf("the log says %s", log)
	}
}

func TestClientOverTLS(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(w.shop+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := w.dial(client.Options{URL: w.url, TokenFile: file, CAFile: w.caFile()})
	if me, err := c.Me(ctx); err != nil || me.Token == nil || me.Token.Project != "shop" {
		t.Errorf("%+v, %v", me, err)
	}
	// What the server refuses, in words for people.
	_, _, err := c.PutProxy(ctx, "shop", "www.shop.example", wire.PutProxy{Backends: []netip.Addr{netip.MustParseAddr("2001:db8:65::2"), netip.IPv6Loopback()}}, client.If{})
	if text := err.Error(); client.Status(err) != 422 || !strings.HasPrefix(text, "backends/0: 2001:db8:65::2 is outside") || !strings.Contains(text, "\nbackends/1: ::1 ") {
		t.Errorf("got %v", err)
	}
	if _, _, err = c.Proxy(ctx, "blog", "www.blog.example"); client.Status(err) != 404 || err.Error() != `there is no project "blog"` {
		t.Errorf("got %v", err)
	}
	stranger := w.dial(client.Options{URL: w.url, Token: "isth_wrong", CAFile: w.caFile()})
	if _, err := stranger.Me(ctx); client.Status(err) != 401 || !strings.Contains(err.Error(), "wrong, expired or revoked") {
		t.Errorf("got %v", err)
	}
	unknown := w.dial(client.Options{URL: w.url, Token: w.shop})
	if _, err := unknown.Me(ctx); err == nil || client.Status(err) != 0 || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody's: %v", err)
	}
}
