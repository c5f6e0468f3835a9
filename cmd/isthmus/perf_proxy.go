package main

import (
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/perf/webproxy"
)

func newPerfProxyCommand() *cobra.Command {
	var o webproxy.Options
	var seconds float64
	var asJSON bool
	c := &cobra.Command{
		Use:   "proxy",
		Short: "Compare the web proxy with HAProxy and nginx",
		Long: `Measures new TLS connections, throughput, CPU time, and memory of idle connections
of a proxy between visitors and a VM, in network namespaces that nothing else sees:
isthmus, HAProxy (TCP mode, by server name, with all spliced and with splice-auto)
and nginx (stream with ssl_preread), where they are installed. The proxy has a CPU to itself. A run takes
about five minutes. Other work on the machine spoils it.

Each idle connection takes two open files here and two in the proxy. Where their
limit is too low for 10000, fewer are measured.

The exit status is 0 also where an aim was missed.`,
		Example: `  sudo isthmus perf proxy
  sudo isthmus perf proxy --measure connections --proxies haproxy --rounds 20 --json`,
		Args: cobra.NoArgs,
	}
	c.Flags().IntVar(&o.Rounds, "rounds", 5, "how often each proxy is measured")
	c.Flags().Float64Var(&seconds, "seconds", 0.4, "length of each throughput, and of each of a round's seven turns of new connections")
	c.Flags().IntVar(&o.Connections, "connections", 0, "idle connections whose memory is measured (default 10000, or what the limit of open files leaves)")
	c.Flags().StringSliceVar(&o.Proxies, "proxies", nil, "measure these besides isthmus, of "+strings.Join(webproxy.Keys(), ", ")+" (default all)")
	c.Flags().StringSliceVar(&o.Parts, "measure", nil, "only these, of "+strings.Join(webproxy.PartNames(), ", ")+" (default all)")
	c.Flags().StringSliceVar(&o.Also, "also", nil, "other builds of isthmus, to measure beside this one")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the figures of every round")
	words(c, "proxies", webproxy.Keys()...)
	words(c, "measure", webproxy.PartNames()...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if o.Rounds < 1 {
			return usageError{fmt.Errorf("--rounds %d: at least 1", o.Rounds)}
		}
		if c.Flags().Changed("connections") && o.Connections < 1 {
			return usageError{fmt.Errorf("--connections %d: at least 1", o.Connections)}
		}
		if !(seconds >= 0.1 && seconds <= 60) {
			return usageError{fmt.Errorf("--seconds %v: 0.1 to 60", seconds)}
		}
		o.Window = time.Duration(seconds * float64(time.Second))
		o.Note = func(text string) { fmt.Fprintln(c.ErrOrStderr(), text) }
		// Not SIGPIPE, which writing to a closed connection brings about, too.
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		t, err := webproxy.Run(ctx, o)
		return showMeasured[webproxy.UsageError](c, &t, err, asJSON)
	}
	return c
}
