package control

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/proof"
)

// What name servers say, or don't, is told as it is.
func TestLook(t *testing.T) {
	// Somebody who takes questions and never answers.
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	at := netip.MustParseAddrPort(silent.LocalAddr().String())
	for _, c := range []struct {
		name     string
		timeout  time.Duration // of a question
		patience time.Duration // of a request
		status   int
		want     string
	}{
		{"no answer", 20 * time.Millisecond, 20 * time.Second, 200, ""},
		{"no answer in time", 10 * time.Second, 200 * time.Millisecond, 503, "the name servers of www.shop.example do not answer in time; ask again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.want(w.ask("PUT", shopProxy, w.shop, toVM), 201)
			config := w.config
			config.Timeouts.Request = c.patience
			config.Check = Look(proof.NewChecker(proof.CheckerConfig{
				Catalog: w.catalog, Store: w.store, POPs: []string{"dfw.proxy.infra.example"},
				DNS: proof.New(proof.Config{Resolvers: []netip.AddrPort{at}, Timeout: c.timeout, Total: c.timeout}),
			}))
			if err := w.server.Update(config); err != nil {
				t.Fatal(err)
			}
			r := w.want(w.ask("POST", shopProxy+"/check", w.shop, ""), c.status)
			if c.status != 200 {
				if p := w.problemOf(r); !strings.Contains(p.Detail, c.want) || r.Header.Get("Retry-After") != "10" {
					t.Errorf("%+v, %v", p, r.Header)
				}
				return
			}
			got := as[wire.Check](t, r)
			if got.Proof.State != "pending" || got.Proof.Problem == "" || got.CNAME.OK || got.CNAME.Problem == "" || got.CNAME.Found == nil {
				t.Errorf("got %+v", got)
			}
			// A project looks so often and no more.
			var all sync.WaitGroup
			var tooOften atomic.Int32
			for i := range 30 {
				all.Go(func() {
					host := fmt.Sprintf("%s/w%d.shop.example", shopProxies, i)
					w.ask("PUT", host, w.shop, toVM)
					if r := w.ask("POST", host+"/check", w.shop, ""); r.StatusCode == 429 && r.Header.Get("Retry-After") == "1" {
						tooOften.Add(1)
					}
				})
			}
			if all.Wait(); tooOften.Load() == 0 {
				t.Error("never too often")
			}
		})
	}
}

func TestFound(t *testing.T) {
	for _, c := range []struct {
		p    proof.Pointing
		want string
	}{
		{proof.Pointing{Where: proof.Here, Text: "CNAME ok", Chain: []string{"dfw.proxy.infra.example"}}, `true [dfw.proxy.infra.example] ""`},
		{proof.Pointing{Where: proof.Missing, Text: "add it"}, `false [] "add it"`},
		{proof.Pointing{Where: proof.Elsewhere, Text: "no", Chain: []string{"a.example"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, `false [a.example 192.0.2.1] "no"`},
	} {
		f := found(&c.p)
		if got := fmt.Sprintf("%v %v %q", f.OK, f.Found, f.Problem); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
