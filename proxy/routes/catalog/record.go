package catalog

import (
	"context"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Finding is what a look for a TXT record has shown. Neither Found nor Gone: name
// servers did not answer, or not all the same.
type Finding struct {
	At      time.Time
	Found   bool   // the record is there
	Gone    bool   // name servers say that it is not there
	Problem string // for the customer, unless Found
}

// refresh is how old Seen and Checked may be in the store while nothing else
// changes: each write goes to all nodes.
const refresh = 3 * day

// RecordProof notes what a look for the TXT record of p has shown. It does nothing
// if the name is another project's by now, or trusted. What is Proven and Gone is
// served for the time of grace. Gives what is stored now, with the times of this look
// even if they are not worth a write; ErrNotFound.
func (c *Catalog) RecordProof(ctx context.Context, p Proxy, f Finding) (saved Proxy, err error) {
	rev, err := c.change(ctx, func() (store.Txn, error) {
		got, _, err := c.store.Get(ctx, proxyKey(p.Host))
		if err != nil {
			return store.Txn{}, err
		}
		old, err := maybe(got, proxyKey(p.Host), DecodeProxy)
		if err != nil {
			return store.Txn{}, err
		}
		if old == nil || old.Challenge != p.Challenge {
			return store.Txn{}, notFound(proxyKey(p.Host))
		}
		saved = *old
		if old.Proof == Trusted {
			return store.Txn{}, nil
		}
		saved.found(f, c.o.Grace)
		if saved.Proof == old.Proof && saved.Problem == old.Problem && saved.Missing.Equal(old.Missing) && f.At.Sub(old.Checked) < refresh {
			return store.Txn{}, nil
		}
		saved.edited(old)
		t := store.Txn{If: []store.Condition{had(got, proxyKey(p.Host))}, Put: []store.Put{{Key: proxyKey(p.Host), Value: encode(saved)}}}
		if saved.Proof != old.Proof {
			c.audit(&t, Actor{By: dnsActor}, p.Project, "proxy.proof", p.Host, *old, saved)
		}
		return t, nil
	})
	if err != nil {
		return Proxy{}, err
	}
	if rev != 0 {
		saved.committed(rev)
	}
	return saved, nil
}

// dnsActor is who changes proofs, in the log.
const dnsActor = "dns"

// found changes the state of proof.
func (p *Proxy) found(f Finding, grace time.Duration) {
	at := f.At.UTC().Truncate(time.Millisecond)
	p.Checked = at
	switch {
	case f.Found:
		p.Proof, p.Seen, p.Missing, p.Problem = Proven, at, time.Time{}, ""
		return
	case f.Gone && p.Proof == Proven && p.Missing.IsZero():
		p.Missing = at
	case f.Gone && p.Proof == Proven && at.Sub(p.Missing) >= grace:
		p.Proof = Lost
	}
	p.Problem = f.Problem
	if p.Proof == Proven && !p.Missing.IsZero() {
		p.Problem += "; without it the site stops on " + p.Missing.Add(grace).Format("2 January 2006, 15:04 UTC")
	}
}
