package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

func newTokenCommand() *cobra.Command {
	f := &apiFlags{}
	c := &cobra.Command{
		Use:   "token",
		Short: "Look after tokens: keys to the proxies tab and its API",
		Long: `Looks after tokens, with which customers and operators use the proxies tab, its
API, and isthmus routes from elsewhere. (Tokens of the jump server are another
thing: isthmus jump token.)`,
		Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	addAPIFlags(c, f)
	c.AddCommand(newTokenCreateCommand(f), newTokenListCommand(f), newTokenRevokeCommand(f))
	return c
}

func newTokenCreateCommand(f *apiFlags) *cobra.Command {
	var project, verb, expires, file string
	c := &cobra.Command{
		Use:   "create NAME --project PROJECT",
		Short: "Make a token",
		Long: `Makes a token and prints it, or puts it into a file that only its owner may read.
It is shown this once: the store has only what it hashes to.

read lets its bearer see a project's proxies, write change them; operator is for
all projects and everything else, and has no --project.`,
		Example: `  isthmus token create 'page of the shop' --project shop
  isthmus token create deploy --project shop --expires 30d --write-to /root/shop.token
  isthmus token create 'Anna, operator' --verb operator --expires 90d`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			end, err := parseExpiry(expires, time.Now())
			if err != nil {
				return usageError{err}
			}
			switch catalog.Verb(verb) {
			case catalog.Read, catalog.Write:
				if project == "" {
					return usageError{errors.New("--project is missing: a token that may read or write is for one project")}
				}
			case catalog.Operator:
				if project != "" {
					return usageError{errors.New("--verb operator is for all projects; leave --project out")}
				}
			default:
				return usageError{fmt.Errorf("--verb %s: there are read, write, operator", verb)}
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			var out *os.File
			if file != "" {
				// Before there is a token that nobody would ever see.
				if out, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
					return fmt.Errorf("file for the token: %w", err)
				}
			}
			made, err := api.CreateToken(c.Context(), wire.PostToken{Name: args[0], Project: project, Verb: verb, Expires: end})
			if err != nil {
				if out != nil {
					err = errors.Join(err, out.Close(), os.Remove(file))
				}
				return asked(err)
			}
			if out != nil {
				_, err := fmt.Fprintln(out, made.Secret)
				if err := errors.Join(err, out.Close()); err != nil {
					return fmt.Errorf("write the token: %w; revoke %s and make another one", err, made.ID)
				}
				made.Secret = ""
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), made)
			}
			if file != "" {
				_, err = fmt.Fprintf(c.OutOrStdout(), "id     %s\nfile   %s\nends   %s\n", made.ID, file, day(made.Expires))
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "token  %s\nid     %s\nends   %s\nIt is shown this once.\n", made.Secret, made.ID, day(made.Expires))
			return err
		},
	}
	c.Flags().StringVar(&project, "project", "", "the project that it is for")
	c.Flags().StringVar(&verb, "verb", string(catalog.Write), "what it may do: read, write, operator")
	c.Flags().StringVar(&expires, "expires", "365d", "when it ends: days or hours from now such as 90d or 8h, a date such as 2027-03-31, or never")
	c.Flags().StringVar(&file, "write-to", "", "new file to put the token into instead of printing it")
	_ = c.RegisterFlagCompletionFunc("project", f.completeProjects)
	_ = c.RegisterFlagCompletionFunc("verb", cobra.FixedCompletions([]string{string(catalog.Read), string(catalog.Write), string(catalog.Operator)}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// parseExpiry reads when a token ends; zero: never.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	if s == "never" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && 0 < n && n < 100_000 {
			return now.AddDate(0, 0, n).UTC(), nil
		}
	} else if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(d).UTC(), nil
	} else if at, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil && at.After(now) {
		return at.UTC(), nil
	}
	return time.Time{}, fmt.Errorf("--expires %s: write days or hours such as 90d or 8h, a date to come such as 2027-03-31, or never", s)
}

func newTokenListCommand(f *apiFlags) *cobra.Command {
	var project string
	c := &cobra.Command{
		Use:   "list",
		Short: "List tokens, and sessions of the page, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			if project == "" {
				if project, err = ownProject(c.Context(), api); err != nil {
					return asked(err)
				}
			}
			list, err := collect(api.Tokens(c.Context(), project))
			if err != nil {
				return asked(err)
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), list)
			}
			return table(c.OutOrStdout(), "ID|name|project|verb|made|by|ends|session of", func(row func(...any)) {
				for _, t := range list {
					row(t.ID, t.Name, t.Project, t.Verb, day(t.Created), t.CreatedBy, day(t.Expires), t.Parent)
				}
			})
		},
	}
	c.Flags().StringVar(&project, "project", "", "only those of a project")
	_ = c.RegisterFlagCompletionFunc("project", f.completeProjects)
	return c
}

func newTokenRevokeCommand(f *apiFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "End a token, and the sessions of the page that it signed in",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := f.client()
			if err != nil {
				return err
			}
			project, err := ownProject(c.Context(), api)
			if err != nil {
				return asked(err)
			}
			if err := api.RevokeToken(c.Context(), project, args[0]); err != nil {
				return asked(err)
			}
			return nil
		},
	}
}
