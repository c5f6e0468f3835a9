package control

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
)

// raw sends bytes over TLS, and gives what comes back until the server closes.
func (w *world) raw(t *testing.T, parts ...string) string {
	t.Helper()
	c, err := tls.Dial("tcp", w.server.Addresses()[0].String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	for _, p := range parts {
		if _, err := io.WriteString(c, p); err != nil {
			break // it has hung up
		}
	}
	text, err := io.ReadAll(c)
	if err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("the server waits for ever")
	}
	return string(text)
}

// Nobody keeps a connection by being slow.
func TestSlowClients(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Timeouts = Timeouts{Header: 300 * time.Millisecond, Body: 300 * time.Millisecond, Idle: 300 * time.Millisecond}
	})
	put := "PUT " + shopProxy + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + w.shop + "\r\nContent-Type: application/json\r\n"
	for _, c := range []struct {
		name  string
		parts []string
		want  string
	}{
		{"says nothing", nil, ""},
		{"half a header", []string{"GET /api/v1/me HTTP/1.1\r\nHost: local"}, ""},
		{"half a body", []string{put + "Content-Length: 32\r\n\r\n{"}, "HTTP/1.1 408 "},
		{"chunks without end", []string{put + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"}, "HTTP/1.1 408 "},
		{"idle after an answer", []string{"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"}, "HTTP/1.1 200 "},
		{"chunks beyond the bound", []string{put + "Transfer-Encoding: chunked\r\n\r\n", "10000\r\n" + strings.Repeat(" ", 0x10000) + "\r\n"}, "HTTP/1.1 413 "},
		{"a header beyond the bound", []string{"GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"}, "HTTP/1.1 431 "},
		{"two lengths", []string{put + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"}, "HTTP/1.1 400 "},
		{"two tokens", []string{"GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer " + w.shop + "\r\nAuthorization: Bearer " + w.blog + "\r\n\r\n"}, "HTTP/1.1 401 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := w.raw(t, c.parts...); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" && !strings.HasPrefix(got, "HTTP/1.1 4") {
				t.Errorf("got %.200q", got)
			}
		})
	}
}

func TestOldTLS(t *testing.T) {
	w := newWorld(t)
	at := w.server.Addresses()[0].String()
	if c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	resp, err := http.Get("http://" + at + "/api/v1/openapi.json")
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: %s", resp.Status)
		}
	}
}

// plain adds a listener without TLS to the world, and gives its URL.
func plain(c *Config) { c.Listen = append(c.Listen, Listen{Address: "127.0.0.1:0"}) }

func TestLoopbackListener(t *testing.T) {
	w := newWorld(t, plain, func(c *Config) { c.Hosts = []string{"api.example"} })
	at := w.server.Addresses()[1].String()
	for host, status := range map[string]int{
		"": 200, "localhost": 200, "api.example": 200, "evil.example": 421, "evil.example:80": 421, "192.0.2.1": 421,
	} {
		req, err := http.NewRequest("GET", "http://"+at+"/api/v1/me", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Authorization", "Bearer "+w.shop)
		w.url = "http://" + at
		if r := w.do(req); r.StatusCode != status {
			t.Errorf("Host %q: %s", host, r.Status)
		}
	}
}

func TestTooManyRequests(t *testing.T) {
	w := newWorld(t)
	w.config.Guard = access.New(w.catalog, access.Limits{PerSecond: 1, Burst: 3, Failures: 2})
	if err := w.server.Update(w.config); err != nil {
		t.Fatal(err)
	}
	var last *reply
	for range 10 {
		if last = w.ask("GET", "/api/v1/me", w.shop, ""); last.StatusCode != 200 {
			break
		}
	}
	if p := w.problemOf(w.want(last, 429)); !strings.Contains(p.Detail, "too many requests with this token") || last.Header.Get("Retry-After") != "1" {
		t.Errorf("%+v, %v", p, last.Header)
	}
	w.want(w.ask("GET", "/api/v1/me", w.reader, ""), 200)

	// Strangers are elsewhere.
	from := func(address, token string) *reply {
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/me", nil)
		req.RemoteAddr = address
		req.Header.Set("Authorization", "Bearer "+token)
		rec := httptest.NewRecorder()
		w.server.handler.public(rec, req)
		r := &reply{rec.Result(), rec.Body.Bytes()}
		r.Request = req
		return r
	}
	w.want(from("192.0.2.1:1", w.blog), 200)
	for range 10 {
		if last = from("192.0.2.1:1", "wrong"); last.StatusCode != 401 {
			break
		}
	}
	if p := w.problemOf(w.want(last, 429)); !strings.Contains(p.Detail, "too many wrong tokens from this address") || last.Header.Get("Retry-After") != "30" {
		t.Errorf("%+v, %v", p, last.Header)
	}
	w.want(from("192.0.2.1:1", w.blog), 200)     // known from before
	w.want(from("192.0.2.1:1", w.operator), 429) // a new one may be a guess
	w.want(from("[2001:db8::1]:1", w.operator), 200)
}

// What one node revokes ends on all others within Fresh.
func TestRevocationElsewhere(t *testing.T) {
	w := newWorld(t)
	secret, id := w.token(catalog.Token{Name: "x", Project: "shop", Verb: catalog.Read})
	w.want(w.ask("GET", "/api/v1/me", secret, ""), 200)
	if err := w.catalog.RevokeToken(t.Context(), root, "", id); err != nil { // as by another node
		t.Fatal(err)
	}
	revoked := time.Now()
	for {
		r := w.ask("GET", "/api/v1/me", secret, "")
		if r.StatusCode == 401 {
			break
		}
		if time.Since(revoked) > 10*access.Fresh {
			t.Fatal("it is good still")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Of those who want a name at the same time one gets it.
func TestRaceForAName(t *testing.T) {
	w := newWorld(t)
	for round := range 5 {
		var all sync.WaitGroup
		answers := make([]int, 8)
		host := fmt.Sprintf("race%d.example.net", round)
		for i := range answers {
			project, token, vm := "shop", w.shop, "2001:db8:64::2"
			if i%2 == 1 {
				project, token, vm = "blog", w.blog, "2001:db8:65::2"
			}
			all.Go(func() {
				answers[i] = w.ask("PUT", "/api/v1/projects/"+project+"/proxies/"+host, token, `{"backends": ["`+vm+`"]}`, "If-None-Match: *").StatusCode
			})
		}
		all.Wait()
		made := map[int]int{}
		for _, status := range answers {
			made[status]++
		}
		if made[201] != 1 || made[409] != 4 || made[412] != 3 {
			t.Errorf("answers %v", answers)
		}
	}
}

func TestStoreAway(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("PUT", shopProxy, w.shop, toVM), 201)
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	r := w.want(w.ask("PUT", shopProxy, w.shop, `{"backends": ["2001:db8:64::3"]}`), 503)
	if p := w.problemOf(r); !strings.Contains(p.Detail, "send it again") || r.Header.Get("Retry-After") == "" {
		t.Errorf("%+v, %v", p, r.Header)
	}
	w.want(w.ask("GET", "/api/v1/me", w.blog, ""), 503) // nobody knows whether it is good

	// Who needs no token still sees what is served.
	c := w.dial(client.Options{URL: "unix:" + w.socket()})
	if p, _, err := c.Proxy(t.Context(), "shop", "www.shop.example"); err != nil || p.Host != "www.shop.example" {
		t.Errorf("%+v, %v", p, err)
	}
}

// A new process takes the address over, and what has begun ends well.
func TestTakeOver(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(c *Config) {
		c.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(begun)
				<-finish
			}
			io.WriteString(w, "old")
		})
	})
	answered := make(chan string)
	go func() {
		resp, err := w.client.Get(w.url + "/slow")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answered <- string(text)
	}()
	<-begun
	next := w.config
	next.Listen = []Listen{{Address: w.server.Addresses()[0].String(), CertFile: w.config.Listen[0].CertFile, KeyFile: w.config.Listen[0].KeyFile}}
	next.Page = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "new") })
	second, err := New(next)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Shutdown(context.Background())
	down := make(chan struct{})
	go func() {
		w.server.Shutdown(context.Background())
		close(down)
	}()
	fresh := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := fresh.Get(w.url + "/")
		text := ""
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			text = string(b)
		}
		if text == "new" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the new one is not asked: %q, %v", text, err)
		}
	}
	select {
	case <-down:
		t.Error("shut down while a request was not answered")
	default:
	}
	close(finish)
	if got := <-answered; got != "old" {
		t.Errorf("the request that had begun ends with %q", got)
	}
	<-down
}

// Shutdown does not wait longer than it is told.
func TestShutdownEnds(t *testing.T) {
	begun := make(chan struct{})
	w := newWorld(t, func(c *Config) {
		c.Page = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
		})
	})
	go func() {
		if resp, err := w.client.Get(w.url + "/slow"); err == nil {
			resp.Body.Close()
		}
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w.server.Shutdown(ctx)
}

func TestPanicIsOneRequests(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Page = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") })
	})
	w.problemOf(w.want(w.ask("GET", "/", "", ""), 500))
	w.want(w.ask("GET", "/api/v1/me", w.shop, ""), 200)
	if !strings.Contains(w.log.String(), "panic: oops") {
		t.Errorf("told: %v", w.log)
	}
	if n := w.server.Stats().Answers[500]; n != 1 {
		t.Errorf("counted %d", n)
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Catalog = nil }, "the API needs the catalog"},
		{func(c *Config) { c.Listen = []Listen{{Address: "0.0.0.0:0"}} }, "clear text"},
		{func(c *Config) { c.Listen[0].CertFile = "none" }, "give PEM files"},
		{func(c *Config) {
			c.Listen = append([]Listen{{Address: "127.0.0.1:0"}}, Listen{Address: "192.0.2.1:1", CertFile: c.Listen[0].CertFile, KeyFile: c.Listen[0].KeyFile})
		}, "this host has no such address"},
	} {
		config := w.config
		config.Listen = append([]Listen{}, w.config.Listen...)
		c.change(&config)
		if s, err := New(config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
			if s != nil {
				s.Shutdown(t.Context())
			}
		}
	}
	if err := w.server.Update(Config{}); err == nil {
		t.Error("updated to nothing")
	}
	w.want(w.ask("GET", "/api/v1/me", w.shop, ""), 200)
}

// A client has so many connections and no more.
func TestConnectionsOfAClient(t *testing.T) {
	w := newWorld(t, plain)
	// 127.0.0.1 stands for all that a forwarder brings, so it has no bound of its own.
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range maxPerClient + 5 {
		c, err := net.Dial("tcp", w.server.Addresses()[1].String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	c := open[len(open)-1]
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET /api/v1/openapi.json HTTP/1.0\r\nHost: localhost\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Errorf("got %q, %v", line, err)
	}
}

// Before a node has read anything it does not say that there is nothing.
func TestNothingReadYet(t *testing.T) {
	w := newWorld(t)
	away := w.config
	away.Mirror = mirror.New(mirror.Config{})
	if err := w.server.Update(away); err != nil {
		t.Fatal(err)
	}
	r := w.want(w.ask("GET", shopProxies, w.shop, ""), 503)
	if p := w.problemOf(r); !strings.Contains(p.Detail, "has read nothing of the store yet") || r.Header.Get("Retry-After") != "1" {
		t.Errorf("%+v, %v", p, r.Header)
	}
}

// Who has seen a revision is not answered as of before.
func TestAnswersAsOf(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Timeouts.Applied = 100 * time.Millisecond })
	p := as[wire.Proxy](t, w.want(w.ask("PUT", shopProxy, w.shop, toVM), 201))
	w.want(w.ask("GET", shopProxy, w.shop, "", fmt.Sprint(RevisionHeader, ": ", p.Revision)), 200)
	// The node's own announcements are commits, too: one ahead would soon be there.
	const more = 20
	ahead := fmt.Sprint(RevisionHeader, ": ", p.Revision+more)
	r := w.want(w.ask("GET", shopProxy, w.shop, "", ahead), 503)
	if p := w.problemOf(r); !strings.Contains(p.Detail, "has not got revision") || r.Header.Get("Retry-After") != "1" {
		t.Errorf("%+v, %v", p, r.Header)
	}
	go func() {
		for i := range more {
			_, _, _ = w.catalog.PutProxy(context.Background(), root, catalog.Proxy{Host: fmt.Sprintf("b%d.shop.example", i), Project: "shop", Backends: []netip.Addr{netip.MustParseAddr("2001:db8:64::2")}, HTTP: 80}, catalog.Match{})
		}
	}()
	w.eventually("there", func() bool { return w.ask("GET", shopProxy, w.shop, "", ahead).StatusCode == 200 })
}

// A client that hangs up in the middle is no fault of ours, and none to tell of.
func TestClientsThatHangUp(t *testing.T) {
	w := newWorld(t)
	put := "PUT " + shopProxy + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + w.shop + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
	get := "GET /api/v1/audit HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + w.operator + "\r\n\r\n"
	for range 20 {
		for _, text := range []string{put, get} {
			c, err := tls.Dial("tcp", w.server.Addresses()[0].String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, text)
			c.NetConn().Close()
		}
	}
	w.eventually("all looked at", func() bool { return w.server.Stats().Answers[400] == 20 })
	if n := w.server.Stats().Answers[500]; n != 0 || w.log.String() != "" {
		t.Errorf("%d faults; told: %v", n, w.log)
	}
}
