package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/proxy/control/wire"
)

// What operators ask about all routes, and tell all hypervisors.

func newRoutesNodesCommand(f *apiFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "List the hypervisors that serve the routes, and how far each is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			list, err := api.Nodes(c.Context())
			if err != nil {
				return asked(err)
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), list)
			}
			newest := int64(0)
			for _, n := range list {
				newest = max(newest, n.Applied)
			}
			return table(c.OutOrStdout(), "node|POP|version|up since|revision|behind by|routes|not served", func(row func(...any)) {
				for _, n := range list {
					row(n.Name, n.POP, n.Version, day(n.Started), n.Applied, newest-n.Applied, n.Routes, n.Skipped)
				}
			})
		},
	}
}

func newRoutesAuditCommand(f *apiFlags) *cobra.Command {
	var project string
	var most int
	c := &cobra.Command{
		Use:   "audit",
		Short: "List changes, the newest first: who, what, when",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if most < 1 {
				return usageError{fmt.Errorf("-n %d: at least 1", most)}
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			if project == "" {
				if project, err = ownProject(c.Context(), api); err != nil {
					return asked(err)
				}
			}
			list := []wire.Audit{}
			for a, err := range api.Audit(c.Context(), project) {
				if err != nil {
					return asked(err)
				}
				if list = append(list, a); len(list) == most {
					break
				}
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), list)
			}
			return table(c.OutOrStdout(), "when|who|from|project|what|of", func(row func(...any)) {
				for _, a := range list {
					row(day(a.At), a.By, a.From, a.Project, a.Action, a.Target)
				}
			})
		},
	}
	f.addProjectFlag(c, &project, "only those of a project")
	c.Flags().IntVarP(&most, "number", "n", 50, "how many at most")
	return c
}

func newRoutesAcceptCommand(f *apiFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "accept",
		Short: "Have all hypervisors take the store as it is now",
		Long: `Hypervisors do not believe a store that has lost what they remember, as one that
has been emptied, restored from an old copy, or is another one: they go on with
the routes of before, and isthmus status says so. This tells all of them that the
store is right as it is. What only they remember is gone then.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			return asked(api.Accept(c.Context()))
		},
	}
}

func newRoutesHoldsCommand(f *apiFlags) *cobra.Command {
	var release string
	c := &cobra.Command{
		Use:   "holds",
		Short: "List released host names that are kept from other projects, or let go of one",
		Long: `Lists host names that have been released and are kept for the project that had
them, for the time of [routes] hold. With --release other projects can have one at
once.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			if release != "" {
				return asked(api.DeleteHold(c.Context(), release))
			}
			list, err := collect(api.Holds(c.Context()))
			if err != nil {
				return asked(err)
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), list)
			}
			return table(c.OutOrStdout(), "host|project|until", func(row func(...any)) {
				for _, h := range list {
					row(h.Host, h.Project, day(h.Until))
				}
			})
		},
	}
	c.Flags().StringVar(&release, "release", "", "host name to let go of")
	return c
}
