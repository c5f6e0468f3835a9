package control

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
)

func TestExportAndImport(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("PUT", shopProxy, w.shop, toVM), 201)
	w.want(w.ask("PUT", "/api/v1/trusts/shop.example", w.operator, `{"project": "shop"}`), 200)
	c := w.dial(client.Options{URL: w.url, Token: w.operator, CAFile: w.caFile()})
	other := newWorld(t)
	to := other.dial(client.Options{URL: "unix:" + other.socket()})
	for _, format := range []string{"json", "toml", "routes"} {
		var file bytes.Buffer
		if err := c.Export(t.Context(), &file, format, false); err != nil {
			t.Fatal(err)
		}
		if text := file.String(); !strings.Contains(text, "www.shop.example") || strings.Contains(text, "hash") {
			t.Errorf("%s: %s", format, text)
		}
		dry, err := to.Import(t.Context(), bytes.NewReader(file.Bytes()), client.ImportOptions{Format: format, Replace: true, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		done, err := to.Import(t.Context(), bytes.NewReader(file.Bytes()), client.ImportOptions{Format: format, Replace: true})
		if err != nil || fmt.Sprint(dry) != fmt.Sprint(done) {
			t.Errorf("%s: %v, %+v, would %+v", format, err, done, dry)
		}
		if format == "json" && (fmt.Sprint(done.Proxies.Added) != "[www.shop.example]" || fmt.Sprint(done.Trusts.Added) != "[shop.example]" || done.Projects.Same != 2) {
			t.Errorf("%+v", done)
		}
		again, err := to.Import(t.Context(), bytes.NewReader(file.Bytes()), client.ImportOptions{Format: format})
		if err != nil || again.Proxies.Same != 1 || len(again.Proxies.Added)+len(again.Proxies.Changed) != 0 {
			t.Errorf("%s again: %v, %+v", format, err, again)
		}
	}
	other.eventually("imported", func() bool { return other.ask("GET", shopProxy, other.shop, "").StatusCode == 200 })
	var file bytes.Buffer
	if err := c.Export(t.Context(), &file, "json", true); err != nil || !strings.Contains(file.String(), "hash") {
		t.Errorf("with tokens: %v, %s", err, &file)
	}
}

func TestImportsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	const path = "/api/v1/import"
	const outside = "[[route]]\nhost = 'a.example'\nproject = 'shop'\nbackends = ['2001:db8:65::2', '::1']\n[[route]]\nhost = 'b.example'\nproject = 'none'\nbackends = ['::1']\n"
	toml := "Content-Type: application/toml"
	for _, c := range []struct {
		name, method, path, token, body string
		headers                         []string
		status                          int
		want                            string
	}{
		{"a project's token", "POST", path, w.shop, `{}`, nil, 403, "operators"},
		{"a project's token reads", "GET", "/api/v1/export", w.shop, "", nil, 403, "operators"},
		{"no token", "POST", path, "", `{}`, nil, 401, "not known"},
		{"format", "GET", "/api/v1/export?format=yaml", w.operator, "", nil, 422, `query format: no choice; write one of`},
		{"parameter", "GET", "/api/v1/export?secrets=true", w.operator, "", nil, 422, `query secrets: unknown query parameter`},
		{"flag", "POST", path + "?replace=yes", w.operator, `{}`, nil, 422, `query replace: neither true nor false`},
		{"type", "POST", path, w.operator, `{}`, []string{"Content-Type: text/plain"}, 415, "send Content-Type: application/json or application/toml"},
		{"no JSON", "POST", path, w.operator, `[[route]]`, nil, 422, "body #: not the JSON of an export"},
		{"unknown field", "POST", path, w.operator, `{"routes": []}`, nil, 422, "body #: not the JSON of an export"},
		{"no TOML", "POST", path + "?format=toml", w.operator, "[[route]\n", []string{toml}, 422, "body #: line 1"},
		{"outside the project", "POST", path + "?format=toml", w.operator, outside, []string{toml}, 422, `body route "a.example".backends[0]: 2001:db8:65::2 is outside`},
		{"all at once", "POST", path + "?format=toml", w.operator, outside, []string{toml}, 422, `body route "b.example".project: there is no "none"`},
		{"method", "PUT", path, w.operator, `{}`, nil, 405, "there is POST"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			if got := refused(w.problemOf(w.want(w.ask(c.method, c.path, c.token, c.body, c.headers...), c.status))); !strings.Contains(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	// Too large, by what is said and by what is sent.
	w = newWorld(t, func(c *Config) { c.maxImport = 1 << 20 })
	w.want(w.ask("POST", path, w.operator, strings.Repeat(" ", 1<<20)), 413)
	c := w.dial(client.Options{URL: w.url, Token: w.operator, CAFile: w.caFile()})
	_, err := c.Import(t.Context(), io.LimitReader(spaces{}, 1<<20+1), client.ImportOptions{Format: "json"})
	if client.Status(err) != 413 {
		t.Errorf("got %v", err)
	}
}

// spaces are as many as one likes.
type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestHoldsAndAccept(t *testing.T) {
	w := newWorld(t)
	c := w.dial(client.Options{URL: w.url, Token: w.operator, CAFile: w.caFile()})
	w.want(w.ask("PUT", "/api/v1/trusts/shop.example", w.operator, `{"project": "shop"}`), 200)
	w.want(w.ask("PUT", shopProxy, w.shop, toVM), 201)
	w.want(w.ask("DELETE", shopProxy, w.shop, ""), 204)
	var held []wire.Hold
	for h, err := range c.Holds(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, h)
	}
	if len(held) != 1 || held[0].Host != "www.shop.example" || held[0].Project != "shop" {
		t.Errorf("held: %+v", held)
	}
	r := w.ask("PUT", "/api/v1/projects/blog/proxies/www.shop.example", w.blog, `{"backends": ["2001:db8:65::2"]}`)
	if w.want(r, 409); strings.Contains(strings.ReplaceAll(string(r.text), "www.shop.example", ""), "shop") {
		t.Errorf("it says whose: %s", r.text)
	}
	if err := c.DeleteHold(t.Context(), "www.shop.example"); err != nil {
		t.Error(err)
	}
	if err := c.DeleteHold(t.Context(), "www.shop.example"); client.Status(err) != 404 {
		t.Errorf("got %v", err)
	}
	w.want(w.ask("PUT", "/api/v1/projects/blog/proxies/www.shop.example", w.blog, `{"backends": ["2001:db8:65::2"]}`), 201)
	if err := c.Accept(t.Context()); err != nil {
		t.Error(err)
	}
}
