package hosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// atOnce is how many names, and how many probes, are under way together.
const atOnce = 16

// Status is what became of a name.
type Status string

const (
	Found      Status = "found"       // there are lines for it
	HasIPv6    Status = "has_ipv6"    // it needs none: it has an IPv6 address of its own
	Wildcard   Status = "wildcard"    // /etc/hosts holds no wildcards
	NoName     Status = "no_name"     // the name does not exist
	NoIPv4     Status = "no_ipv4"     // it has no IPv4 address that can be translated
	NoAnswer   Status = "no_answer"   // none of its addresses took a TCP connection
	FromFile   Status = "from_file"   // the name server answers from the file itself
	LookupFail Status = "lookup_fail" // no name server knew
)

// Result is one name's.
type Result struct {
	Name      string       `json:"name"`
	Origin    Origin       `json:"origin"`
	Status    Status       `json:"status"`
	Canonical string       `json:"canonical,omitempty"` // where its aliases lead
	Addresses []Address    `json:"addresses,omitempty"`
	IPv6      []netip.Addr `json:"ipv6,omitempty"` // its own
	Note      string       `json:"note,omitempty"` // more about the status, for people
}

// Address is one IPv4 address of a name, and what stands for it.
type Address struct {
	IPv4 netip.Addr `json:"ipv4"`
	IPv6 netip.Addr `json:"ipv6,omitzero"`
	// Refused says why it makes no line; "" means that it makes one.
	Refused string `json:"refused,omitempty"`
}

// Failed tells results that make the whole run a failure. What came from a
// preset or a log may be gone; what was asked for by name should be there.
func (r Result) Failed() bool {
	switch r.Status {
	case LookupFail, FromFile:
		return true
	case NoName, NoIPv4, NoAnswer:
		return r.Origin == OfArgument
	}
	return false
}

// Lines are the name's lines for hosts(5).
func (r Result) Lines() (lines []string) {
	for _, a := range r.Addresses {
		if a.Refused == "" {
			lines = append(lines, a.IPv6.String()+" "+r.Name)
		}
	}
	return lines
}

// Finder looks names up and makes their addresses.
type Finder struct {
	Resolver  *Resolver
	Discovery *Discovery
	Port      uint16        // that the probes connect to; 0 means no probes
	Timeout   time.Duration // of one probe
	// Known are the addresses that the file gives for a name now, by our block.
	Known func(name string) []netip.Addr
}

// Find does that for all names; the results have their order.
func (f *Finder) Find(ctx context.Context, names []Name) []Result {
	results := make([]Result, len(names))
	forEach(len(names), func(i int) { results[i] = f.lookup(ctx, names[i]) })
	if f.Port == 0 {
		return results
	}
	var probes []*Address
	for i := range results {
		for j := range results[i].Addresses {
			if a := &results[i].Addresses[j]; a.Refused == "" {
				probes = append(probes, a)
			}
		}
	}
	forEach(len(probes), func(i int) { f.probe(ctx, probes[i]) })
	for i := range results {
		if r := &results[i]; r.Status == Found && len(r.Lines()) == 0 {
			r.Status = NoAnswer
		}
	}
	return results
}

func (f *Finder) lookup(ctx context.Context, n Name) Result {
	r := Result{Name: n.Name, Origin: n.Origin}
	if n.IsWildcard() {
		r.Status = Wildcard
		return r
	}
	var v4, v6 []netip.Addr
	var err4, err6 error
	var both sync.WaitGroup
	both.Go(func() { v6, _, err6 = f.Resolver.Lookup(ctx, n.Name, dns.TypeAAAA) })
	v4, r.Canonical, err4 = f.Resolver.Lookup(ctx, n.Name, dns.TypeA)
	both.Wait()
	if r.Canonical == n.Name {
		r.Canonical = ""
	}
	known := f.Known(n.Name)
	own := slices.DeleteFunc(slices.Clone(v6), func(a netip.Addr) bool {
		return f.Discovery.Synthesised(a) || !a.IsGlobalUnicast() || slices.Contains(known, a)
	})
	switch {
	case len(own) > 0:
		r.Status, r.IPv6 = HasIPv6, own
		return r
	case errors.Is(err4, ErrNoName):
		r.Status = NoName
		return r
	case err4 != nil:
		r.Status, r.Note = LookupFail, err4.Error()
		return r
	case len(v4) == 0 && len(v6) > 0 && !slices.ContainsFunc(v6, func(a netip.Addr) bool { return !slices.Contains(known, a) }):
		r.Status, r.Note = FromFile, "the name server knows it from the block only; give another one with --server"
		return r
	case err6 != nil && !errors.Is(err6, ErrNoName):
		// RFC 6147 section 5.1.2: as if there were none.
		r.Note = "whether it has IPv6 is not known: " + err6.Error()
	}
	for _, a := range v4 {
		made := Address{IPv4: a}
		var err error
		if made.IPv6, err = f.Discovery.Pref64.Embed(a); err != nil {
			made.Refused = err.Error()
		}
		r.Addresses = append(r.Addresses, made)
	}
	r.Status = Found
	if len(r.Lines()) == 0 {
		r.Status = NoIPv4
	}
	return r
}

// probe tries to connect.
func (f *Finder) probe(ctx context.Context, a *Address) {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp6", net.JoinHostPort(a.IPv6.String(), strconv.Itoa(int(f.Port))))
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the addresses are said anyway
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", f.Timeout)
		}
		a.Refused = fmt.Sprintf("TCP port %d: %v", f.Port, err)
		return
	}
	_ = c.Close()
}

// forEach calls fn for 0 to n-1, some at once, and waits.
func forEach(n int, fn func(i int)) {
	var all sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i := range n {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			fn(i)
		})
	}
	all.Wait()
}
