package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

// routeCheck is what is found about a host name.
type routeCheck struct {
	Host     string         `json:"host"`
	Proxy    *wire.Proxy    `json:"proxy,omitempty"`
	State    *wire.State    `json:"state,omitempty"`
	DNS      *wire.Check    `json:"dns,omitempty"`
	Backends []backendCheck `json:"backends,omitempty"`
	// Problems are what keeps visitors from coming to the site; none: nothing does.
	Problems []string `json:"problems"`
	// Unknown is what could not be looked at.
	Unknown []string `json:"unknown,omitempty"`
}

// backendCheck is whether a VM takes connections, from where the command runs.
type backendCheck struct {
	Address netip.AddrPort `json:"address"`
	Took    float64        `json:"took_seconds,omitempty"`
	Problem string         `json:"problem,omitempty"`
}

// dialWithin is how long a VM may take to accept a connection.
const dialWithin = 3 * time.Second

func newRoutesCheckCommand(f *apiFlags) *cobra.Command {
	var project string
	var noDial bool
	c := &cobra.Command{
		Use:   "check HOST",
		Short: "Explain why a host name is served, or is not",
		Long: `Looks after a host name the way a visitor comes: is it in the store, is the
project's right to it proven, does the DNS lead here, do the hypervisors have it,
does the VM take connections. VMs are tried from where this command runs, if that
is a hypervisor; with --server they are not.

The exit status is 1 if something keeps visitors from the site.`,
		Example: "  isthmus routes check www.shop.example",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			r, err := checkRoute(c.Context(), api, project, args[0], f.address() == "" && !noDial)
			if err != nil {
				return asked(err)
			}
			if f.json() {
				err = printJSON(c.OutOrStdout(), r)
			} else {
				err = r.print(c)
			}
			if err == nil && len(r.Problems) > 0 {
				err = fmt.Errorf("%s is not served as it should be", r.Host)
			}
			return err
		},
	}
	f.addProjectFlag(c, &project, "the project (default: that of the token, or that has the host name)")
	c.Flags().BoolVar(&noDial, "no-dial", false, "do not connect to VMs")
	return c
}

// checkRoute looks at everything. The error is that of the store or the API.
func checkRoute(ctx context.Context, api *client.Client, project, host string, dial bool) (r *routeCheck, err error) {
	r = &routeCheck{Host: host, Problems: []string{}}
	if project, err = projectOf(ctx, api, project, host); err != nil {
		return nil, err
	}
	p, _, err := api.Proxy(ctx, project, host)
	if err != nil {
		return nil, err
	}
	r.Proxy = &p
	r.checkDNS(ctx, api, project)
	r.checkLive(ctx, api, project)
	if dial {
		r.checkBackends(ctx)
	}
	return r, nil
}

func (r *routeCheck) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

func (r *routeCheck) unknown(format string, args ...any) {
	r.Unknown = append(r.Unknown, fmt.Sprintf(format, args...))
}

// checkDNS has the server look into the DNS.
func (r *routeCheck) checkDNS(ctx context.Context, api *client.Client, project string) {
	found, err := api.Check(ctx, project, r.Host)
	switch {
	case err == nil:
		r.DNS = &found
		r.Proxy.Proof = found.Proof
	case client.Status(err) == http.StatusForbidden:
		r.unknown("the DNS: a token that may only read has nobody look; give one that may write")
	default:
		r.unknown("the DNS: %v", err)
	}
	if s := catalog.Proof(r.Proxy.Proof.State); !s.Serves() {
		why := ""
		if r.Proxy.Proof.Problem != "" {
			why = " (" + r.Proxy.Proof.Problem + ")"
		}
		r.problem("the project's right to the name is not shown%s: add %s TXT %q", why, r.Proxy.Proof.Record, r.Proxy.Proof.Value)
	}
	if r.DNS != nil && !r.DNS.CNAME.OK {
		r.problem("the name does not lead here: %s", r.DNS.CNAME.Problem)
	}
}

// checkLive asks how far the proxy has come.
func (r *routeCheck) checkLive(ctx context.Context, api *client.Client, project string) {
	s, err := api.State(ctx, project, r.Host)
	if err != nil {
		r.unknown("the hypervisors: %v", err)
		return
	}
	r.State = &s
	switch {
	case r.Proxy.Off:
		r.problem("it is switched off; `isthmus routes set %s --off=false` switches it on", r.Host)
	case !s.Served && catalog.Proof(r.Proxy.Proof.State).Serves():
		r.problem("it is not served: %s", s.Problem)
	}
	switch {
	case s.Nodes == 0:
		r.problem("no hypervisor serves routes of the store at the moment")
	case s.Live.Live < s.Nodes:
		r.problem("%d of %d hypervisors do not have the last change yet; `isthmus routes nodes` shows which", s.Nodes-s.Live.Live, s.Nodes)
	}
}

// checkBackends connects to each port of each VM.
func (r *routeCheck) checkBackends(ctx context.Context) {
	good := 0
	for _, b := range r.Proxy.Backends {
		for _, port := range []uint16{r.Proxy.HTTP, r.Proxy.HTTPS} {
			if port == 0 {
				continue
			}
			c := backendCheck{Address: netip.AddrPortFrom(b, port)}
			began := time.Now()
			conn, err := (&net.Dialer{Timeout: dialWithin}).DialContext(ctx, "tcp", c.Address.String())
			if c.Took = time.Since(began).Seconds(); err == nil {
				conn.Close()
				good++
			} else {
				c.Problem = dialProblem(err)
			}
			r.Backends = append(r.Backends, c)
		}
	}
	if good == 0 {
		r.problem("no VM takes a connection from here; is its web server running, and does its firewall let this host in?")
	}
}

// dialProblem says what became of a connection, without the address.
func dialProblem(err error) string {
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Timeout():
		return fmt.Sprintf("no answer within %v", dialWithin)
	case errors.As(err, &op) && op.Err != nil:
		return strings.TrimPrefix(op.Err.Error(), "connect: ")
	}
	return err.Error()
}

func (r *routeCheck) print(c *cobra.Command) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	p := r.Proxy
	row("host", "%s, of project %s", p.Host, p.Project)
	row("leads to", "%s, http %s, https %s", joinAddrs(p.Backends), portWord(p.HTTP), portWord(p.HTTPS))
	row("changed", "%s by %s, revision %d", day(p.Changed), p.ChangedBy, p.Revision)
	row("proof", "%s", p.Proof.State)
	if r.DNS != nil {
		verdict := "does not lead here"
		if r.DNS.CNAME.OK {
			verdict = "leads here"
		}
		row("DNS", "%s: %s", verdict, orNone(r.DNS.CNAME.Found))
	}
	if r.State != nil {
		row("hypervisors", "%d of %d have it", r.State.Live.Live, r.State.Nodes)
	}
	for _, b := range r.Backends {
		if b.Problem != "" {
			row("VM", "%s: %s", b.Address, b.Problem)
		} else {
			row("VM", "%s takes connections, after %.1f ms", b.Address, b.Took*1000)
		}
	}
	for _, s := range r.Unknown {
		row("not known", "%s", s)
	}
	for _, s := range r.Problems {
		row("problem", "%s", s)
	}
	if len(r.Problems) == 0 {
		row("so", "visitors are served")
	}
	return w.Flush()
}
