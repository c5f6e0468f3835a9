// Command isthmus joins IPv6-only hosts to the IPv4 Internet.
//
//	isthmus run -c FILE   forward packets until SIGTERM or Ctrl-C
//	isthmus check -c FILE say what is wrong with a configuration, and what it would do
//	isthmus explain       say what becomes of a packet, and why
//	isthmus status        ask the running one how it is doing
//	isthmus routes        look after the proxies: which host name leads to which VM
//	isthmus project       look after who may have proxies, to which prefixes
//	isthmus token         look after keys to the proxies tab and its API
//	isthmus jump          look after the SSH jump server: sessions, host keys, tokens
//	isthmus hosts         make NAT64 lines for /etc/hosts
//	isthmus demo          show it at work in network namespaces
//	isthmus perf          measure it on this machine
//	isthmus version       say which isthmus this is
//
// One file per subcommand. Exit status: 0 done, 1 failed, 2 wrong command line.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/version"
)

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }

// usageError marks a wrong command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// execute runs one command line and returns the exit status.
func execute(args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteC()
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "isthmus: %v\nusage: %s\n`%s --help` tells more\n", err, command.UseLine(), command.CommandPath())
		return 2
	case config.IsInvalid(err):
		// Each line starts with its file, as editors and people expect.
		fmt.Fprintln(stderr, err)
	default:
		fmt.Fprintf(stderr, "isthmus: %v\n", err)
	}
	return 1
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "isthmus COMMAND",
		Short: "Joins IPv6-only hosts to the IPv4 Internet",
		Long: `isthmus translates between IPv6 and IPv4 (SIIT, RFC 7915) on a hypervisor whose
VMs have IPv6 only: over AF_XDP on its network cards, and over a TUN device for
everything that the kernel routes. It can also be a web proxy to sites on the VMs,
with a page where customers say which, and an SSH jump server to the VMs.`,
		Version:               version.Get().String(),
		DisableFlagsInUseLine: true,

		SilenceErrors: true, // execute prints them
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newRunCommand(), newCheckCommand(), newStatusCommand(), newRoutesCommand(), newProjectCommand(), newTokenCommand(), newMapCommand(), newJumpCommand(), newExplainCommand(), newHostsCommand(), newDemoCommand(), newPerfCommand(), newVersionCommand())
	for _, c := range root.Commands() {
		checkArguments(c)
	}
	return root
}

// checkArguments does so for a command and all below it.
func checkArguments(c *cobra.Command) {
	c.Args = checkedArguments(c.Args)
	for _, sub := range c.Commands() {
		checkArguments(sub)
	}
}

// knownCommand turns whatever is left of the command line into a sentence.
func knownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = 2
	hint := ""
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{fmt.Errorf("unknown command %q%s", args[0], hint)}
}

// checkedArguments makes what a subcommand says against its arguments a wrong
// command line.
func checkedArguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
