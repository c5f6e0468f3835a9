package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
)

//go:embed all:templates static
var files embed.FS

// asset is a file that pages link to.
type asset struct {
	kind string
	text []byte
}

var kinds = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

var assets, assetsVersion = loadAssets()

// loadAssets reads them and gives their version, which is part of their address: so
// browsers need never ask again.
func loadAssets() (map[string]asset, string) {
	all, sum := map[string]asset{}, sha256.New()
	list, _ := fs.ReadDir(files, "static") // it is there, for it was when this was built
	for _, f := range list {
		text, _ := files.ReadFile("static/" + f.Name())
		all[f.Name()] = asset{kinds[path.Ext(f.Name())], text}
		sum.Write(text)
	}
	return all, hex.EncodeToString(sum.Sum(nil)[:8])
}

func serveAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := assets[r.PathValue("name")]
	if !ok || r.PathValue("version") != assetsVersion {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(a.text)
}

// templates are the pages, each with the layout around it.
type templates map[string]*template.Template

func parseTemplates(now func() time.Time) (templates, error) {
	common := template.New("").Funcs(template.FuncMap{
		"asset":     func(name string) string { return "/static/" + assetsVersion + "/" + name },
		"moment":    func(t time.Time) moment { return momentOf(t, now()) },
		"breakable": breakable,
		"addrs":     joinAddrs,
		"prefixes":  joinPrefixes,
		"ports":     ports,
		"header":    func(h string) string { return headerNames[h] },
		"plural":    plural,
		"count":     func(n uint64, word string) string { return plural(int(n), word) },
		"path":      join,
		"txt":       catalog.TXT,
		"list":      func(v ...any) []any { return v },
	})
	shared, err := fs.Glob(files, "templates/_*.html")
	if err != nil {
		return nil, err
	}
	if common, err = common.ParseFS(files, shared...); err != nil {
		return nil, err
	}
	pages, err := fs.ReadDir(files, "templates")
	if err != nil {
		return nil, err
	}
	all := templates{}
	for _, f := range pages {
		if strings.HasPrefix(f.Name(), "_") {
			continue
		}
		t, err := common.Clone()
		if err != nil {
			return nil, err
		}
		if t, err = t.ParseFS(files, "templates/"+f.Name()); err != nil {
			return nil, err
		}
		all[strings.TrimSuffix(f.Name(), ".html")] = t
	}
	return all, nil
}

// view is what a page is made of.
type view struct {
	Title   string
	Project *catalog.Project // whose tabs are shown; nil: none
	Tab     string
	Live    bool // has parts that change by themselves
	Body    any

	// What render adds.
	User     string // "": nobody
	Operator bool
	Writer   bool // may change the project
	CSRF     string
	Done     string
	LiveURL  string
	Doubt    string // why changes don't arrive here
}

// dones are what pages tell after a change.
var dones = map[string]string{
	"added":           "Added.",
	"saved":           "Saved.",
	"deleted":         "Deleted.",
	"same":            "Nothing was different, so nothing was saved.",
	"looked":          "Looked at the DNS just now.",
	"busy":            "The DNS was not asked: too many others do so right now. Try again in a moment.",
	"revoked":         "The token is revoked. It stops working everywhere within a second.",
	"project-added":   "The project is there. Make a token for its customer next.",
	"project-deleted": "The project is deleted.",
	"accepted":        "All hypervisors take the store as it is now.",
	"trusted":         "Saved. Names in the domain need no TXT record now.",
	"untrusted":       "Taken back. Names in the domain need a TXT record again.",
}

// render answers with a page.
func (q *request) render(status int, name string, v *view) error {
	if q.secret != "" {
		v.User, v.Operator, v.CSRF = strings.TrimPrefix(q.who.Token.Name, "session: "), q.who.Operator(), q.csrf()
		v.Writer = v.Project != nil && q.who.May(catalog.Write, v.Project.Name)
	}
	if v.Project != nil || v.Operator {
		v.Doubt = q.Mirror.Stats().Doubt
	}
	query := q.r.URL.Query()
	if q.r.Method == http.MethodGet {
		v.Done = dones[query.Get("done")]
	}
	if v.Live {
		query.Del("done")
		query.Set("live", "1")
		v.LiveURL = q.r.URL.EscapedPath() + "?" + query.Encode()
	}
	part := "layout"
	if q.live {
		part = "parts"
	}
	var b bytes.Buffer
	if err := q.templates[name].ExecuteTemplate(&b, part, v); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	h := q.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	q.w.WriteHeader(status)
	_, _ = q.w.Write(b.Bytes())
	return nil
}
