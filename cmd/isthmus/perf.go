package main

import (
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/perf/kernelpath"
)

func newPerfCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "perf",
		Short: "Measure isthmus on this machine, in network namespaces",
		Args:  knownCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newKernelPathCommand(), newPerfJumpCommand(), newPerfProxyCommand(), newPerfRoutesCommand())
	return c
}

func newKernelPathCommand() *cobra.Command {
	var o kernelpath.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "kernel-path",
		Short: "Compare the kernel path with plain forwarding and TAYGA",
		Long: `Measures TCP (iperf3) and small UDP packets from a VM to a server and back, in
network namespaces that nothing else sees: by plain IPv6 forwarding, by isthmus
with and without the fast path and NAT44, and by TAYGA if it is installed. A run
takes about half a minute per round. Other work on the machine spoils it.

The exit status is 0 also where an aim was missed.`,
		Example: `  sudo isthmus perf kernel-path
  sudo isthmus perf kernel-path --rounds 1 --paths fast,tayga --json`,
		Args: cobra.NoArgs,
	}
	c.Flags().IntVar(&o.Rounds, "rounds", 4, "how often each path is measured")
	c.Flags().IntVar(&o.Seconds, "seconds", 1, "length of each TCP transfer")
	c.Flags().IntVar(&o.Senders, "senders", 0, "CPUs that small packets are sent from (default all, at most 8)")
	c.Flags().StringSliceVar(&o.Paths, "paths", nil, "measure these besides plain forwarding, of "+strings.Join(kernelpath.Keys(), ", ")+" (default all)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the figures of every round")
	words(c, "paths", kernelpath.Keys()...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		for flag, n := range map[string]int{"rounds": o.Rounds, "seconds": o.Seconds} {
			if n < 1 {
				return usageError{fmt.Errorf("--%s %d: at least 1", flag, n)}
			}
		}
		o.Note = func(text string) { fmt.Fprintln(c.ErrOrStderr(), text) }
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
		defer stop()
		t, err := kernelpath.Run(ctx, o)
		return showMeasured[kernelpath.UsageError](c, &t, err, asJSON)
	}
	return c
}

// showMeasured ends a measurement: its table as people or programs read it, or what
// was wrong, of which a Usage is the user's.
func showMeasured[Usage error](c *cobra.Command, t interface{ Print(io.Writer) error }, err error, asJSON bool) error {
	var usage Usage
	switch {
	case errors.As(err, &usage):
		return usageError{usage}
	case err != nil:
		return err
	case !asJSON:
		return t.Print(c.OutOrStdout())
	}
	return printJSON(c.OutOrStdout(), t)
}
