package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

var formats = []string{string(catalog.TOML), string(catalog.JSON), string(catalog.Routes)}

// fileFormat is the format that is given, or that goes with a file's name.
func fileFormat(given, name string) (string, error) {
	switch {
	case slices.Contains(formats, given):
		return given, nil
	case given != "":
		return "", usageError{fmt.Errorf("--format %s: there are %s", given, strings.Join(formats, ", "))}
	case filepath.Ext(name) == ".json":
		return string(catalog.JSON), nil
	}
	return string(catalog.TOML), nil
}

func addFormatFlag(c *cobra.Command, format *string, doc string) {
	c.Flags().StringVar(format, "format", "", doc)
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

func newRoutesExportCommand(f *apiFlags) *cobra.Command {
	var format string
	var tokens bool
	c := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write all projects, proxies and trusted domains to a file",
		Long: `Writes everything in the store to standard output, or to a new file that only its
owner may read: projects, proxies with their proofs, domains that operators vouch
for. isthmus routes import brings it back. The format routes is a routes_file of
what is served, and no more.`,
		Example: "  isthmus routes export backup.json --tokens\n  isthmus routes export --format routes",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name := strings.Join(args, "")
			format, err := fileFormat(format, name)
			if err != nil {
				return err
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			if name == "" || name == "-" {
				return asked(api.Export(c.Context(), c.OutOrStdout(), format, tokens))
			}
			return exportTo(c.Context(), api, name, format, tokens)
		},
	}
	addFormatFlag(c, &format, "toml, json or routes (default: by the file's name, or toml)")
	c.Flags().BoolVar(&tokens, "tokens", false, "tokens, too: what their secrets hash to")
	return c
}

// exportTo writes to a file that is there when it is whole.
func exportTo(ctx context.Context, api *client.Client, name, format string, tokens bool) (err error) {
	out, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(out.Name())
		}
	}()
	err = asked(api.Export(ctx, out, format, tokens))
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := os.Link(out.Name(), name); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s is there already; name a new file", name)
		}
		return fmt.Errorf("export: %w", err)
	}
	return os.Remove(out.Name())
}

func newRoutesImportCommand(f *apiFlags) *cobra.Command {
	var format string
	var o client.ImportOptions
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Bring a file of projects and proxies in",
		Long: `Brings in what isthmus routes export has written, or a routes_file; - is standard
input. It is an operator's word: names go to whom the file says, whoever has them.
A file with a mistake changes nothing. What a file of routes does not prove is not
served before it is proven, or its domain is vouched for.`,
		Example: "  isthmus routes import /etc/isthmus/routes.toml --dry-run\n  isthmus routes import backup.json --replace",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if o.Format, err = fileFormat(format, args[0]); err != nil {
				return err
			}
			api, err := f.client()
			if err != nil {
				return err
			}
			in := c.InOrStdin()
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("import: %w", err)
				}
				defer file.Close()
				in = file
			}
			done, err := api.Import(c.Context(), in, o)
			if err != nil {
				return asked(err)
			}
			if f.json() {
				return printJSON(c.OutOrStdout(), done)
			}
			return printImported(c.OutOrStdout(), &done, o.DryRun)
		},
	}
	addFormatFlag(c, &format, "toml, json or routes (default: by the file's name, or toml)")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only tell what would change")
	c.Flags().BoolVar(&o.Replace, "replace", false, "remove what the file does not have")
	return c
}

// maxNamed is how many names of one kind an import lists.
const maxNamed = 20

func printImported(out io.Writer, r *wire.Imported, dry bool) error {
	head := "changed|what"
	if dry {
		head = "would change|what"
	}
	names := func(list []string) string {
		if len(list) > maxNamed {
			return strings.Join(list[:maxNamed], " ") + fmt.Sprintf(" and %d more", len(list)-maxNamed)
		}
		return strings.Join(list, " ")
	}
	return table(out, head, func(row func(...any)) {
		for _, kind := range []struct {
			name string
			d    *wire.Diff
		}{{"projects", &r.Projects}, {"proxies", &r.Proxies}, {"trusted domains", &r.Trusts}, {"tokens", &r.Tokens}} {
			row(kind.name, fmt.Sprintf("%d added, %d changed, %d removed, %d as before", len(kind.d.Added), len(kind.d.Changed), len(kind.d.Removed), kind.d.Same))
			for _, l := range []struct {
				what string
				list []string
			}{{"added", kind.d.Added}, {"changed", kind.d.Changed}, {"removed", kind.d.Removed}} {
				if len(l.list) > 0 {
					row("  "+l.what, names(l.list))
				}
			}
		}
		if len(r.Pending) > 0 {
			row("not served yet", fmt.Sprintf("%d, until they are proven: %s", len(r.Pending), names(r.Pending)))
		}
	})
}

// migrateFlags say where stores are.
type migrateFlags struct {
	from, to string
	force    bool
	etcd     config.Etcd
}

func newRoutesMigrateCommand() *cobra.Command {
	var o migrateFlags
	c := &cobra.Command{
		Use:   "migrate --from STORE --to STORE",
		Short: "Copy a store to another one, such as from bolt to etcd",
		Long: `Copies all records of a store to an empty one, with tokens and the audit log, and
compares them. Nobody shall change records meanwhile: stop isthmus if the store is
a file, else its API. Then set [routes] to the new store, and start.

A store is bolt:PATH, etcd:URL[,URL...] with the flags below, or config:FILE, what
a configuration file says.`,
		Example: `  isthmus routes migrate --from bolt:/var/lib/isthmus/routes.db --to etcd:https://etcd1.example:2379 --etcd-ca-file ca.pem
  isthmus routes migrate --from config:/etc/isthmus/isthmus.toml --to config:/etc/isthmus/next.toml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.from == "" || o.to == "":
				return usageError{errors.New("--from and --to are both needed, such as --from bolt:/var/lib/isthmus/routes.db --to etcd:https://etcd1.example:2379")}
			case o.from == o.to:
				return usageError{errors.New("--from and --to are the same store")}
			}
			n, err := o.migrate(c.Context())
			if err != nil {
				return err
			}
			removed := ""
			if n.Removed > 0 {
				removed = fmt.Sprintf(", and %d removed there", n.Removed)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d records are in %s now, the same as in %s%s\n", n.Records, o.to, o.from, removed)
			return err
		},
	}
	c.Flags().StringVar(&o.from, "from", "", "store to copy")
	c.Flags().StringVar(&o.to, "to", "", "store to copy to, an empty one")
	c.Flags().BoolVar(&o.force, "force", false, "remove what is in the other store")
	c.Flags().StringVar(&o.etcd.Prefix, "etcd-prefix", config.Default().Routes.Etcd.Prefix, "what keys of etcd begin with")
	c.Flags().StringVar(&o.etcd.CAFile, "etcd-ca-file", "", "PEM file of who signed the members' certificates")
	c.Flags().StringVar(&o.etcd.CertFile, "etcd-cert-file", "", "PEM file of a certificate for etcd")
	c.Flags().StringVar(&o.etcd.KeyFile, "etcd-key-file", "", "PEM file of its key")
	c.Flags().StringVar(&o.etcd.User, "etcd-user", "", "user of etcd")
	c.Flags().StringVar(&o.etcd.PasswordFile, "etcd-password-file", "", "file with that one's password")
	return c
}

func (o *migrateFlags) migrate(ctx context.Context) (n catalog.Migrated, err error) {
	from, err := o.open(ctx, "--from", o.from, true)
	if err != nil {
		return n, err
	}
	defer from.Close()
	to, err := o.open(ctx, "--to", o.to, false)
	if err != nil {
		return n, err
	}
	n, err = catalog.Migrate(ctx, from, to, o.force)
	if errors.Is(err, catalog.ErrNotEmpty) {
		err = fmt.Errorf("%w; name an empty one, or remove them with --force", err)
	}
	return n, errors.Join(err, to.Close())
}

// open opens a store that a flag names. One that is to be read has to be there.
func (o *migrateFlags) open(ctx context.Context, flag, name string, there bool) (store.Store, error) {
	kind, where, ok := strings.Cut(name, ":")
	if !ok || where == "" {
		kind = ""
	}
	c := &config.Config{}
	switch kind {
	case config.EngineBolt:
		c.Routes.Engine, c.Routes.File = config.EngineBolt, where
	case config.EngineEtcd:
		c.Routes.Engine, c.Routes.Etcd = config.EngineEtcd, o.etcd
		c.Routes.Etcd.Endpoints = strings.Split(where, ",")
	case "config":
		var err error
		if c, err = config.Load(where); err != nil {
			return nil, err
		}
		if !c.Routes.On() {
			return nil, fmt.Errorf("%s: engine in [routes] is %q, so it names no store", where, config.EngineOff)
		}
	default:
		return nil, usageError{fmt.Errorf("%s %s: write bolt:PATH, etcd:URL or config:FILE", flag, name)}
	}
	if c.Routes.Engine == config.EngineBolt && there {
		if _, err := os.Stat(c.RoutesFile()); err != nil {
			return nil, fmt.Errorf("store to copy: %w", err)
		}
	}
	s, err := openEngine(ctx, c)
	if errors.Is(err, bolt.ErrLocked) {
		return nil, fmt.Errorf("%s is in use; stop isthmus first", c.RoutesFile())
	}
	return s, err
}
