package params

import (
	"net/http"
	"strconv"
	"strings"

	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Tag is the entity tag of a revision.
func Tag(r store.Revision) string { return strconv.Quote(strconv.FormatInt(int64(r), 10)) }

// Edited is the revision that a proxy's tag is about.
func Edited(p *catalog.Proxy) store.Revision {
	if p.Edited != 0 {
		return p.Edited
	}
	return p.Revision
}

// Conditions are the headers that make a change depend on what is there.
type Conditions struct {
	IfMatch     string `header:"If-Match" maxLength:"1000" example:"\"42\"" doc:"Change it only if this is its ETag still; * if there is one at all. Without, it is changed whatever it is"`
	IfNoneMatch string `header:"If-None-Match" maxLength:"1000" example:"*" doc:"*: only if there is none"`
}

// Match says what has to be there for a change. Now gives the revision of what is
// there, or 0; it is asked only where one tag does not say it.
func (c *Conditions) Match(now func() (store.Revision, error)) (m catalog.Match, err error) {
	none, have := strings.TrimSpace(c.IfNoneMatch), strings.TrimSpace(c.IfMatch)
	switch {
	case none == "*" && have != "":
		return m, BadHeader("If-None-Match", "contradicts If-Match", "send one of the two")
	case none == "*":
		return catalog.Match{Absent: true}, nil
	case none != "":
		return m, BadHeader("If-None-Match", "a change can only ask for nothing to be there", "send *, or If-Match with the ETag that you have")
	case have == "":
		return m, nil
	}
	list, any, ok := parseTags(have)
	if !ok {
		return m, BadHeader("If-Match", "no entity tag", `send what the ETag header said, with its quotes, such as "42"`)
	}
	if len(list) == 1 {
		if r := revision(list[0]); r != 0 {
			return catalog.Match{Revision: r}, nil
		}
		return m, store.ErrConflict // such a tag never was
	}
	is, err := now()
	if err != nil {
		return m, err
	}
	if is != 0 && any {
		return catalog.Match{Revision: is}, nil
	}
	for _, t := range list {
		if r := revision(t); r != 0 && r == is {
			return catalog.Match{Revision: is}, nil
		}
	}
	return m, store.ErrConflict
}

// revision is what a strong tag of ours says, or 0: If-Match compares strongly.
func revision(t string) store.Revision {
	n, err := strconv.ParseInt(strings.Trim(t, `"`), 10, 64)
	if err != nil || n <= 0 || t != Tag(store.Revision(n)) {
		return 0
	}
	return store.Revision(n)
}

// parseTags takes a list of entity tags apart; any is *.
func parseTags(s string) (list []string, any, ok bool) {
	if s == "*" {
		return nil, true, true
	}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		opaque := strings.TrimPrefix(part, "W/")
		if len(opaque) < 2 || opaque[0] != '"' || strings.IndexByte(opaque[1:], '"') != len(opaque)-2 {
			return nil, false, false
		}
		list = append(list, part)
	}
	return list, false, true
}

// unchanged tells whether a client that sent If-None-Match has what a tag is of
// already (RFC 9110 13.1.2, a weak comparison).
func unchanged(header, now string) bool {
	list, any, ok := parseTags(strings.TrimSpace(header))
	if !ok {
		return false
	}
	for _, t := range list {
		if strings.TrimPrefix(t, "W/") == now {
			return true
		}
	}
	return any
}

// BadHeader refuses a header.
func BadHeader(name, detail, remedy string) *wire.Problem {
	p := wire.Refuse(http.StatusBadRequest, "a header is wrong")
	p.Errors = []wire.Error{{In: "header", Name: name, Detail: detail, Remedy: remedy}}
	return p
}

// Known is what a client has already.
type Known struct {
	IfNoneMatch string `header:"If-None-Match" maxLength:"1000" doc:"The ETag that you have: if it is that still, the answer is 304 without a body"`
}

// Has tells whether that is what a tag is of.
func (k *Known) Has(etag string) bool { return k.IfNoneMatch != "" && unchanged(k.IfNoneMatch, etag) }
