package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/hosts"
	"aarch64.com/isthmus/translate"
)

// hostsFlags is the command line of hosts.
type hostsFlags struct {
	presets, logs, servers, interfaces  []string
	prefix, file, output                string
	port                                uint16
	noProbe, write, remove, force, list bool
	timeout                             time.Duration

	pref64 translate.Pref64
	names  []hosts.Name
}

func newHostsCommand() *cobra.Command {
	var f hostsFlags
	c := &cobra.Command{
		Use:   "hosts [--write] {NAME... | --preset PRESET | --from-log FILE | --remove}",
		Short: "Make NAT64 lines for /etc/hosts, for software that DNS64 does not help",
		Long: `Makes lines for /etc/hosts that lead IPv4-only names to their NAT64 addresses, for
software on an IPv6-only machine that insists on A records. It asks the name
servers of /etc/resolv.conf directly, finds the NAT64 prefix by router
advertisements (RFC 8781) or ipv4only.arpa (RFC 7050), and tries a TCP connection
to each address. What does not answer is left out, and so are names that have
IPv6 of their own.

The lines go to standard output, and what there is to say about them to standard
error. With --write they go into a marked block in /etc/hosts instead: exactly
those of this command line, so that running it again refreshes them, and names
that are not given any more go. All else in the file stays as it is.

Exit status: 0 the lines are right; 1 a name that was given does not exist or
answers nowhere, a lookup failed, no prefix was found, or the file could not be
written; 2 wrong command line. In case 1, all lines that could be made are
printed or written nevertheless.`,
		Example: `  isthmus hosts github.com ghcr.io
  isthmus hosts --preset github-runner --write
  isthmus hosts --from-log /opt/runner/_diag/Runner_20260101-000000-utc.log
  isthmus hosts --remove`,
		Args: func(_ *cobra.Command, args []string) error { return f.check(args) },
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	c.Flags().StringSliceVar(&f.presets, "preset", nil, "names that a kind of software needs; see --list-presets")
	c.Flags().BoolVar(&f.list, "list-presets", false, "list the presets and their names")
	c.Flags().StringArrayVar(&f.logs, "from-log", nil, "find the names in a log file; - is standard input")
	c.Flags().StringSliceVar(&f.servers, "server", nil, "name server to ask, ADDRESS or ADDRESS:PORT, instead of those of "+hosts.ResolvConf)
	c.Flags().StringVar(&f.prefix, "prefix", "", "NAT64 prefix, such as 64:ff9b::/96, instead of the one that is found")
	c.Flags().StringSliceVar(&f.interfaces, "interface", nil, "where to ask for router advertisements, instead of where IPv6 default routes lead")
	c.Flags().Uint16Var(&f.port, "port", 443, "TCP port that an address has to answer on")
	c.Flags().BoolVar(&f.noProbe, "no-probe", false, "take addresses whether or not they answer")
	c.Flags().DurationVar(&f.timeout, "timeout", 3*time.Second, "how long to wait for an answer of a name server, and for a connection")
	c.Flags().BoolVar(&f.write, "write", false, "write the lines into the file")
	c.Flags().BoolVar(&f.remove, "remove", false, "remove the block from the file")
	c.Flags().StringVar(&f.file, "file", hosts.HostsFile, "file to write to")
	c.Flags().BoolVar(&f.force, "force", false, "replace or remove the block even if it was edited by hand")
	c.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	_ = c.MarkFlagFilename("from-log")
	_ = c.MarkFlagFilename("file")
	words(c, "output", "text", "json")
	var presets []string
	for _, p := range hosts.Presets {
		presets = append(presets, p.Name)
	}
	words(c, "preset", presets...)
	return c
}

// check finds what is wrong with the command line itself.
func (f *hostsFlags) check(args []string) (err error) {
	named := len(args)+len(f.presets)+len(f.logs) > 0
	switch {
	case f.output != "text" && f.output != "json":
		return fmt.Errorf("--output %q: write text or json", f.output)
	case f.list:
		return nil
	case f.remove && (f.write || named):
		return errors.New("--remove takes the whole block away; give neither names nor --write with it")
	case !f.remove && !named:
		return errors.New("which names? Give them, --preset, or --from-log")
	case f.force && !f.write && !f.remove:
		return errors.New("--force is about the block in the file; give --write or --remove, too")
	case f.port == 0:
		return errors.New("--port 0: write 1 to 65535, or --no-probe")
	case f.timeout <= 0:
		return fmt.Errorf("--timeout %v: write a positive duration, such as 3s", f.timeout)
	}
	if f.prefix != "" {
		p, err := netip.ParsePrefix(f.prefix)
		if err != nil {
			return fmt.Errorf("--prefix %q is no prefix; write it as 64:ff9b::/96", f.prefix)
		}
		if f.pref64, err = translate.NewPref64(p); err != nil {
			return fmt.Errorf("--prefix: %w", err)
		}
	}
	for _, a := range args {
		name, err := hosts.ParseName(a)
		if err != nil {
			return err
		}
		f.names = hosts.AddNames(f.names, hosts.OfArgument, name)
	}
	for _, name := range f.presets {
		p, err := hosts.FindPreset(name)
		if err != nil {
			return fmt.Errorf("--preset: %w", err)
		}
		f.names = hosts.AddNames(f.names, hosts.OfPreset, p.Names...)
	}
	for _, s := range f.servers {
		if _, err := hosts.ParseServer(s); err != nil {
			return fmt.Errorf("--server: %w", err)
		}
	}
	return nil
}

func (f *hostsFlags) run(c *cobra.Command) error {
	switch {
	case f.list:
		return listPresets(c.OutOrStdout(), f.output == "json")
	case f.remove:
		r := &hosts.Report{Lines: []string{}}
		return f.say(c, r, f.update(r))
	}
	for _, path := range f.logs {
		if err := f.readLog(c, path); err != nil {
			return err
		}
	}
	if len(f.names) == 0 {
		return errors.New("no host name was found in the log; give names as arguments")
	}
	r, err := f.find(c.Context())
	if err != nil {
		return err
	}
	var failed error
	if names := r.Failed(); len(names) > 0 {
		failed = fmt.Errorf("not all names have their lines: %s", strings.Join(names, ", "))
	}
	switch {
	case r.Unreachable():
		failed = fmt.Errorf("none of the addresses answers on TCP port %d; is there a NAT64 behind %v? --no-probe takes them unprobed", f.port, r.Prefix)
		if f.write {
			failed = fmt.Errorf("%w; %s stays as it is", failed, f.file)
		}
	case f.write:
		if err := f.update(r); err != nil {
			failed = err
		}
	}
	return f.say(c, r, failed)
}

// readLog adds the names in a log.
func (f *hostsFlags) readLog(c *cobra.Command, path string) error {
	in, from := c.InOrStdin(), "standard input"
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
		defer file.Close()
		in, from = file, path
	}
	failed, others, err := hosts.ScanLog(in)
	if err != nil {
		return fmt.Errorf("log %s: %w", from, err)
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s: %d names of failed connections, %d others\n", from, len(failed), len(others))
	f.names = hosts.AddNames(f.names, hosts.OfLog, append(failed, others...)...)
	return nil
}

// find looks everything up.
func (f *hostsFlags) find(ctx context.Context) (*hosts.Report, error) {
	resolver := &hosts.Resolver{Timeout: f.timeout}
	for _, s := range f.servers {
		at, err := hosts.ParseServer(s)
		if err != nil {
			return nil, err
		}
		resolver.Servers = append(resolver.Servers, at)
	}
	var err error
	if len(f.servers) == 0 {
		if resolver.Servers, err = hosts.SystemServers(hosts.ResolvConf); err != nil {
			return nil, err
		}
	}
	discovery, err := hosts.Discover(ctx, f.pref64, resolver, hosts.Routers{Interfaces: f.interfaces})
	if err != nil {
		return nil, err
	}
	// A file that cannot be read has no lines to keep; writing says why.
	file, _ := os.ReadFile(f.file)
	entries := hosts.Entries(file)
	finder := &hosts.Finder{Resolver: resolver, Discovery: discovery, Port: f.port, Timeout: f.timeout, Known: func(name string) (list []netip.Addr) {
		for _, e := range entries {
			if e.Ours && slices.Contains(e.Names, name) {
				list = append(list, e.Addr)
			}
		}
		return list
	}}
	if f.noProbe {
		finder.Port = 0
	}
	r := hosts.NewReport(discovery, finder.Find(ctx, f.names), entries)
	without, err := hosts.DockerWithout()
	if err != nil {
		return nil, err
	}
	if len(without) > 0 {
		r.Hints = append(r.Hints, hosts.DockerHint(without))
	}
	return r, nil
}

// update brings the report's lines into the file.
func (f *hostsFlags) update(r *hosts.Report) error {
	changed, err := hosts.Update(f.file, func(old []byte) ([]byte, error) { return hosts.Edit(old, r.Lines, f.force) })
	switch {
	case errors.Is(err, hosts.ErrEdited):
		return fmt.Errorf("%s: %w; move your lines out of it, or give --force to lose them", f.file, err)
	case err != nil:
		return err
	}
	r.File, r.Changed = f.file, changed
	return nil
}

// say prints the outcome, and gives the error that the command ends with. Lines
// that are not in the file go to standard output, also when they should be.
func (f *hostsFlags) say(c *cobra.Command, r *hosts.Report, failed error) error {
	if f.output == "json" {
		if failed != nil {
			r.Error = failed.Error()
		}
		return errors.Join(printJSON(c.OutOrStdout(), r), failed)
	}
	if !f.remove {
		r.Explain(c.ErrOrStderr())
	}
	switch {
	case r.File == "":
		for _, l := range r.Lines {
			fmt.Fprintln(c.OutOrStdout(), l)
		}
	case !r.Changed:
		fmt.Fprintf(c.ErrOrStderr(), "%s is right already\n", f.file)
	case len(r.Lines) == 0:
		fmt.Fprintf(c.ErrOrStderr(), "%s: the block is gone\n", f.file)
	default:
		fmt.Fprintf(c.ErrOrStderr(), "%s: %d lines written\n", f.file, len(r.Lines))
	}
	return failed
}

func listPresets(out io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(out, hosts.Presets)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, p := range hosts.Presets {
		fmt.Fprintf(w, "%s\t%s\n", p.Name, p.About)
		for _, n := range p.Names {
			fmt.Fprintf(w, "\t%s\n", n)
		}
	}
	return w.Flush()
}
