package page

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// server answers requests.
type server struct {
	Config
	mux       *http.ServeMux
	cross     *http.CrossOriginProtection
	templates templates
	nodes     nodes
	looks     looks
}

// New makes the page, which answers at "/".
func New(c Config) (http.Handler, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s := &server{Config: c, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection()}
	s.looks.init()
	s.nodes.asking = make(chan struct{}, 1)
	var err error
	if s.templates, err = parseTemplates(c.now); err != nil {
		return nil, err
	}
	s.mux.HandleFunc("GET /static/{version}/{name}", serveAsset)
	s.mux.HandleFunc("GET /favicon.ico", http.NotFound)
	for _, r := range endpoints {
		s.mux.HandleFunc(r.pattern, func(w http.ResponseWriter, hr *http.Request) { s.serve(w, hr, &r) })
	}
	return s, nil
}

// endpoint is a page: who may have it, and what it does.
type endpoint struct {
	pattern string
	verb    catalog.Verb // what one has to be allowed in the {project}; "": a session is enough
	do      func(*request) error
}

// open is the verb of what strangers may have.
const open catalog.Verb = "open"

var endpoints = []endpoint{
	{"GET /sign-in", open, showSignIn},
	{"POST /sign-in", open, signIn},
	{"POST /sign-out", open, signOut},
	{"GET /{$}", "", home},
	{"GET /projects", catalog.Operator, listProjects},
	{"GET /add-project", catalog.Operator, showAddProject},
	{"POST /add-project", catalog.Operator, addProject},
	{"GET /projects/{project}", catalog.Read, listProxies},
	{"GET /projects/{project}/add", catalog.Write, showAdd},
	{"POST /projects/{project}/add", catalog.Write, add},
	{"GET /projects/{project}/proxies/{host}", catalog.Read, showProxy},
	{"POST /projects/{project}/proxies/{host}/check", catalog.Write, checkNow},
	{"GET /projects/{project}/proxies/{host}/edit", catalog.Write, showEdit},
	{"POST /projects/{project}/proxies/{host}/edit", catalog.Write, edit},
	{"GET /projects/{project}/proxies/{host}/delete", catalog.Write, showDelete},
	{"POST /projects/{project}/proxies/{host}/delete", catalog.Write, deleteProxy},
	{"GET /projects/{project}/audit", catalog.Read, listAudit},
	{"GET /projects/{project}/tokens", catalog.Read, listTokens},
	{"POST /projects/{project}/tokens", catalog.Operator, createToken},
	{"GET /projects/{project}/tokens/{id}/revoke", catalog.Write, showRevoke},
	{"POST /projects/{project}/tokens/{id}/revoke", catalog.Write, revoke},
	{"GET /projects/{project}/settings", catalog.Operator, showProject},
	{"POST /projects/{project}/settings", catalog.Operator, editProject},
	{"GET /projects/{project}/delete", catalog.Operator, showDeleteProject},
	{"POST /projects/{project}/delete", catalog.Operator, deleteProject},
	{"GET /hypervisors", catalog.Operator, listNodes},
	{"GET /accept", catalog.Operator, showAccept},
	{"POST /accept", catalog.Operator, accept},
	{"GET /trusted", catalog.Operator, listTrusts},
	{"POST /trusted", catalog.Operator, putTrust},
	{"GET /trusted/{domain}/delete", catalog.Operator, showDeleteTrust},
	{"POST /trusted/{domain}/delete", catalog.Operator, deleteTrust},
	{"GET /tokens", catalog.Operator, listTokens},
	{"POST /tokens", catalog.Operator, createToken},
	{"GET /tokens/{id}/revoke", catalog.Operator, showRevoke},
	{"POST /tokens/{id}/revoke", catalog.Operator, revoke},
	{"GET /audit", catalog.Operator, listAudit},
	{"/", open, func(*request) error { return errNoPage }},
}

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// ServeHTTP answers a request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if secure(r) {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	if err := s.cross.Check(r); err != nil {
		q := &request{server: s, w: w, r: r}
		q.refuse(errCrossOrigin)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// secure tells whether the browser speaks TLS, with this node or with a program on
// loopback in front of it. Who claims that without it hurts nobody else.
func secure(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

// request is one on its way to an answer.
type request struct {
	*server
	w      http.ResponseWriter
	r      *http.Request
	who    access.Principal
	secret string // of the session
	live   bool   // only what changes by itself is asked for
}

func (s *server) serve(w http.ResponseWriter, r *http.Request, to *endpoint) {
	ctx, cancel := context.WithTimeout(r.Context(), perRequest)
	defer cancel()
	q := &request{server: s, w: w, r: r.WithContext(ctx), live: r.Method == http.MethodGet && r.URL.Query().Has("live")}
	if err := q.run(to); err != nil {
		q.refuse(err)
	}
}

func (q *request) run(to *endpoint) error {
	err := q.enter()
	if to.verb != open {
		if errors.Is(err, access.ErrUnknown) {
			return q.askToSignIn()
		}
		if err != nil {
			return err
		}
		project := q.r.PathValue("project")
		switch {
		case to.verb == "", q.who.May(to.verb, project):
		case q.who.May(catalog.Read, project):
			return errForbidden
		default:
			return errNoPage // whoever may not read it must not learn that it is there
		}
	}
	if q.r.Method == http.MethodPost {
		q.r.Body = http.MaxBytesReader(q.w, q.r.Body, maxForm)
		if err := q.r.ParseForm(); err != nil {
			if errors.As(err, new(*http.MaxBytesError)) {
				return errTooLarge
			}
			return errNoForm
		}
		// Signing in needs no session's word, also over one that another tab has begun.
		if q.secret != "" && to.pattern != "POST /sign-in" && !q.fromOwnForm() {
			return errStale
		}
	}
	return to.do(q)
}

// form gives a field of the form that was sent, not of the URL.
func (q *request) form(name string) string { return q.r.PostForm.Get(name) }

// actor is who changes something, in records: the token that was signed in with.
func (q *request) actor() catalog.Actor {
	by := q.who.Token.Parent
	if by == "" {
		by = q.who.By()
	}
	return catalog.Actor{By: by, From: q.client().String()}
}

func (q *request) client() netip.Addr {
	at, _ := netip.ParseAddrPort(q.r.RemoteAddr)
	return at.Addr().Unmap()
}

// project is the one in the path.
func (q *request) project() (catalog.Project, error) {
	name := q.r.PathValue("project")
	if p, ok := q.Mirror.View().Project(name); ok {
		return p, nil
	}
	return q.Catalog.Project(q.r.Context(), name)
}

// applied waits until the own copy has a change, so that the next page shows it.
func (q *request) applied(r store.Revision) {
	ctx, cancel := context.WithTimeout(q.r.Context(), waitApplied)
	defer cancel()
	_ = q.Mirror.WaitFor(ctx, r) // or else the page shows it a little later
}

// goTo ends a change: the browser asks for another page, which may be reloaded.
// Done is what that one tells, a key of [dones].
func (q *request) goTo(path, done string) error {
	if done != "" {
		path += "?" + url.Values{"done": {done}}.Encode()
	}
	http.Redirect(q.w, q.r, path, http.StatusSeeOther)
	return nil
}

// join makes a path of parts, each escaped.
func join(parts ...string) string {
	path := ""
	for _, p := range parts {
		path += "/" + url.PathEscape(p)
	}
	return path
}

// failure is an error as people see it.
type failure struct {
	status      int
	title, text string
}

func (f *failure) Error() string { return f.title }

var (
	errNoPage      = &failure{http.StatusNotFound, "There is nothing here", "The page does not exist, or not any more, or it is not yours to see."}
	errForbidden   = &failure{http.StatusForbidden, "You may look, but not change", "The token that you signed in with can only read. Sign in with one that may write."}
	errTooLarge    = &failure{http.StatusRequestEntityTooLarge, "That was too much", "The form had more in it than any sensible answer has. Nothing was changed. Go back and shorten it."}
	errNoForm      = &failure{http.StatusBadRequest, "The form can't be read", "Nothing was changed. Go back, reload the page and try again."}
	errStale       = &failure{http.StatusForbidden, "The form is from another session", "Nothing was changed. You may have signed in again since the form was opened. Go back, reload the page and try again."}
	errCrossOrigin = &failure{http.StatusForbidden, "The request came from another site", "Nothing was changed. Open this page itself and try again there."}
)

// why says what keeps the store from answering: to operators all there is.
func (q *request) why(err error) string {
	late := !errors.Is(err, store.ErrUnavailable)
	text := "The place where proxies are stored can't be reached from this hypervisor."
	if late {
		text = "The place where proxies are stored does not answer in time."
	}
	if problem := q.Mirror.Stats().Problem; late && problem != "" && access.Told(q.who, err) {
		return text + " The cause: " + problem + "."
	}
	return text + q.cause(err)
}

// cause is a sentence for operators. What the store says has its addresses in it.
func (q *request) cause(err error) string {
	if !access.Told(q.who, err) {
		return ""
	}
	return " The cause: " + err.Error() + "."
}

// refuse answers with an error.
func (q *request) refuse(err error) {
	var f *failure
	var flood *access.ErrFlood
	switch {
	case errors.As(err, &f):
	case errors.Is(err, catalog.ErrNotFound):
		f = errNoPage
	case errors.As(err, &flood):
		q.w.Header().Set("Retry-After", fmt.Sprint(int(flood.Wait/time.Second)+1))
		f = &failure{http.StatusTooManyRequests, "Too many requests", fmt.Sprintf("Wait %s, then try again.", plural(int(flood.Wait/time.Second)+1, "second"))}
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		q.w.Header().Set("Retry-After", "5")
		f = &failure{http.StatusServiceUnavailable, "Not available right now", q.why(err) + " Sites go on being served as before. Whether your last change was saved is not certain: look again in a minute."}
	case errors.Is(err, store.ErrFull):
		f = &failure{http.StatusInsufficientStorage, "The storage is full", "Nothing was changed. Sites go on being served. Tell the operator, who has to make room." + q.cause(err)}
	case errors.Is(err, context.Canceled):
		return // nobody is there to read it
	default:
		q.Log(true, fmt.Sprintf("page: %s %s: %v", q.r.Method, q.r.URL.Path, err))
		f = &failure{http.StatusInternalServerError, "Something went wrong here", "It is not your fault. The operator's log says what it was. Try again, and tell the operator if it stays."}
	}
	if q.live {
		q.w.WriteHeader(f.status)
		return
	}
	q.render(f.status, "failure", &view{Title: f.title, Body: f.text})
}
