package routesync

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/proxy/control/wire"
)

// TestVisits has visitors come to two nodes: the page of a third shows them all.
func TestVisits(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := New(ctx, labtest.New(t, "visits"), Config{Binary: labtest.Isthmus(t), Nodes: 3, Etcd: labetcd.Config{Program: etcdtest.Current(t), Members: 1}})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	must(err)
	host := "www." + domain
	_, err = w.Nodes[0].Put(ctx, host, w.VMs[0])
	must(err)
	visits := 0
	for i, n := range w.Nodes[:2] {
		must(n.Until(ctx, host, w.VMs[0])) // the first visit that counts
		visits++
		for range 3 + i {
			if _, status, err := n.Ask(ctx, host); status != http.StatusOK {
				t.Fatalf("%s: status %d, %v", n.Name, status, err)
			}
			visits++
		}
	}

	third := w.Nodes[2]
	must(third.process.Stop())
	f, err := os.OpenFile(third.config, os.O_APPEND|os.O_WRONLY, 0)
	must(err)
	_, err = f.WriteString("[api]\nlisten = [\"[::1]:8443\"]\n")
	must(err)
	must(f.Close())
	must(third.Start(ctx))
	token, err := third.API.CreateToken(ctx, wire.PostToken{Name: "Rita", Project: project, Verb: "read"})
	must(err)
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar, Timeout: bench.ReadyTime, Transport: &http.Transport{DialContext: third.Host.Dial}}
	defer browser.CloseIdleConnections()
	const page = "http://[::1]:8443"
	text := ""
	read := func(resp *http.Response, err error) {
		t.Helper()
		must(err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		must(err)
		if text = string(b); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s\n%s", resp.Request.URL, resp.Status, text)
		}
	}
	read(browser.PostForm(page+"/sign-in", url.Values{"token": {token.Secret}}))
	if err := bench.WaitFor(ctx, func() bool {
		read(browser.Get(page + "/projects/" + project + "/proxies/" + host + "?live=1"))
		return strings.Contains(text, fmt.Sprintf("<dt>Visits</dt><dd>%d</dd>", visits)) && strings.Contains(text, "Visits are those on 3 hypervisors.")
	}); err != nil {
		t.Errorf("it does not show %d visits: %v\n%s", visits, err, text)
	}
}
