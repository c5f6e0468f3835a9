package main

import (
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/perf/jumphost"
)

func newPerfJumpCommand() *cobra.Command {
	var o jumphost.Options
	var seconds float64
	var asJSON bool
	c := &cobra.Command{
		Use:   "jump",
		Short: "Compare the jump server with OpenSSH's sshd as a jump host",
		Long: `Measures throughput, CPU time, handshakes, memory of idle sessions and latency of
a jump host between a client and a VM, in network namespaces that nothing else
sees: isthmus, OpenSSH's sshd as it is installed and with aes128-gcm alone, and no
jump host. The jump host has a CPU to itself. The clients of throughput are
OpenSSH's own. A run takes about two minutes. Other work on the machine spoils it.

The exit status is 0 also where an aim was missed.`,
		Example: `  sudo isthmus perf jump
  sudo isthmus perf jump --rounds 1 --hosts sshd-gcm --json`,
		Args: cobra.NoArgs,
	}
	c.Flags().IntVar(&o.Rounds, "rounds", 3, "how often each host is measured")
	c.Flags().Float64Var(&seconds, "seconds", 0.5, "length of each throughput and of handshakes")
	c.Flags().IntVar(&o.Sessions, "sessions", 1000, "idle sessions whose memory is measured")
	c.Flags().StringSliceVar(&o.Hosts, "hosts", nil, "measure these besides isthmus, of "+strings.Join(jumphost.Keys(), ", ")+" (default all)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the figures of every round")
	words(c, "hosts", jumphost.Keys()...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		for flag, n := range map[string]int{"rounds": o.Rounds, "sessions": o.Sessions} {
			if n < 1 {
				return usageError{fmt.Errorf("--%s %d: at least 1", flag, n)}
			}
		}
		if !(seconds >= 0.1 && seconds <= 60) {
			return usageError{fmt.Errorf("--seconds %v: 0.1 to 60", seconds)}
		}
		o.Window = time.Duration(seconds * float64(time.Second))
		o.Note = func(text string) { fmt.Fprintln(c.ErrOrStderr(), text) }
		// Not SIGPIPE, which writing to a closed connection brings about, too.
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		t, err := jumphost.Run(ctx, o)
		return showMeasured[jumphost.UsageError](c, &t, err, asJSON)
	}
	return c
}
