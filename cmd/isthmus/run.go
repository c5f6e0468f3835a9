package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/logging"
	"aarch64.com/isthmus/cmd/internal/sdnotify"
)

// services are what `run --only` can name.
var services = []string{"router"}

func newRunCommand() *cobra.Command {
	var file, only, level string
	c := &cobra.Command{
		Use:   "run [-c FILE]",
		Short: "Forward packets until SIGTERM or Ctrl-C",
		Long: `Forwards packets until SIGTERM or Ctrl-C; then it leaves no XDP program, device
or route to it behind. So that connections outlive a restart, SIGTERM leaves
unreachable routes to what was translated, and the nftables table isthmus of
[router.share]. Ctrl-C (SIGINT) removes these as well. SIGHUP reads the configuration file again: a file with an error
is reported and changes nothing.

Without -c, the VMs of this host reach the IPv4 Internet by 64:ff9b::/96 and this
host's own IPv4 address, on the kernel path.`,
		Example: "  isthmus run\n  isthmus run -c /etc/isthmus/isthmus.toml --log-level debug",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if only != "" && !slices.Contains(services, only) {
				return usageError{fmt.Errorf("--only %s: there is no such service; there is %s", only, strings.Join(services, ", "))}
			}
			lvl, err := logging.ParseLevel(level)
			if err != nil {
				return usageError{fmt.Errorf("--log-level: %w", err)}
			}
			return runDaemon(file, logging.New(os.Stderr, lvl))
		},
	}
	addConfigFlag(c, &file)
	c.Flags().StringVar(&only, "only", "", "run one service alone: "+strings.Join(services, ", "))
	c.Flags().StringVar(&level, "log-level", "info", "least severe messages to log: "+strings.Join(logging.Levels, ", "))
	_ = c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(services, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(logging.Levels, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// runDaemon loads the configuration, starts everything, and stops it on a
// signal.
func runDaemon(file string, log zerolog.Logger) error {
	conf, err := loadConfig(file)
	if err != nil {
		return err
	}
	d, err := startDaemon(file, conf, log, sdnotify.New())
	if err != nil {
		return err
	}
	return d.run()
}
