package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/demo"
	"aarch64.com/isthmus/cmd/internal/logging"
)

func newDemoCommand() *cobra.Command {
	var path, output string
	var hold bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show isthmus at work in a network of namespaces",
		Long: `Builds a small network on this machine, out of namespaces that nothing else
sees: VMs that have only IPv6, an Internet that has only IPv4, and isthmus
between them. Then it sends real packets from both sides and shows what came
of them: first isthmus without a configuration file, with VMs that share the
hypervisor's IPv4 address and find IPv4 hosts by name; then a VM with an IPv4
address of its own, once over AF_XDP and once over the kernel path.

The exit status is 0 only if everything worked. Everything is taken down at
the end, also after Ctrl-C; what a killed run left is removed by the next.`,
		Example: `  sudo isthmus demo
  sudo isthmus demo --path kernel --hold
  sudo isthmus demo -o json`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
	}
	cmd.Flags().StringVar(&path, "path", "all", "what to show: share, xdp, kernel or all")
	cmd.Flags().BoolVar(&hold, "hold", false, "stay up after the checks, with commands to try, until Ctrl-C")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	words(cmd, "path", "all", "share", "xdp", "kernel")
	words(cmd, "output", "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o := demo.Options{Hold: hold, Out: cmd.OutOrStdout(), Color: logging.Colors(os.Stdout)}
		switch path {
		case "all":
			o.Paths = []demo.Path{demo.Share, demo.XDP, demo.Kernel}
		case "share", "xdp", "kernel":
			o.Paths = []demo.Path{demo.Path(path)}
		default:
			return usageError{fmt.Errorf("--path %s: it is share, xdp, kernel or all", path)}
		}
		switch output {
		case "table":
		case "json":
			o.JSON = true
		default:
			return usageError{fmt.Errorf("--output %s: it is table or json", output)}
		}
		// SIGPIPE: whoever read the table has gone (`isthmus demo | head`).
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
		defer stop()
		return demo.Run(ctx, o)
	}
	return cmd
}

// words offers a flag's words for completion.
func words(cmd *cobra.Command, flag string, list ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag is not defined above
	}
}
