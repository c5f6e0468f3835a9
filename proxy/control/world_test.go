package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

// world is a server with TLS over a store with two projects, and their tokens.
type world struct {
	t       *testing.T
	store   store.Store
	catalog *catalog.Catalog
	config  Config
	server  *Server
	url     string
	client  *http.Client
	log     *lines

	operator, shop, reader, blog string // tokens: shop and reader are of one project
}

var vms = netip.MustParsePrefix("2001:db8::/32")

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, log: &lines{}}
	w.store = open(t, filepath.Join(t.TempDir(), "routes.db"))
	w.catalog = catalog.New(w.store, catalog.Options{VMs: []netip.Prefix{vms}})
	w.seed()

	dir := t.TempDir()
	certFile, keyFile := writeCertificate(t, dir, "api.example")
	w.config = Config{
		Listen:  []Listen{{Address: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile}},
		Catalog: w.catalog, Mirror: follow(t, w.store), Guard: access.New(w.catalog, access.Limits{PerSecond: -1, Burst: -1, Failures: -1}),
		POPs: []string{"dfw", "ams"}, Domain: "infra.example", Log: w.log.log,
		Timeouts: Timeouts{Applied: 20 * time.Second}, // also on a slow machine
	}
	for _, f := range change {
		f(&w.config)
	}
	var err error
	if w.server, err = New(w.config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		w.server.Shutdown(ctx)
	})
	w.url = "https://" + w.server.Addresses()[0].String()
	pem, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	w.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}, Timeout: 20 * time.Second}
	t.Cleanup(w.client.CloseIdleConnections)
	return w
}

var root = catalog.Actor{By: "test"}

func (w *world) seed() {
	w.t.Helper()
	ctx := w.t.Context()
	for name, prefix := range map[string]string{"shop": "2001:db8:64::/64", "blog": "2001:db8:65::/64"} {
		if _, err := w.catalog.PutProject(ctx, root, catalog.Project{Name: name, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}, catalog.Match{}); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, tok := range []struct {
		to      *string
		project string
		verb    catalog.Verb
	}{{&w.operator, "", catalog.Operator}, {&w.shop, "shop", catalog.Write}, {&w.reader, "shop", catalog.Read}, {&w.blog, "blog", catalog.Write}} {
		*tok.to, _ = w.token(catalog.Token{Name: "test", Project: tok.project, Verb: tok.verb})
	}
}

func (w *world) token(t catalog.Token) (secret, id string) {
	w.t.Helper()
	secret, made, err := w.catalog.CreateToken(w.t.Context(), root, t)
	if err != nil {
		w.t.Fatal(err)
	}
	return secret, made.ID
}

// open opens a store until the test ends.
func open(t testing.TB, path string) store.Store {
	t.Helper()
	s, err := bolt.Open(context.Background(), path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// follow mirrors a store until the test ends.
func follow(t testing.TB, s store.Store) *mirror.Mirror {
	t.Helper()
	m := mirror.New(mirror.Config{
		Open: func(context.Context) (store.Store, error) { return s, nil },
		Node: catalog.Node{Name: "here", Version: "test", Started: time.Now()},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { m.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	<-m.Ready()
	return m
}

// eventually waits for what comes by itself.
func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("never %s", what)
		}
	}
}

// reply is an answer that has been read.
type reply struct {
	*http.Response
	text []byte
}

// ask sends a request. Headers come as "Name: value"; an empty token sends none.
func (w *world) ask(method, path, token, body string, headers ...string) *reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if value == "" {
			req.Header.Del(name)
		} else {
			req.Header.Set(name, value)
		}
	}
	return w.do(req)
}

func (w *world) do(req *http.Request) *reply {
	w.t.Helper()
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	r := &reply{resp, text}
	w.conforms(req, r)
	return r
}

// want checks the status.
func (w *world) want(r *reply, status int) *reply {
	w.t.Helper()
	if r.StatusCode != status {
		w.t.Errorf("%s %s: %s, want %d\n%s", r.Request.Method, r.Request.URL.Path, r.Status, status, r.text)
	}
	return r
}

// as decodes an answer, strictly.
func as[T any](t *testing.T, r *reply) (v T) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(r.text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Errorf("%s: %v", r.text, err)
	}
	return v
}

// problemOf is what an answer refuses, which has to be a problem.
func (w *world) problemOf(r *reply) wire.Problem {
	w.t.Helper()
	p := as[wire.Problem](w.t, r)
	if kind := r.Header.Get("Content-Type"); kind != wire.ProblemType || p.Status != r.StatusCode || p.Title == "" {
		w.t.Errorf("%s %s: no problem: %s, %+v", r.Request.Method, r.Request.URL.Path, kind, p)
	}
	return p
}

const (
	shopProxies = "/api/v1/projects/shop/proxies"
	shopProxy   = shopProxies + "/www.shop.example"
	toVM        = `{"backends": ["2001:db8:64::2"]}`
)
