package page

import (
	"fmt"
	"html/template"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// minuteLayout is how a time of another day is written.
const minuteLayout = "2 Jan 2006, 15:04 UTC"

// moment is a time for people and for programs.
type moment struct{ Text, ISO, Exact string }

// momentOf writes a time as seen from now: "5 minutes ago", "in 11 hours", and with
// its date if it is further away than a day.
func momentOf(t, now time.Time) moment {
	m := moment{ISO: t.UTC().Format(time.RFC3339), Exact: t.UTC().Format("2 January 2006, 15:04:05 UTC")}
	d := now.Sub(t)
	past := d >= 0
	d = d.Abs()
	switch {
	case d >= 24*time.Hour:
		m.Text = t.UTC().Format(minuteLayout)
		return m
	case d >= time.Hour:
		m.Text = plural(int(d/time.Hour), "hour")
	case d >= time.Minute:
		m.Text = plural(int(d/time.Minute), "minute")
	case past:
		m.Text = "just now"
		return m
	default:
		m.Text = "less than a minute"
	}
	if past {
		m.Text += " ago"
	} else {
		m.Text = "in " + m.Text
	}
	return m
}

// span is a time that something takes.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than a second"
	case d < time.Minute:
		return plural(int(d/time.Second), "second")
	case d < time.Hour:
		return plural(int(d/time.Minute), "minute")
	case d < 24*time.Hour:
		return plural(int(d/time.Hour), "hour")
	}
	return plural(int(d/(24*time.Hour)), "day")
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// upperFirst begins a sentence.
func upperFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return ""
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

// cut shortens a text to n bytes, at the end of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// breakable lets a browser break a long name behind dots.
func breakable(s string) template.HTML {
	return template.HTML(strings.ReplaceAll(template.HTMLEscapeString(s), ".", ".<wbr>"))
}

func joinAddrs(all []netip.Addr, between string) string {
	texts := make([]string, len(all))
	for i, a := range all {
		texts[i] = a.String()
	}
	return strings.Join(texts, between)
}

func joinPrefixes(all []netip.Prefix, between string) string {
	texts := make([]string, len(all))
	for i, p := range all {
		texts[i] = p.String()
	}
	return strings.Join(texts, between)
}

// ports says which of its ports a proxy serves.
func ports(http, https uint16) (list []string) {
	one := func(name string, visitors, vm uint16) {
		switch vm {
		case 0:
		case visitors:
			list = append(list, fmt.Sprintf("%s %d", name, vm))
		default:
			list = append(list, fmt.Sprintf("%s %d → %d", name, visitors, vm))
		}
	}
	one("HTTP", 80, http)
	one("HTTPS", 443, https)
	return list
}

// headerNames are the choices of the PROXY protocol.
var headerNames = map[string]string{"off": "Off", "v1": "Version 1 (text)", "v2": "Version 2 (binary)"}
