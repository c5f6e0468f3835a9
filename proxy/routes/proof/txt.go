package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"aarch64.com/isthmus/proxy/routes/catalog"
)

// Look looks for the TXT record that proves a host name.
func (d *DNS) Look(ctx context.Context, host, challenge string) catalog.Finding {
	f := catalog.Finding{At: time.Now()}
	l, ctx, cancel := d.begin(ctx)
	defer cancel()
	a, err := l.ask(ctx, catalog.TXT(host), dns.TypeTXT, nil)
	if err != nil {
		f.Problem = problem(ctx, err)
		return f
	}
	have, deny, silent := map[string]bool{}, map[string]bool{}, map[string]error{}
	var others []string
	for _, v := range a.verdicts {
		name := show(v.server.name)
		if v.err != nil {
			silent[name] = v.err
			continue
		}
		texts := v.texts()
		if slices.Contains(texts, challenge) {
			have[name] = true
			continue
		}
		deny[name] = true
		others = append(others, texts...)
	}
	switch {
	case len(have) > 0 && len(deny) == 0:
		f.Found = true
	case len(have) > 0:
		f.Problem = fmt.Sprintf("not all name servers of %s have the TXT record yet: %s", show(a.zone), some(deny, "does not", "do not"))
	case len(deny) > 0:
		f.Gone = true
		f.Problem = fmt.Sprintf("TXT missing: add %s TXT %q", catalog.TXT(host), challenge)
		if len(others) > 0 {
			slices.Sort(others)
			f.Problem += fmt.Sprintf("; there is %s", quote(others[0]))
		}
	default:
		f.Problem = nobody(a.zone, silent)
	}
	return f
}

// Texts gives what TXT records say at the place where a host name is proven: those
// that all name servers that answer agree about.
func (d *DNS) Texts(ctx context.Context, host string) (texts []string, err error) {
	l, ctx, cancel := d.begin(ctx)
	defer cancel()
	a, err := l.ask(ctx, catalog.TXT(host), dns.TypeTXT, nil)
	if err != nil {
		return nil, errors.New(problem(ctx, err))
	}
	silent := map[string]error{}
	first := true
	for _, v := range a.verdicts {
		switch {
		case v.err != nil:
			silent[show(v.server.name)] = v.err
		case first:
			texts, first = v.texts(), false
		default:
			also := v.texts()
			texts = slices.DeleteFunc(texts, func(s string) bool { return !slices.Contains(also, s) })
		}
	}
	if first {
		return nil, errors.New(nobody(a.zone, silent))
	}
	return texts, nil
}

// texts are the TXT records' texts, each with its parts joined.
func (v *verdict) texts() (list []string) {
	for _, rr := range v.records {
		if t, ok := rr.(*dns.TXT); ok {
			list = append(list, strings.TrimSpace(strings.Join(t.Txt, "")))
		}
	}
	return list
}

// problem words an error for the customer. It is the same from look to look while
// nothing changes.
func problem(ctx context.Context, err error) string {
	var r *rcodeError
	var silent *resolverError
	switch {
	case errors.As(err, &silent):
		return "the DNS can't be asked right now; that is not your fault"
	case errors.As(err, &r) && r.rcode == dns.RcodeServerFailure:
		return fmt.Sprintf("%s can't be looked up: its name servers do not answer, or DNSSEC is broken", show(r.zone))
	case ctx.Err() != nil:
		return "the name servers take too long to answer"
	}
	return err.Error()
}

// nobody words that no name server of a zone has answered.
func nobody(zone string, silent map[string]error) string {
	for _, name := range sorted(silent) {
		var timeout interface{ Timeout() bool }
		if err := silent[name]; !errors.As(err, &timeout) {
			return fmt.Sprintf("the name servers of %s do not answer as they should: %s says %q", show(zone), name, err)
		}
	}
	return fmt.Sprintf("the name servers of %s do not answer", show(zone))
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// some lists a few names, "ns1.example and 2 more do not".
func some(names map[string]bool, one, many string) string {
	switch list := sorted(names); len(list) {
	case 1:
		return list[0] + " " + one
	case 2:
		return list[0] + " and " + list[1] + " " + many
	default:
		return fmt.Sprintf("%s and %d more %s", list[0], len(list)-1, many)
	}
}

// quote shows a stranger's text.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.QuoteToASCII(s)
}
