package main

import (
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/perf/routesync"
)

func newPerfRoutesCommand() *cobra.Command {
	var o routesync.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "routes",
		Short: "Measure how soon a change of a route is served everywhere",
		Long: `Measures the time from the API's answer to a change until the slowest node serves
it, with members of etcd, nodes and a VM in network namespaces that nothing else
sees, and what simulated nodes cost one member. It needs etcd 3.5.8 or newer, and
takes about three minutes. Other work on the machine spoils it.

The exit status is 0 also where the aim was missed.`,
		Example: `  sudo isthmus perf routes
  sudo isthmus perf routes --changes 100 --watchers -1 --json`,
		Args: cobra.NoArgs,
	}
	c.Flags().IntVar(&o.Changes, "changes", 1000, "changes that are timed")
	c.Flags().IntVar(&o.Routes, "routes", 100_000, "routes in the store meanwhile")
	c.Flags().IntVar(&o.Nodes, "nodes", 5, "hypervisors")
	c.Flags().IntVar(&o.Members, "members", 3, "members of etcd")
	c.Flags().IntVar(&o.Watchers, "watchers", 1000, "simulated nodes on one member; less than 0: none")
	c.Flags().StringVar(&o.Etcd, "etcd", "", "the etcd to run (default the one in PATH)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the figures of every change")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.Note = func(text string) { fmt.Fprintln(c.ErrOrStderr(), text) }
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		t, err := routesync.Run(ctx, o)
		return showMeasured[routesync.UsageError](c, &t, err, asJSON)
	}
	return c
}
