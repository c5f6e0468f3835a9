package control

import (
	"context"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/internal/params"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/store"
)

// handler is all that is served.
//
//	loopback: Host ─▶ public: /api/v1/ ─▶ who asks ─▶ route, media type ─▶ api
//	                          all else ─▶ the page
type handler struct {
	config  func() *Config
	api     *api
	answers [600]atomic.Uint64 // by status
}

func newHandler(config func() *Config) *handler {
	return &handler{config: config, api: newAPI(config, config().Timeouts.Body)}
}

// loopback is for listeners without TLS. A page that somebody is lured to can have
// its own name resolve to 127.0.0.1, but not change the name in Host.
func (h *handler) loopback(w http.ResponseWriter, r *http.Request) {
	if !h.config().answersTo(r.Host) {
		h.count(w, func(w http.ResponseWriter) {
			problem(w, wire.Refuse(http.StatusMisdirectedRequest, "this listener does not answer to the name %q; call it localhost, or add the name to hosts in [api]", echo(r.Host)))
		})
		return
	}
	h.public(w, r)
}

// answersTo tells whether a loopback listener is called what it may be.
func (c *Config) answersTo(host string) bool {
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	name = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(name, "]"), "["), "."))
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Unmap().IsLoopback()
	}
	return name == "localhost" || slices.Contains(c.Hosts, name)
}

// public is for listeners with TLS, and Unix sockets.
func (h *handler) public(w http.ResponseWriter, r *http.Request) {
	h.count(w, func(w http.ResponseWriter) {
		c := h.config()
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/"):
			h.serveAPI(c, w, r)
		case c.Page != nil:
			c.Page.ServeHTTP(w, r)
		default:
			problem(w, wire.Refuse(http.StatusNotFound, "nothing is here; the API is below %s/", base))
		}
	})
}

// count notes how requests end, and lets none of them end more than itself.
func (h *handler) count(w http.ResponseWriter, f func(http.ResponseWriter)) {
	a := &answer{ResponseWriter: w}
	defer func() {
		if err := recover(); err != nil {
			if err == http.ErrAbortHandler {
				panic(err)
			}
			h.config().Log(true, fmt.Sprintf("API: panic: %v\n%s", err, debug.Stack()))
			if a.status == 0 {
				problem(a, wire.Refuse(http.StatusInternalServerError, "something went wrong here; the operator's log says what"))
			}
		}
		if a.status >= 100 && a.status < len(h.answers) {
			h.answers[a.status].Add(1)
		}
	}()
	f(a)
	if a.status == 0 {
		a.status = http.StatusOK
	}
}

// answer remembers its status.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// fromKey is where the client's address is in a context.
type fromKey struct{}

func (h *handler) serveAPI(c *Config, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.URL.Path == base+"/openapi.json" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(h.api.document())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.Timeouts.Request)
	who, given, err := c.who(ctx, r)
	cancel()
	if err != nil {
		c.unauthorized(r.Context(), w, given, err)
		return
	}
	if p := h.api.misrouted(c, w, r); p != nil {
		problem(w, p)
		return
	}
	patience := c.Timeouts.Request
	if r.URL.Path == importPath || r.URL.Path == exportPath {
		patience = bulkPatience
	}
	ctx, cancel = context.WithTimeout(access.With(r.Context(), who), patience)
	defer cancel()
	// The server of the Unix socket may have less patience. It does not fail, with the
	// connections that there are.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience + c.Timeouts.Body))
	if client := addressOf(r.RemoteAddr); client.IsValid() {
		ctx = context.WithValue(ctx, fromKey{}, client.String())
	}
	if p := c.await(ctx, r); p != nil {
		w.Header().Set("Retry-After", "1")
		problem(w, p)
		return
	}
	h.api.mux.ServeHTTP(w, r.WithContext(ctx))
}

// who finds out who asks: by the Unix socket's peer, or by a token in the header
// Authorization and nowhere else. Browsers send cookies on behalf of anybody, but
// never that header.
func (c *Config) who(ctx context.Context, r *http.Request) (p access.Principal, given bool, err error) {
	if p, ok := peer(ctx); ok {
		return p, true, nil
	}
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return p, false, access.ErrUnknown
	}
	client := addressOf(r.RemoteAddr)
	scheme, secret, ok := strings.Cut(values[0], " ")
	if len(values) != 1 || !ok || !strings.EqualFold(scheme, "Bearer") {
		return p, true, c.Guard.Fail(client)
	}
	p, err = c.Guard.Enter(ctx, client, strings.TrimLeft(secret, " "))
	return p, true, err
}

// RevisionHeader is in answers: the revision that they are of. In a request it is
// one that the answer has to be of, or a later one, so that who has changed
// something through one node sees it through another.
const RevisionHeader = "Isthmus-Revision"

// await waits until this node has what a client has seen already.
func (c *Config) await(ctx context.Context, r *http.Request) *wire.Problem {
	select {
	case <-c.Mirror.Ready():
	default:
		why := ""
		if problem := c.Mirror.Stats().Problem; problem != "" && access.From(ctx).Operator() {
			why = " (" + problem + ")"
		}
		return wire.Refuse(http.StatusServiceUnavailable, "this node has read nothing of the store yet%s; ask again", why)
	}
	value := r.Header.Get(RevisionHeader)
	if value == "" {
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return params.BadHeader(RevisionHeader, "no revision", "send what an answer said in it, or nothing")
	}
	if !c.applied(ctx, store.Revision(n)) {
		return wire.Refuse(http.StatusServiceUnavailable, "this node has not got revision %d yet; ask again", n)
	}
	return nil
}

// applied waits until the own copy has a revision, but not for long.
func (c *Config) applied(ctx context.Context, r store.Revision) bool {
	ctx, cancel := context.WithTimeout(ctx, c.Timeouts.Applied)
	defer cancel()
	return c.Mirror.WaitFor(ctx, r) == nil
}

// misrouted says what is wrong with where a request goes and what it carries, or
// nil.
func (a *api) misrouted(c *Config, w http.ResponseWriter, r *http.Request) *wire.Problem {
	if path.Clean(r.URL.Path) != r.URL.Path {
		return wire.Refuse(http.StatusNotFound, "there is nothing with this path")
	}
	if h, pattern := a.mux.Handler(r); pattern == "" {
		// The mux knows whether it is the path or the method, but says so as plain text.
		said := &silent{header: http.Header{}}
		h.ServeHTTP(said, r)
		if said.status == http.StatusMethodNotAllowed {
			allow := said.header.Get("Allow")
			w.Header().Set("Allow", allow)
			return wire.Refuse(said.status, "%s is not possible here; there is %s", echo(r.Method), allow)
		}
		return wire.Refuse(http.StatusNotFound, "there is nothing with this path; openapi.json says what there is")
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodDelete {
		return nil
	}
	limit, kinds := int64(maxBody), []string{"application/json"}
	if r.URL.Path == importPath {
		limit, kinds = c.maxImport, append(kinds, "application/toml")
	}
	if r.ContentLength >= limit {
		return wire.Refuse(http.StatusRequestEntityTooLarge, "the body has %d bytes; send less than %d", r.ContentLength, limit)
	}
	if r.ContentLength == 0 {
		return nil
	}
	if values := r.Header.Values("Content-Encoding"); len(values) > 0 {
		return wire.Refuse(http.StatusUnsupportedMediaType, "bodies are not compressed; send it without Content-Encoding")
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset := params["charset"]; err != nil || len(r.Header.Values("Content-Type")) != 1 || !slices.Contains(kinds, kind) || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return wire.Refuse(http.StatusUnsupportedMediaType, "send Content-Type: %s and a body of that", strings.Join(kinds, " or "))
	}
	return nil
}

// silent is for what the mux would say.
type silent struct {
	header http.Header
	status int
}

func (s *silent) Header() http.Header         { return s.header }
func (s *silent) Write(b []byte) (int, error) { return len(b), nil }
func (s *silent) WriteHeader(status int)      { s.status = status }
