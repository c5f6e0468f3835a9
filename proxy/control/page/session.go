package page

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

// Names of the cookie. With __Host-, browsers take it from this very host over TLS
// only, and for nobody else. On loopback without TLS that is not to be had.
const (
	cookieName      = "__Host-isthmus"
	plainCookieName = "isthmus"
)

func (q *request) cookie(value string, life time.Duration) *http.Cookie {
	c := &http.Cookie{
		Name: plainCookieName, Value: value, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if life <= 0 {
		c.MaxAge = -1
	}
	if secure(q.r) {
		c.Name, c.Secure = cookieName, true
	}
	return c
}

// enter finds out whose session it is.
func (q *request) enter() error {
	name := plainCookieName
	if secure(q.r) {
		name = cookieName
	}
	c, err := q.r.Cookie(name)
	if err != nil {
		return access.ErrUnknown
	}
	who, err := q.Guard.Enter(q.r.Context(), q.client(), c.Value)
	if err != nil {
		return err
	}
	if who.Token.Parent == "" {
		return access.ErrUnknown // a token that is no session has no business in a cookie
	}
	q.who, q.secret = who, c.Value
	return nil
}

// csrf is what each form of a session has in it. It can't be guessed without the
// secret, nor that from it.
func (q *request) csrf() string {
	if q.secret == "" {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(q.secret))
	mac.Write([]byte("form"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (q *request) fromOwnForm() bool {
	return hmac.Equal([]byte(q.form("csrf")), []byte(q.csrf()))
}

// askToSignIn sends a browser to where it can, and back afterwards.
func (q *request) askToSignIn() error {
	if q.live || q.r.Method != http.MethodGet {
		if q.live {
			q.w.WriteHeader(http.StatusUnauthorized)
			return nil
		}
		return q.signInPage(http.StatusUnauthorized, "", "Your session has ended, and nothing was changed. Sign in, then go back to what you typed and send it again.")
	}
	if _, err := q.r.Cookie(q.cookie("", 0).Name); err == nil {
		http.SetCookie(q.w, q.cookie("", 0)) // it has ended, and each use counts as a wrong token
	}
	to := "/sign-in"
	if next := q.r.URL.RequestURI(); next != "/" {
		to += "?" + url.Values{"next": {next}}.Encode()
	}
	http.Redirect(q.w, q.r, to, http.StatusSeeOther)
	return nil
}

// safeNext is where to go after signing in: a path of this page, or "/".
func safeNext(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// signInForm is the body of the page.
type signInForm struct {
	Field *field
	Next  string
	Note  string
}

func (q *request) signInPage(status int, problem, note string) error {
	f := &field{
		Name: "token", Label: "Token", Kind: "password", Complete: "current-password", Required: true, Focus: true, Mono: true,
		Hint: "It begins with isth_. Whoever runs this service has made it for you.",
	}
	if problem != "" {
		f.Errors = []string{problem}
	}
	next := q.r.URL.Query().Get("next")
	if q.r.Method == http.MethodPost {
		next = q.form("next")
	}
	return q.render(status, "sign-in", &view{Title: "Sign in", Body: &signInForm{f, safeNext(next), note}})
}

func showSignIn(q *request) error {
	if q.secret != "" {
		return q.goTo("/", "")
	}
	note := ""
	if q.r.URL.Query().Get("done") == "signed-out" {
		note = "You have signed out."
	}
	return q.signInPage(http.StatusOK, "", note)
}

func signIn(q *request) error {
	ctx := q.r.Context()
	who, err := q.Guard.Enter(ctx, q.client(), strings.TrimSpace(q.form("token")))
	switch {
	case errors.Is(err, access.ErrUnknown), err == nil && who.Token.Parent != "":
		return q.signInPage(http.StatusUnauthorized, "This token is not known. It is mistyped, has expired or was revoked. Copy it again, or ask for a new one.", "")
	case err != nil:
		return err
	}
	ends := q.now().Add(sessionLife)
	if e := who.Token.Expires; !e.IsZero() && e.Before(ends) {
		ends = e
	}
	t := catalog.Token{Name: "session: " + cut(who.Token.Name, 60), Project: who.Token.Project, Verb: who.Token.Verb, Parent: who.Token.ID, Expires: ends}
	secret, _, err := q.Catalog.CreateToken(ctx, catalog.Actor{By: who.By(), From: q.client().String()}, t)
	if errors.Is(err, catalog.ErrToken) || errors.Is(err, catalog.ErrNotFound) || catalog.Problems(err) != nil {
		// It was revoked, or its project deleted, in this very moment.
		return q.signInPage(http.StatusUnauthorized, "This token has just ended. Ask for a new one.", "")
	}
	if err != nil {
		return err
	}
	q.boundSessions(who.Token.Project, who.Token.ID)
	http.SetCookie(q.w, q.cookie(secret, ends.Sub(q.now())))
	return q.goTo(safeNext(q.form("next")), "")
}

// boundSessions ends the oldest sessions of a token that has too many: programs that
// sign in over and over shall not fill the store.
func (q *request) boundSessions(project, parent string) {
	ctx := q.r.Context()
	all, err := q.Catalog.Tokens(ctx, project)
	if err != nil {
		return // the next one who signs in tries again
	}
	all = slices.DeleteFunc(all, func(t catalog.Token) bool { return t.Parent != parent })
	slices.SortFunc(all, func(a, b catalog.Token) int { return a.Created.Compare(b.Created) })
	for _, t := range all[:max(0, len(all)-maxSessions)] {
		if q.Catalog.RevokeToken(ctx, catalog.Actor{By: parent}, "", t.ID) == nil {
			q.Guard.Revoked(t.ID)
		}
	}
}

func signOut(q *request) error {
	http.SetCookie(q.w, q.cookie("", 0))
	if q.secret != "" {
		t := q.who.Token
		if err := q.Catalog.RevokeToken(q.r.Context(), q.actor(), "", t.ID); err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		q.Guard.Revoked(t.ID)
	}
	return q.goTo("/sign-in", "signed-out")
}

// home is where one goes first.
func home(q *request) error {
	if q.who.Operator() {
		return q.goTo("/projects", "")
	}
	return q.goTo(join("projects", q.who.Token.Project), "")
}
