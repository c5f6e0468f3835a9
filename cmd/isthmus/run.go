package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/logging"
	"aarch64.com/isthmus/cmd/internal/sdnotify"
)

func newRunCommand() *cobra.Command {
	var file, level string
	var only []string
	c := &cobra.Command{
		Use:   "run [-c FILE]",
		Short: "Forward packets, serve visitors, and let people jump to VMs, until SIGTERM or Ctrl-C",
		Long: `Runs what is configured until SIGTERM or Ctrl-C: the router, which forwards
packets, with [proxy] listen_http, listen_https or listen_quic the web proxy, with
[routes] engine the store of its routes with their API, and with [jump] listen the
SSH jump server. When the router ends it leaves no XDP program, device or route to
it behind. So that connections outlive a restart, SIGTERM leaves unreachable routes
to what was translated, and the nftables table isthmus of [router.share]. Ctrl-C
(SIGINT) removes these as well. SIGHUP reads the configuration file again: a file
with an error is reported and changes nothing.

The web proxy and the jump server stop listening on SIGTERM, and what is open has the
drain_timeout of [proxy] and [jump] to end; on Ctrl-C it ends at once. A second
process with --only proxy, --only proxy,api or --only jump can listen meanwhile, so
that nobody is turned away. A second signal ends all.

Without -c, the VMs of this host reach the IPv4 Internet by 64:ff9b::/96 and this
host's own IPv4 address, on the kernel path.`,
		Example: "  isthmus run\n  isthmus run -c /etc/isthmus/isthmus.toml --log-level debug",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkKinds(only); err != nil {
				return usageError{err}
			}
			lvl, err := logging.ParseLevel(level)
			if err != nil {
				return usageError{fmt.Errorf("--log-level: %w", err)}
			}
			return runDaemon(file, only, logging.New(os.Stderr, lvl))
		},
	}
	addConfigFlag(c, &file)
	c.Flags().StringSliceVar(&only, "only", nil, "of the configured services, run these alone: "+strings.Join(kindNames(), ", "))
	c.Flags().StringVar(&level, "log-level", "info", "least severe messages to log: "+strings.Join(logging.Levels, ", "))
	_ = c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(logging.Levels, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// runDaemon loads the configuration, starts everything, and stops it on a
// signal.
func runDaemon(file string, only []string, log zerolog.Logger) error {
	conf, err := loadConfig(file)
	if err != nil {
		return err
	}
	d, err := startDaemon(file, conf, only, log, sdnotify.New())
	if err != nil {
		return err
	}
	return d.run()
}
