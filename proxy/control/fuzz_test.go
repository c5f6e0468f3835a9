package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

// FuzzPutProxy: whatever the body is, the answer is as the document says, and what
// is taken leads into the project and nowhere else.
func FuzzPutProxy(f *testing.F) {
	for _, body := range []string{
		toVM,
		`{"backends": ["2001:db8:64::2", "2001:db8:64::3"], "http": 0, "https": 8443, "proxy_protocol": "v2", "off": true}`,
		`{"backends": ["2001:db8:65::2"]}`,
		`{"backends": ["::1", "fe80::1", "::ffff:127.0.0.1", "64:ff9b::1", "127.0.0.1", "x", ""]}`,
		`{"backends": ["2001:db8:64::2"], "http": 8e1, "https": null}`,
		`{"backends": ["2001:db8:64::2"], "backends": ["2001:db8:65::2"]}`,
		`{"backends": [], "a.b/c~d": {}, "": 1}`,
		`[[[[[[[[[[[[[[[[[[`, `null`, ``, `{`,
	} {
		f.Add([]byte(body))
	}
	s := open(f, filepath.Join(f.TempDir(), "routes.db"))
	c := catalog.New(s, catalog.Options{VMs: []netip.Prefix{vms}})
	ctx := context.Background()
	inside := netip.MustParsePrefix("2001:db8:64::/64")
	if _, err := c.PutProject(ctx, root, catalog.Project{Name: "shop", Prefixes: []netip.Prefix{inside}}, catalog.Match{}); err != nil {
		f.Fatal(err)
	}
	config := &Config{Catalog: c, Mirror: follow(f, s), Guard: access.New(c, access.Limits{})}
	config.setDefaults(newShared())
	h := newHandler(func() *Config { return config })
	f.Fuzz(func(t *testing.T, body []byte) {
		req := httptest.NewRequestWithContext(withPeer(t.Context(), 0), "PUT", shopProxy, bytes.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.public(w, req)
		r := &reply{w.Result(), w.Body.Bytes()}
		if err := conforms(t.Context(), req, r); err != nil {
			t.Errorf("%q: %v\n%s", body, err, r.text)
		}
		switch r.StatusCode {
		case http.StatusOK, http.StatusCreated:
			if strict(body) != nil {
				t.Errorf("%q is taken", body)
			}
			for _, b := range as[wire.Proxy](t, r).Backends {
				if !inside.Contains(b) {
					t.Errorf("%q leads to %v", body, b)
				}
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			p := as[wire.Problem](t, r)
			if len(p.Errors) == 0 && len(body) > 0 && len(body) < maxBody {
				t.Errorf("%q: %+v", body, p)
			}
			for _, e := range p.Errors {
				if e.In != "body" || e.Pointer == "" || e.Detail == "" || e.Remedy == "" {
					t.Errorf("%q: %+v", body, e)
				}
				if r.StatusCode == http.StatusUnprocessableEntity && e.Pointer != "#" && json.Valid(body) && len(e.Pointer) > 4*maxEcho {
					t.Errorf("%q: %+v", body, e)
				}
			}
		default:
			t.Errorf("%q: %s %s", body, r.Status, r.text)
		}
	})
}
