package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
)

// apiFlags say where the API is, who asks, and how answers are printed.
type apiFlags struct {
	socket, server, tokenFile, caFile, output string
}

// Outputs of commands.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// addAPIFlags adds them for a command and those below it.
func addAPIFlags(c *cobra.Command, f *apiFlags) {
	p := c.PersistentFlags()
	p.StringVar(&f.socket, "socket", config.Default().Control.Socket, "control socket of the isthmus on this host")
	p.StringVar(&f.server, "server", "", "address of the API instead, such as https://isthmus.example.com:8443 (default $ISTHMUS_SERVER)")
	p.StringVar(&f.tokenFile, "token-file", "", "file with the token for --server (default $ISTHMUS_TOKEN_FILE)")
	p.StringVar(&f.caFile, "ca-file", "", "PEM file of who signed the certificate of --server (default $ISTHMUS_CA_FILE, or those that this host trusts)")
	p.StringVarP(&f.output, "output", "o", outputTable, "how to print: table, json")
	_ = c.MarkPersistentFlagFilename("token-file")
	_ = c.MarkPersistentFlagFilename("ca-file", "pem", "crt")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
}

// client asks the API that the flags name: the one behind the control socket, where
// root needs no token, or one elsewhere.
func (f *apiFlags) client() (*client.Client, error) {
	if f.output != outputTable && f.output != outputJSON {
		return nil, usageError{fmt.Errorf("--output %s: there are table, json", f.output)}
	}
	if server := f.address(); server != "" {
		file := cmp.Or(f.tokenFile, os.Getenv("ISTHMUS_TOKEN_FILE"))
		if file == "" {
			return nil, usageError{fmt.Errorf("%s wants a token: give a file that has it with --token-file", server)}
		}
		return client.New(client.Options{URL: server, TokenFile: file, CAFile: cmp.Or(f.caFile, os.Getenv("ISTHMUS_CA_FILE"))})
	}
	if f.tokenFile != "" || f.caFile != "" {
		return nil, usageError{errors.New("--token-file and --ca-file are for --server, which is missing")}
	}
	return client.New(client.Options{URL: "unix:" + f.socket})
}

// address is that of the API elsewhere, or "" for the control socket.
func (f *apiFlags) address() string { return cmp.Or(f.server, os.Getenv("ISTHMUS_SERVER")) }

// asked gives what went wrong with a request as a sentence.
func asked(err error) error {
	if client.Status(err) == http.StatusNotFound && strings.Contains(err.Error(), "is this isthmus's API?") {
		return fmt.Errorf("%w; the isthmus there has no store: set engine in [routes]", err)
	}
	if client.Status(err) == http.StatusServiceUnavailable {
		return fmt.Errorf("%w; `isthmus status` on a hypervisor says why", err)
	}
	return err
}

func (f *apiFlags) json() bool { return f.output == outputJSON }

// collect reads a list to its end.
func collect[T any](list iter.Seq2[T, error]) ([]T, error) {
	all := []T{}
	for v, err := range list {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// table prints rows below a head.
func table(out io.Writer, head string, rows func(row func(cells ...any))) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(head, "|", "\t"))
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			if s, ok := c.(string); ok && s == "" {
				c = "-"
			}
			fmt.Fprint(w, c)
		}
		fmt.Fprintln(w)
	})
	return w.Flush()
}

// day is a time as lists show it.
func day(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// ownProject is the project that a token is good for, or "" for operators.
func ownProject(ctx context.Context, c *client.Client) (string, error) {
	me, err := c.Me(ctx)
	if err != nil || me.Token == nil {
		return "", err
	}
	return me.Token.Project, nil
}

// projectOf finds out which project a host name is in: the one given, that of the
// token, or the one that has the name.
func projectOf(ctx context.Context, c *client.Client, given, host string) (string, error) {
	if given != "" {
		return given, nil
	}
	if own, err := ownProject(ctx, c); err != nil || own != "" {
		return own, err
	}
	for p, err := range c.Projects(ctx) {
		if err != nil {
			return "", err
		}
		_, _, err := c.Proxy(ctx, p.Name, host)
		switch {
		case err == nil:
			return p.Name, nil
		case client.Status(err) != http.StatusNotFound:
			return "", err
		}
	}
	return "", fmt.Errorf("no project has %s; `isthmus routes list` shows what there is", host)
}

// namesOf lists names, for completions; none if anything goes wrong.
func namesOf[T any](list iter.Seq2[T, error], name func(T) string) []string {
	var names []string
	for v, err := range list {
		if err != nil {
			break
		}
		names = append(names, name(v))
	}
	return names
}

// completeProjects offers the names of projects.
func (f *apiFlags) completeProjects(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	api, err := f.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return namesOf(api.Projects(c.Context()), func(p wire.Project) string { return p.Name }), cobra.ShellCompDirectiveNoFileComp
}
