package control

import (
	"context"
	"errors"
	"net/http"
	"time"

	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/proof"
)

// Look is the Check of a [Config] by somebody who asks name servers.
func Look(k *proof.Checker) func(context.Context, catalog.Proxy) (catalog.Proxy, wire.Found, error) {
	return func(ctx context.Context, p catalog.Proxy) (catalog.Proxy, wire.Found, error) {
		r, err := k.Check(ctx, p.Host)
		switch {
		case errors.Is(err, proof.ErrTooOften):
			return p, wire.Found{}, later(wire.Refuse(http.StatusTooManyRequests, "%v", err), time.Second)
		case errors.Is(err, context.DeadlineExceeded):
			return p, wire.Found{}, later(wire.Refuse(http.StatusServiceUnavailable, "the name servers of %s do not answer in time; ask again", p.Host), 10*time.Second)
		}
		if err == nil && r.Proxy.Project != p.Project {
			err = catalog.ErrNotFound // it has changed hands meanwhile
		}
		if err != nil {
			return p, wire.Found{}, err
		}
		return r.Proxy, found(&r.Points), nil
	}
}

// found is where a host name leads, as clients see it.
func found(p *proof.Pointing) wire.Found {
	f := wire.Found{OK: p.Where == proof.Here, Found: append([]string{}, p.Chain...)}
	for _, a := range p.Addresses {
		f.Found = append(f.Found, a.String())
	}
	if !f.OK {
		f.Problem = p.Text
	}
	return f
}
