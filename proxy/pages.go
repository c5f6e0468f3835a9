package proxy

import (
	"crypto/rand"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

// A page tells a visitor what is the matter, whose matter it is and what they can
// do. It tells nothing of what is inside.
type page struct {
	Status int
	Title  string
	Text   string
	Host   string
	ID     string
}

var pages = map[int]page{
	http.StatusBadRequest: {Title: "This request cannot be understood",
		Text: "What your program has sent is not proper HTTP. If this is a browser, try again; if it goes on, clear the cookies for this site."},
	http.StatusNotFound: {Title: "There is no site here by this name",
		Text: "Check its spelling, or try it with https:// in front. If it is right, the site's owner has not set it up here yet."},
	http.StatusRequestTimeout: {Title: "Your request took too long",
		Text: "The connection was silent for too long while your request was on its way. Try again."},
	http.StatusExpectationFailed: {Title: "This request expects too much",
		Text: "Your program has asked for something that is not known here (the Expect field)."},
	http.StatusMisdirectedRequest: {Title: "Wrong door",
		Text: "Your program has asked for an https:// address over an unprotected connection."},
	http.StatusRequestHeaderFieldsTooLarge: {Title: "This request is too large",
		Text: "Its address or its header fields are too long. If this is a browser, clear the cookies for this site."},
	http.StatusBadGateway: {Title: "The site is down",
		Text: "Its server does not take connections, or broke this one off. Your connection is fine. Try again in a minute; if it goes on, tell the site's owner."},
	http.StatusServiceUnavailable: {Title: "Too many visitors at the moment",
		Text: "Try again in a few seconds."},
	http.StatusGatewayTimeout: {Title: "The site does not answer",
		Text: "Its server took too long. Your connection is fine. Try again in a minute; if it goes on, tell the site's owner."},
	http.StatusHTTPVersionNotSupported: {Title: "Unknown version of HTTP",
		Text: "Versions 1.0, 1.1 and 2 are spoken here."},
	http.StatusLoopDetected: {Title: "This site leads to itself",
		Text: "Its server sends requests back here, and they would go in a circle. The site's owner has to change where it sends them."},
}

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// page answers in the place of a VM.
func (x *exchange) page(status int) {
	p := pages[status]
	p.Status, p.Host, p.ID = status, x.record.Host, newID()
	x.record.ID = p.ID
	var b strings.Builder
	h := x.Header()
	clear(h)
	if html := strings.Contains(strings.Join(x.request.Header["Accept"], ","), "text/html"); html {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		_ = pageTemplate.Execute(&b, p) // a Builder takes everything
	} else {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(&b, "%s\n%s\n\n", p.Title, p.Text)
		if p.Host != "" {
			fmt.Fprintf(&b, "Host: %s\n", p.Host)
		}
		fmt.Fprintf(&b, "Error: %d\nRequest: %s\n", p.Status, p.ID)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Request-Id", p.ID)
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	if x.request.ProtoMajor == 1 && (x.request.ContentLength != 0 || x.conn.isFault(x.request)) {
		// What is left of the request is not worth reading.
		h.Set("Connection", "close")
	}
	x.WriteHeader(status)
	if x.request.Method != http.MethodHead {
		_, _ = x.Write([]byte(b.String()))
	}
}

// newID is a word for one request: 10 letters and digits that nobody mixes up.
func newID() string { return strings.ToLower(rand.Text()[:10]) }
