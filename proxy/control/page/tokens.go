package page

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
)

// tokensBody is the tab of tokens, of a project or of operators.
type tokensBody struct {
	Tokens   []tokenRow
	Sessions []tokenRow
	Form     *form  // nil: one may not make any
	Secret   string // of the one that has just been made
	Made     catalog.Token
	Base     string // path
}

type tokenRow struct {
	catalog.Token
	By      string
	Own     bool // signed in with it
	Expired bool
}

var verbs = []choice{
	{string(catalog.Write), "Read and change", "For people and programs that add and edit proxies"},
	{string(catalog.Read), "Read only", "For watching"},
}

var lives = []choice{{"90", "90 days", ""}, {"30", "30 days", ""}, {"365", "1 year", ""}, {"0", "Never", ""}}

func tokenForm(operators bool) *form {
	f := &form{Submit: "Make token", Fields: []*field{
		{Name: "name", Label: "Name", Required: true, Hint: "What it is for, such as “deploy script” or a person's name."},
		{Name: "verb", Label: "What it may do", Choices: verbs, Value: string(catalog.Write)},
		{Name: "life", Label: "Ends after", Choices: lives, Select: true, Value: "90"},
	}}
	if operators {
		f.Fields = append(f.Fields[:1], f.Fields[2:]...)
	}
	return f
}

func (q *request) tokensPage(b *tokensBody) error {
	ctx, name := q.r.Context(), q.r.PathValue("project")
	v := &view{Title: "Tokens", Tab: "tokens", Body: b}
	b.Base = "/tokens"
	if name != "" {
		project, err := q.project()
		if err != nil {
			return err
		}
		v.Project, b.Base = &project, join("projects", name, "tokens")
	} else {
		v.Title = "Operators' tokens"
	}
	all, err := q.Catalog.Tokens(ctx, name)
	if err != nil {
		return err
	}
	names, err := q.names(ctx, name)
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Project != name {
			continue
		}
		row := tokenRow{Token: t, By: names.of(t.CreatedBy), Own: t.ID == q.who.Token.ID || t.ID == q.who.Token.Parent, Expired: !t.Expires.IsZero() && !t.Expires.After(q.now())}
		if t.Parent == "" {
			b.Tokens = append(b.Tokens, row)
		} else if !row.Expired {
			row.Name = strings.TrimPrefix(row.Name, "session: ")
			b.Sessions = append(b.Sessions, row)
		}
	}
	if b.Form == nil && q.who.Operator() {
		b.Form = tokenForm(name == "")
	}
	status := 200
	if b.Form != nil {
		b.Form.Action, status = b.Base, b.Form.status()
	}
	return q.render(status, "tokens", v)
}

func listTokens(q *request) error { return q.tokensPage(&tokensBody{}) }

func createToken(q *request) error {
	t := catalog.Token{Name: strings.TrimSpace(q.form("name")), Project: q.r.PathValue("project"), Verb: catalog.Verb(q.form("verb"))}
	f := tokenForm(t.Project == "")
	for _, x := range f.Fields {
		x.Value = q.form(x.Name)
	}
	if t.Project == "" {
		t.Verb = catalog.Operator
	} else if t.Verb == catalog.Operator {
		return errNoForm
	}
	days, err := strconv.Atoi(q.form("life"))
	if err != nil || days < 0 || days > 3650 {
		return errNoForm
	}
	if days > 0 {
		t.Expires = q.now().Add(time.Duration(days) * 24 * time.Hour)
	}
	b := &tokensBody{Form: f}
	secret, made, err := q.Catalog.CreateToken(q.r.Context(), q.actor(), t)
	if wrong := catalog.Problems(err); wrong != nil {
		f.wrong(wrong)
		return q.tokensPage(b)
	}
	if err != nil {
		return err
	}
	b.Form, b.Secret, b.Made = nil, secret, made
	return q.tokensPage(b)
}

// token is the one in the path.
func (q *request) token() (catalog.Token, error) {
	project := q.r.PathValue("project")
	all, err := q.Catalog.Tokens(q.r.Context(), project)
	if err != nil {
		return catalog.Token{}, err
	}
	for _, t := range all {
		if t.ID == q.r.PathValue("id") && t.Project == project {
			return t, nil
		}
	}
	return catalog.Token{}, errNoPage
}

func (q *request) tokensPath() string {
	if name := q.r.PathValue("project"); name != "" {
		return join("projects", name, "tokens")
	}
	return "/tokens"
}

func showRevoke(q *request) error {
	t, err := q.token()
	if err != nil {
		return err
	}
	v := &view{Title: "Revoke “" + t.Name + "”?", Tab: "tokens"}
	if t.Project != "" {
		project, err := q.project()
		if err != nil {
			return err
		}
		v.Project = &project
	}
	b := &deleteBody{
		What: t.Name, Action: q.tokensPath() + join(t.ID, "revoke"), Cancel: q.tokensPath(), Button: "Revoke token",
		Text: "Programs that use it are refused from then on, and everybody who has signed in with it is signed out. What was done with it stays.",
	}
	if t.ID == q.who.Token.Parent {
		b.Text += " You are signed in with it yourself."
	}
	v.Body = b
	return q.render(200, "delete", v)
}

func revoke(q *request) error {
	t, err := q.token()
	if err != nil {
		return err
	}
	if err := q.Catalog.RevokeToken(q.r.Context(), q.actor(), t.Project, t.ID); err != nil {
		return err
	}
	q.Guard.Revoked(t.ID)
	return q.goTo(q.tokensPath(), "revoked")
}

// names are what IDs of tokens are called.
type names map[string]string

func namesOf(all []catalog.Token) names {
	n := names{}
	for _, t := range all {
		n[t.ID] = strings.TrimPrefix(t.Name, "session: ")
	}
	return n
}

// of is what people know somebody as who changes things.
func (n names) of(by string) string {
	switch name, ok := n[by]; {
	case by == "dns":
		return "a look at the DNS"
	case ok:
		return "“" + name + "”"
	}
	return by
}

// called is what somebody is called in a project.
func (q *request) called(project, by string) (string, error) {
	n, err := q.names(q.r.Context(), project)
	return n.of(by), err
}

// names are those of a project's tokens, for operators of all.
func (q *request) names(ctx context.Context, project string) (names, error) {
	if q.who.Operator() {
		project = ""
	}
	all, err := q.Catalog.Tokens(ctx, project)
	if errors.Is(err, catalog.ErrNotFound) {
		err = nil
	}
	return namesOf(all), err
}
