package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
)

func newProjectCommand() *cobra.Command {
	f := &apiFlags{}
	c := &cobra.Command{
		Use:   "project",
		Short: "Look after projects: who may have proxies, to which prefixes",
		Long: `Looks after the projects in the store of routes ([routes]): each has the IPv6
prefixes of its VMs, and proxies to nowhere else. Only operators may.`,
		Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	addAPIFlags(c, f)
	c.AddCommand(newProjectListCommand(f), newProjectAddCommand(f), newProjectSetCommand(f), newProjectRemoveCommand(f), newTrustCommand(f))
	return c
}

func newProjectListCommand(f *apiFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List projects",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			list, err := collect(api.Projects(c.Context()))
			if err != nil {
				return asked(err)
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), list)
			}
			return table(c.OutOrStdout(), "project|title|prefixes|proxies at most|made|by", func(row func(...any)) {
				for _, p := range list {
					row(p.Name, p.Title, strings.Join(prefixStrings(p.Prefixes), " "), p.MaxProxies, day(p.Created), p.CreatedBy)
				}
			})
		},
	}
}

// projectFlags are what can be said about a project.
type projectFlags struct {
	title    string
	prefixes []string
	most     int
}

func (o *projectFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&o.title, "title", "", "what people call it")
	c.Flags().StringSliceVar(&o.prefixes, "prefix", nil, "IPv6 prefix of its VMs, inside vm_prefixes of [proxy]; may come several times")
	c.Flags().IntVar(&o.most, "max-proxies", 0, "proxies that it may have; 0: as many as is usual")
}

func newProjectAddCommand(f *apiFlags) *cobra.Command {
	var o projectFlags
	c := &cobra.Command{
		Use:     "add NAME --prefix PREFIX",
		Short:   "Make a project",
		Example: "  isthmus project add shop --prefix 2001:db8:64::/64 --title 'The shop'",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			p, _, err := api.PutProject(c.Context(), args[0], wire.PutProject{Title: o.title, Prefixes: append([]string{}, o.prefixes...), MaxProxies: o.most}, client.If{Absent: true})
			if client.Status(err) == http.StatusPreconditionFailed {
				return fmt.Errorf("there is a project %s already; `isthmus project set` changes it", args[0])
			}
			if err != nil {
				return asked(err)
			}
			return f.printProject(c, "made", p)
		},
	}
	o.add(c)
	return c
}

func newProjectSetCommand(f *apiFlags) *cobra.Command {
	var o projectFlags
	c := &cobra.Command{
		Use:     "set NAME",
		Short:   "Change a project",
		Long:    "Changes what is given of a project; --prefix replaces all of its prefixes.",
		Example: "  isthmus project set shop --prefix 2001:db8:64::/64 --prefix 2001:db8:99::/64",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			old, at, err := api.Project(c.Context(), args[0])
			if err != nil {
				return asked(err)
			}
			next := wire.PutProject{Title: old.Title, Prefixes: prefixStrings(old.Prefixes), MaxProxies: old.MaxProxies}
			if c.Flags().Changed("title") {
				next.Title = o.title
			}
			if c.Flags().Changed("prefix") {
				next.Prefixes = o.prefixes
			}
			if c.Flags().Changed("max-proxies") {
				next.MaxProxies = o.most
			}
			p, _, err := api.PutProject(c.Context(), args[0], next, client.If{ETag: at.ETag})
			if err != nil {
				return asked(err)
			}
			return f.printProject(c, "changed", p)
		},
	}
	o.add(c)
	c.ValidArgsFunction = f.completeProjects
	return c
}

func (f *apiFlags) printProject(c *cobra.Command, what string, p wire.Project) error {
	if f.json() {
		return printJSON(c.OutOrStdout(), p)
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s project %s, VMs in %s\n", what, p.Name, orNone(prefixStrings(p.Prefixes)))
	return err
}

func newProjectRemoveCommand(f *apiFlags) *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Remove a project that has no proxies, with its tokens",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.completeProjects,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			if _, err := api.DeleteProject(c.Context(), args[0], client.If{}); err != nil {
				return asked(err)
			}
			return nil
		},
	}
}

func newTrustCommand(f *apiFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "Vouch for domains: a project may have their names without proof",
		Long: `Vouches that a project may have a domain and all names in it. Names that nobody
vouches for need a TXT record, which the page and isthmus routes add tell.`,
		Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List domains that are vouched for",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			list, err := collect(api.Trusts(c.Context()))
			if err != nil {
				return asked(err)
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), list)
			}
			return table(c.OutOrStdout(), "domain|project|since|by", func(row func(...any)) {
				for _, t := range list {
					row(t.Domain, t.Project, day(t.Created), t.CreatedBy)
				}
			})
		},
	}
	add := &cobra.Command{
		Use:     "add DOMAIN PROJECT",
		Short:   "Vouch for a domain",
		Example: "  isthmus project trust add shop.example shop",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			t, _, err := api.PutTrust(c.Context(), args[0], args[1], client.If{})
			if err != nil {
				return asked(err)
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), t)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "project %s may have %s and all names in it\n", t.Project, t.Domain)
			return err
		},
	}
	remove := &cobra.Command{
		Use:   "remove DOMAIN",
		Short: "Vouch for a domain no more: its names need proof again",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			if err := api.DeleteTrust(c.Context(), args[0], client.If{}); err != nil {
				return asked(err)
			}
			return nil
		},
	}
	c.AddCommand(list, add, remove)
	return c
}
