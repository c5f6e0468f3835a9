package page

import (
	"net/url"
	"strings"

	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/visits"
)

// proxyRow is a line of the tab.
type proxyRow struct {
	mirror.Proxy
	State  state
	Visits *visits.Figures // nil: not known
}

// listBody is what lists have in common.
type listBody[T any] struct {
	Rows   []T
	Search string
	Next   string // address of the next page
	First  string // of the first one, if this is another
	Counts summary
}

// pages fills in where the other pages of a list are, by a parameter's name.
func (l *listBody[T]) pages(q *request, cursor, next string) {
	path := q.r.URL.EscapedPath()
	link := func(value string) string {
		v := url.Values{}
		if l.Search != "" {
			v.Set("q", l.Search)
		}
		if value != "" {
			v.Set(cursor, value)
		}
		if len(v) == 0 {
			return path
		}
		return path + "?" + v.Encode()
	}
	if next != "" {
		l.Next = link(next)
	}
	if q.r.URL.Query().Get(cursor) != "" {
		l.First = link("")
	}
}

// proxiesBody is the tab itself.
type proxiesBody struct {
	listBody[proxyRow]
	counted
}

func (q *request) search() string { return cut(strings.TrimSpace(q.r.URL.Query().Get("q")), 255) }

func listProxies(q *request) error {
	project, err := q.project()
	if err != nil {
		return err
	}
	nodes, err := q.aliveNodes(q.r.Context())
	if err != nil {
		return err
	}
	v := q.Mirror.View()
	b := &proxiesBody{counted: q.counted(project.Name, nodes)}
	b.listBody = listBody[proxyRow]{Search: q.search(), Counts: summarize(v.ProjectCounts(project.Name))}
	list, next := v.ProxiesOf(project.Name, b.Search, q.r.URL.Query().Get("after"), perPage)
	for i := range list {
		b.Rows = append(b.Rows, proxyRow{list[i], stateOf(&list[i], nodes), b.visits(list[i].Host)})
	}
	if len(b.Rows) == 0 {
		b.Coverage = "" // of nothing
	}
	b.pages(q, "after", next)
	return q.render(200, "proxies", &view{Title: "Proxies", Project: &project, Tab: "proxies", Live: true, Body: b})
}
