package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

func newRoutesCommand() *cobra.Command {
	f := &apiFlags{}
	c := &cobra.Command{
		Use:   "routes",
		Short: "Look after the proxies: which host name leads to which VM",
		Long: `Looks after the proxies in the store of routes ([routes]): which host name leads to
which VM. On a hypervisor root needs nothing else; from elsewhere give --server
and a file with a token, or set ISTHMUS_SERVER and ISTHMUS_TOKEN_FILE.

Routes of the operator's own file ([proxy] routes_file) are not in the store, and
win over those that are.`,
		Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	addAPIFlags(c, f)
	c.AddCommand(newRoutesListCommand(f), newRoutesAddCommand(f), newRoutesSetCommand(f), newRoutesRemoveCommand(f), newRoutesCheckCommand(f),
		newRoutesImportCommand(f), newRoutesExportCommand(f), newRoutesMigrateCommand(), newRoutesNodesCommand(f), newRoutesAuditCommand(f),
		newRoutesHoldsCommand(f), newRoutesAcceptCommand(f))
	return c
}

// addProjectFlag adds --project.
func (f *apiFlags) addProjectFlag(c *cobra.Command, project *string, doc string) {
	c.Flags().StringVar(project, "project", "", doc)
	_ = c.RegisterFlagCompletionFunc("project", f.completeProjects)
}

func newRoutesListCommand(f *apiFlags) *cobra.Command {
	var project, search string
	c := &cobra.Command{
		Use:     "list",
		Short:   "List proxies",
		Example: "  isthmus routes list --project shop --search www -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			list, err := listProxies(c.Context(), api, project, search)
			if err != nil {
				return asked(err)
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), list)
			}
			return table(c.OutOrStdout(), "host|project|backends|http|https|PROXY header|state|changed|by", func(row func(...any)) {
				for _, p := range list {
					row(p.Host, p.Project, joinAddrs(p.Backends), portWord(p.HTTP), portWord(p.HTTPS), p.ProxyProtocol, stateWord(&p), day(p.Changed), p.ChangedBy)
				}
			})
		},
	}
	f.addProjectFlag(c, &project, "only those of a project")
	c.Flags().StringVar(&search, "search", "", "only those that have this in their host name or backends")
	return c
}

// listProxies gives the proxies of a project, or of all that may be seen.
func listProxies(ctx context.Context, api *client.Client, project, search string) ([]wire.Proxy, error) {
	if project != "" {
		return collect(api.Proxies(ctx, project, search))
	}
	list := []wire.Proxy{}
	for p, err := range api.Projects(ctx) {
		if err != nil {
			return nil, err
		}
		of, err := collect(api.Proxies(ctx, p.Name, search))
		if err != nil {
			return nil, err
		}
		list = append(list, of...)
	}
	return list, nil
}

func joinAddrs(list []netip.Addr) string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.String()
	}
	return strings.Join(words, " ")
}

// portWord is a port on a VM, or that it is not served.
func portWord(port uint16) string {
	if port == 0 {
		return "off"
	}
	return fmt.Sprint(port)
}

// stateWord is a proxy's state as lists show it.
func stateWord(p *wire.Proxy) string {
	if p.Off {
		return "off"
	}
	return p.Proof.State
}

// proxyFlags are what can be said about a proxy.
type proxyFlags struct {
	project, header string
	http, https     uint16
	off             bool
	wait            time.Duration
}

func (o *proxyFlags) add(c *cobra.Command, f *apiFlags) {
	f.addProjectFlag(c, &o.project, "the project (default: that of the token, or that has the host name)")
	c.Flags().Uint16Var(&o.http, "http", 80, "port on the VM for what comes to port 80; 0: not served")
	c.Flags().Uint16Var(&o.https, "https", 443, "port on the VM for what comes to port 443; 0: not served")
	c.Flags().StringVar(&o.header, "proxy-protocol", "off", "header that tells the VM who the visitor is: off, v1, v2")
	c.Flags().BoolVar(&o.off, "off", false, "keep it, but do not serve it")
	c.Flags().DurationVar(&o.wait, "wait", 5*time.Second, "how long to wait until all hypervisors have it; 0s: not at all")
	_ = c.RegisterFlagCompletionFunc("proxy-protocol", cobra.FixedCompletions([]string{"off", "v1", "v2"}, cobra.ShellCompDirectiveNoFileComp))
}

// parseBackends reads addresses of VMs. What they may be, the API knows.
func parseBackends(args []string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, s := range args {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, usageError{fmt.Errorf("%q is no IP address; give the IPv6 address of a VM", s)}
		}
		list = append(list, a)
	}
	return list, nil
}

func newRoutesAddCommand(f *apiFlags) *cobra.Command {
	var o proxyFlags
	c := &cobra.Command{
		Use:   "add HOST VM... --project PROJECT",
		Short: "Add a proxy: a host name that leads to a VM",
		Long: `Adds a proxy: visitors of the host name get to the VM, or to the next one if it
does not take the connection. It is served when it is shown that the project may
have the name: by a TXT record, which the command tells, or since an operator
vouches for the domain (isthmus project trust add).`,
		Example: "  isthmus routes add www.shop.example 2001:db8:64::2 --project shop\n  isthmus routes add '*.blog.example' 2001:db8:64::3 --project blog --http 8080 --https 0",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			backends, err := parseBackends(args[1:])
			if err != nil {
				return err
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			project := o.project
			if project == "" {
				if project, err = ownProject(c.Context(), api); err != nil {
					return asked(err)
				}
				if project == "" {
					return usageError{errors.New("--project is missing; `isthmus project list` shows which there are")}
				}
			}
			p, a, err := api.PutProxy(c.Context(), project, args[0], wire.PutProxy{Backends: backends, HTTP: &o.http, HTTPS: &o.https, ProxyProtocol: o.header, Off: o.off}, client.If{Absent: true})
			if client.Status(err) == http.StatusPreconditionFailed {
				return fmt.Errorf("project %s has %s already; `isthmus routes set` changes it", project, args[0])
			}
			if err != nil {
				return asked(err)
			}
			return f.printSaved(c, api, &p, a.Revision, o.wait)
		},
	}
	o.add(c, f)
	return c
}

func newRoutesSetCommand(f *apiFlags) *cobra.Command {
	var o proxyFlags
	c := &cobra.Command{
		Use:     "set HOST [VM...]",
		Short:   "Change a proxy",
		Long:    "Changes what is given of a proxy; VMs replace those that it had.",
		Example: "  isthmus routes set www.shop.example 2001:db8:64::4\n  isthmus routes set www.shop.example --off=false",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			backends, err := parseBackends(args[1:])
			if err != nil {
				return err
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			project, err := projectOf(c.Context(), api, o.project, args[0])
			if err != nil {
				return asked(err)
			}
			old, at, err := api.Proxy(c.Context(), project, args[0])
			if err != nil {
				return asked(err)
			}
			next := wire.PutProxy{Backends: old.Backends, HTTP: &old.HTTP, HTTPS: &old.HTTPS, ProxyProtocol: old.ProxyProtocol, Off: old.Off}
			if len(backends) > 0 {
				next.Backends = backends
			}
			if c.Flags().Changed("http") {
				next.HTTP = &o.http
			}
			if c.Flags().Changed("https") {
				next.HTTPS = &o.https
			}
			if c.Flags().Changed("proxy-protocol") {
				next.ProxyProtocol = o.header
			}
			if c.Flags().Changed("off") {
				next.Off = o.off
			}
			p, a, err := api.PutProxy(c.Context(), project, args[0], next, client.If{ETag: at.ETag})
			if client.Status(err) == http.StatusPreconditionFailed {
				return fmt.Errorf("somebody else has changed %s meanwhile; look at it, and try again", args[0])
			}
			if err != nil {
				return asked(err)
			}
			return f.printSaved(c, api, &p, a.Revision, o.wait)
		},
	}
	o.add(c, f)
	return c
}

// printSaved says what has been stored, what is still missing, and how far it has come.
func (f *apiFlags) printSaved(c *cobra.Command, api *client.Client, p *wire.Proxy, revision int64, wait time.Duration) error {
	var live wire.Live
	var liveErr error
	if wait > 0 {
		ctx, cancel := context.WithTimeout(c.Context(), wait)
		live, liveErr = api.WaitLive(ctx, revision)
		cancel()
	}
	if f.json() {
		return printJSON(c.OutOrStdout(), p)
	}
	out := c.OutOrStdout()
	fmt.Fprintf(out, "%s leads to %s (project %s)\n", p.Host, joinAddrs(p.Backends), p.Project)
	switch {
	case wait <= 0 || live.Nodes == 0:
	case liveErr == nil:
		fmt.Fprintf(out, "live on %d of %d hypervisors\n", live.Live, live.Nodes)
	default:
		fmt.Fprintf(out, "live on %d of %d hypervisors so far; `isthmus routes nodes` shows the others\n", live.Live, live.Nodes)
	}
	printMissing(out, p)
	return nil
}

// printMissing says what the owner has to do before visitors come.
func printMissing(out io.Writer, p *wire.Proxy) {
	if p.Off {
		fmt.Fprintln(out, "it is switched off; `isthmus routes set --off=false` switches it on")
	}
	if s := catalog.Proof(p.Proof.State); !s.Serves() {
		fmt.Fprintf(out, "it is not served before this record is in the DNS:\n  %s TXT %q\n", p.Proof.Record, p.Proof.Value)
	}
	if len(p.CNAMEs) > 0 {
		fmt.Fprintf(out, "visitors come by a CNAME record to %s\n", strings.Join(p.CNAMEs, " or "))
	}
}

func newRoutesRemoveCommand(f *apiFlags) *cobra.Command {
	var project string
	c := &cobra.Command{
		Use:   "remove HOST",
		Short: "Remove a proxy",
		Long: `Removes a proxy. Its host name is kept from other projects for a while ([routes]
hold), for links and DNS records may still lead to it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			if project, err = projectOf(c.Context(), api, project, args[0]); err != nil {
				return asked(err)
			}
			_, err = api.DeleteProxy(c.Context(), project, args[0], client.If{})
			return asked(err)
		},
	}
	f.addProjectFlag(c, &project, "the project (default: that of the token, or that has the host name)")
	return c
}
