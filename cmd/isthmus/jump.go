package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/control"
	"aarch64.com/isthmus/jump"
	"aarch64.com/isthmus/jump/access"
)

func newJumpCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "jump",
		Short: "Look after the SSH jump server: sessions, host keys, tokens",
		Args:  knownCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newJumpSessionsCommand(), newJumpEndCommand(), newJumpKeysCommand(), newJumpTokenCommand())
	return c
}

func addSocketFlag(c *cobra.Command, socket *string) {
	c.Flags().StringVar(socket, "socket", config.Default().Control.Socket, "control socket of the running isthmus")
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func newJumpSessionsCommand() *cobra.Command {
	var socket string
	var asJSON bool
	c := &cobra.Command{
		Use:   "sessions",
		Short: "List who is connected to the running jump server, and to which VMs",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []jump.Session
			if err := control.Get(c.Context(), socket, sessionsPath, &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), list)
			}
			return printSessions(c.OutOrStdout(), list)
		},
	}
	addSocketFlag(c, &socket)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// printSessions gives each session a line, and one for each further VM.
func printSessions(out io.Writer, list []jump.Session) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tsource\tclient\twho\tsince\tVM\tsent\treceived")
	for _, s := range list {
		who := "-"
		if s.Who != "" {
			who = clientWord(s.Who)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t", s.ID, s.Source, clientWord(s.Version), who, ago(s.Start))
		for i, ch := range s.Channels {
			if i > 0 {
				fmt.Fprint(w, "\t\t\t\t\t")
			}
			fmt.Fprintf(w, "%s\t%d\t%d\n", ch.Target, ch.Up, ch.Down)
		}
		if len(s.Channels) == 0 {
			fmt.Fprintln(w, "-\t-\t-")
		}
	}
	return w.Flush()
}

func newJumpEndCommand() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:     "end ID",
		Short:   "End a session of the running jump server",
		Example: "  isthmus jump sessions\n  isthmus jump end 7",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return usageError{fmt.Errorf("%s is no number of a session; `isthmus jump sessions` lists them", args[0])}
			}
			e := sessionEnd{ID: id}
			return control.Ask(c.Context(), socket, http.MethodDelete, sessionsPath, e, &e)
		},
	}
	addSocketFlag(c, &socket)
	return c
}

func newJumpTokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token, and the line that lets it in",
		Long: `Makes a token that lets its bearer use the jump server, as the password of the
jump user, and prints it with the line for the file of [jump] tokens. The file has
only its hash: the token is shown here once.`,
		Example: "  isthmus jump token project-a",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if strings.ContainsAny(args[0], " \t\r\n#") || clientWord(args[0]) != args[0] || args[0] == "" {
				return usageError{fmt.Errorf("%q can be no name in the file of tokens; write letters, digits and hyphens", args[0])}
			}
			secret, line := access.NewToken(args[0])
			_, err := fmt.Fprintf(c.OutOrStdout(), "token  %s\nline   %s\n", secret, line)
			return err
		},
	}
}

func (s *jumpStatus) print(w io.Writer) {
	fmt.Fprintf(w, "jump server\t%s\n", orNone(s.Listen))
	fmt.Fprintf(w, "sessions\t%d, and %d not logged in\n", s.Connections, s.Handshakes)
	fmt.Fprintf(w, "channels\t%d open, %d bytes up, %d down\n", s.Open, s.Up, s.Down)
	fmt.Fprintf(w, "logins\t%s\n", orNone(counted(s.Logins)))
	fmt.Fprintf(w, "ended\t%s\n", orNone(counted(s.Channels)))
}
