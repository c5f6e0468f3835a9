package page

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
)

// auditRow is a change in words.
type auditRow struct {
	catalog.Audit
	What    string // "added"
	Subject string // what to
	Who     string
	Changes []auditChange
}

type auditChange struct{ Label, Before, After string }

// auditWords say what was done.
var auditWords = map[string]string{
	"proxy.create": "Added proxy", "proxy.change": "Changed proxy", "proxy.delete": "Deleted proxy", "proxy.proof": "Proof changed for",
	"proxy.lose":     "Name proven by another project:",
	"project.create": "Added project", "project.change": "Changed project", "project.delete": "Deleted project",
	"token.create": "Made token", "token.revoke": "Revoked token", "session.create": "Signed in:", "session.revoke": "Signed out:",
	"trust.put": "Trusted domain", "trust.delete": "No longer trusted domain", "hold.delete": "Released name",
	"store.accept": "Took the store as it is",
}

// auditFields are those of records that people care for.
var auditFields = []struct{ key, label string }{
	{"project", "Project"}, {"title", "Title"}, {"prefixes", "VM prefixes"}, {"max_proxies", "Proxies at most"},
	{"backends", "VMs"}, {"http", "HTTP port"}, {"https", "HTTPS port"}, {"proxy_protocol", "PROXY protocol"}, {"off", "Switched off"}, {"proof", "Proof"},
	{"verb", "May"}, {"expires", "Ends"},
}

func listAudit(q *request) error {
	ctx, name := q.r.Context(), q.r.PathValue("project")
	v := &view{Title: "Audit", Tab: "audit"}
	if name != "" {
		project, err := q.project()
		if err != nil {
			return err
		}
		v.Project = &project
	}
	all, next, err := q.Catalog.AuditLog(ctx, name, q.r.URL.Query().Get("before"), perPage)
	if catalog.Problems(err) != nil {
		return errNoPage
	}
	if err != nil {
		return err
	}
	n, err := q.names(ctx, name)
	if err != nil {
		return err
	}
	b := &listBody[auditRow]{}
	for i := range all {
		b.Rows = append(b.Rows, describe(&all[i], n))
	}
	b.pages(q, "before", next)
	v.Body = b
	return q.render(200, "audit", v)
}

func describe(a *catalog.Audit, n names) auditRow {
	row := auditRow{Audit: *a, What: auditWords[a.Action], Subject: a.Target, Who: n.of(a.By)}
	if row.What == "" {
		row.What = a.Action
	}
	before, after := fieldsOf(a.Before), fieldsOf(a.After)
	if strings.HasPrefix(a.Action, "token.") || strings.HasPrefix(a.Action, "session.") {
		for _, f := range []map[string]any{before, after} {
			if name, ok := f["name"].(string); ok {
				row.Subject = "“" + strings.TrimPrefix(name, "session: ") + "”"
			}
		}
	}
	if strings.HasPrefix(a.Action, "session.") {
		return row // who signs in is all there is to say
	}
	for _, f := range auditFields {
		was, is := auditText(before[f.key]), auditText(after[f.key])
		if f.key == "expires" {
			was, is = auditTime(was), auditTime(is)
		}
		if was == is || f.key == "project" && (was == "" || is == "") { // whose it is, is said beside it
			continue
		}
		row.Changes = append(row.Changes, auditChange{f.label, was, is})
	}
	return row
}

// fieldsOf takes a record apart, whatever it is.
func fieldsOf(v any) map[string]any {
	if m, ok := v.(map[string]any); ok {
		return m
	}
	var m map[string]any
	if b, err := json.Marshal(v); err == nil {
		_ = json.Unmarshal(b, &m) // what is no object has no fields
	}
	return m
}

// auditTime is a time of a record as people read it.
func auditTime(s string) string {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC().Format(minuteLayout)
	}
	return s
}

func auditText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		list := make([]string, len(v))
		for i, x := range v {
			list[i] = auditText(x)
		}
		return strings.Join(list, ", ")
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case float64:
		if v == 0 {
			return "none"
		}
		return fmt.Sprint(v)
	case string:
		return v
	}
	keys := fieldsOf(v)
	list := make([]string, 0, len(keys))
	for k, x := range keys {
		list = append(list, k+"="+auditText(x))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
