package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/xsk"
)

func newCheckCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "check [-c FILE]",
		Short: "Say what is wrong with a configuration, and what it would do",
		Long: `Reads a configuration file without changing anything. Errors go to standard error,
each with file, line, column and what to do, and make the exit status 1. What the
configuration would do on this host goes to standard output; warnings are part of
that and do not change the exit status.

Without -c it shows the built-in defaults.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := loadConfig(file)
			if err != nil {
				return err
			}
			return describe(c.OutOrStdout(), file, conf)
		},
	}
	addConfigFlag(c, &file)
	return c
}

// describe prints what a configuration does on this host.
func describe(out io.Writer, file string, c *config.Config) error {
	r := &c.Router
	warnings := append(c.Warnings(), router.KernelWarnings()...)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("configuration", "%s", source(file))
	if c.POP != "" || c.Domain != "" {
		row("point of presence", "%s", strings.Trim(c.POP+" in "+c.Domain, " "))
	}
	row("pool6", "%s", orNone(prefixStrings(r.Pool6)))
	row("mappings (eam)", "%d", len(r.EAM))
	row("hosts without a mapping", "%s", describePool(c))
	row("IPv6 sources", "%s", describeSources(c))
	row("denied IPv4", "%s", orNone(append([]string{"the built-in ranges"}, prefixStrings(r.Deny4)...)))
	row("ICMP error sources", "%s", orHost(append(prefixStrings(r.ICMPSource4), prefixStrings(r.ICMPSource6)...)))
	row("hairpinning", "%s", r.Hairpin)
	for _, p := range r.Ports {
		what, warning := describePort(p)
		row("port "+p.Interface, "%s", what)
		if warning != "" {
			warnings = append(warnings, warning)
		}
	}
	if len(r.Ports) == 0 {
		row("ports", "none: the kernel path only")
	}
	what, missing := describeKernel(&r.Kernel)
	row("kernel path", "%s", what)
	warnings = append(warnings, missing...)
	if c.Proxy.Listens() {
		row("web proxy", "%s", describeProxy(c))
		if n, err := checkRoutes(c); err != nil {
			warnings = append(warnings, strings.Split(err.Error(), "\n")...)
			warnings = append(warnings, "the web proxy would not start here")
		} else if c.Proxy.RoutesFile != "" {
			row("routes", "%d in %s", n, c.Proxy.RoutesFile)
		}
	}
	if c.Routes.On() {
		row("store of routes", "%s", describeStore(c))
		row("API", "%s", describeAPI(c))
		warnings = append(warnings, checkStore(c)...)
	}
	if len(c.Jump.Listen) > 0 {
		row("jump server", "%s", describeJump(c))
		if err := checkJumpFiles(c); err != nil {
			warnings = append(warnings, err.Error()+"; the jump server would not start here")
		}
	}
	if w := takeoverWarning(); w != "" && len(listensTCP(c, kindNames())) > 0 {
		warnings = append(warnings, w)
	}
	row("metrics", "%s", metricsURL(c.Metrics.Listen))
	row("control", "%s", orNone(nonEmpty(c.Control.Socket)))
	for _, s := range warnings {
		row("warning", "%s", s)
	}
	return w.Flush()
}

// describeJump says what the jump server does.
func describeJump(c *config.Config) string {
	j := &c.Jump
	who := "anyone"
	if j.Access == config.AccessListed {
		who = "who is listed in " + strings.Join(slices.DeleteFunc([]string{j.AuthorizedKeys, j.Tokens}, func(s string) bool { return s == "" }), " and ")
	}
	return fmt.Sprintf("on %s, lets %s to port 22 of %s", strings.Join(j.Listen, ", "), who, strings.Join(prefixStrings(j.VMPrefixes), ", "))
}

// checkJumpFiles reads the files that [jump] names, without making any.
func checkJumpFiles(c *config.Config) error {
	if _, err := loadHostKeys(c, false); err != nil && !(len(c.Jump.HostKeys) == 0 && errors.Is(err, os.ErrNotExist)) {
		return err
	}
	_, err := loadAccess(c)
	return err
}

// describePool says what becomes of hosts that have no mapping.
func describePool(c *config.Config) string {
	r := &c.Router
	if !r.Dynamic.Pool4.IsValid() {
		return "are refused"
	}
	out := fmt.Sprintf("get an address of %v", r.Dynamic.Pool4)
	switch {
	case r.Share.Auto:
		out += ", and share this host's own address"
	case len(r.Share.Addresses) > 0:
		out += fmt.Sprintf(", and share %v", r.Share.Addresses)
	}
	return out
}

// describeSources says who may send.
func describeSources(c *config.Config) string {
	switch r := &c.Router; {
	case r.AutoVMs:
		return "those that this host's routes lead to, but by the way to the Internet"
	case len(r.VMPrefixes) > 0:
		return strings.Join(prefixStrings(r.VMPrefixes), ", ")
	}
	return "all"
}

// describeKernel looks for the interfaces of the fast path on this host.
func describeKernel(k *config.Kernel) (what string, warnings []string) {
	what = fmt.Sprintf("TUN device %s, fast path %s", k.Interface, k.FastPath)
	if k.FastPath == config.FastPathOff || len(k.FastPathInterfaces) == 0 {
		return what, nil
	}
	for _, name := range k.FastPathInterfaces {
		if _, err := net.InterfaceByName(name); err != nil {
			warnings = append(warnings, fmt.Sprintf("fast path interface %s: this host has no such interface now; isthmus would wait for it", name))
		}
	}
	return what + ", also at the ingress of " + strings.Join(k.FastPathInterfaces, ", ") + ", past nftables", warnings
}

// describePort looks the interface up on this host.
func describePort(p config.Port) (what, warning string) {
	queues := "all queues"
	if p.Queues != nil {
		queues = "queues " + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(p.Queues)), ", "), "[]")
	}
	what = fmt.Sprintf("%s, zero_copy %s, attach %s, checksum %s", queues, p.ZeroCopy, p.Attach, p.Checksum)
	i, err := net.InterfaceByName(p.Interface)
	if err != nil {
		return what, fmt.Sprintf("port %s: this host has no such interface, and isthmus would not start here (see `ip link`)", p.Interface)
	}
	have, err := xsk.QueueCount(i.Index)
	if err != nil {
		return what, fmt.Sprintf("port %s: %v", p.Interface, err)
	}
	for _, q := range p.Queues {
		if q >= have {
			return what, fmt.Sprintf("port %s: queue %d is configured, but the interface has queues 0 to %d, and isthmus would not start here (see `ethtool -l %s`)", p.Interface, q, have-1, p.Interface)
		}
	}
	what += fmt.Sprintf("; the interface has %d queues and MTU %d", have, i.MTU)
	if i.Flags&net.FlagUp == 0 {
		warning = fmt.Sprintf("port %s is down; bring it up with `ip link set %s up`", p.Interface, p.Interface)
	}
	return what, warning
}

func metricsURL(listen string) string {
	if listen == "" {
		return "no endpoint"
	}
	return "http://" + listen + "/metrics"
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func orHost(list []string) string {
	if len(list) == 0 {
		return "an address of this host"
	}
	return strings.Join(list, ", ")
}
