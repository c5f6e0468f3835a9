package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/control"
	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/translate/router/dynamic"
)

// mapPath is where the control socket answers about the dynamic map.
const mapPath = "/v1/map"

// mapChange is a mapping to make, or an address of either family to forget.
type mapChange struct {
	IPv6 netip.Addr `json:"ipv6,omitzero"`
	IPv4 netip.Addr `json:"ipv4,omitzero"`
}

// ownerPath is where it answers whose a port of a shared address is.
const ownerPath = "/v1/map/owner"

// owner is a question: whose is the port of the shared address; and its answer.
type owner struct {
	Shared netip.AddrPort `json:"shared"`
	IPv4   netip.Addr     `json:"ipv4,omitzero"`
	IPv6   netip.Addr     `json:"ipv6,omitzero"`
}

// handleMap is the daemon's side of `isthmus map`.
func handleMap(c *control.Server, r *router.Router) {
	c.Handle(mapPath, func() any {
		if list := r.Mappings(); list != nil {
			return list
		}
		return []dynamic.Entry{}
	})
	control.Answer(c, http.MethodPut, mapPath, func(m mapChange) (mapChange, error) {
		return m, r.AddMapping(m.IPv6, m.IPv4)
	})
	control.Answer(c, http.MethodDelete, mapPath, func(m mapChange) (mapChange, error) {
		if m.IPv6.IsValid() {
			return m, r.RemoveMapping(m.IPv6)
		}
		return m, r.RemoveMapping(m.IPv4)
	})
	control.Answer(c, http.MethodPost, ownerPath, func(o owner) (owner, error) {
		var ok bool
		if o.IPv4, o.IPv6, ok = r.Owner(o.Shared.Addr(), o.Shared.Port()); !ok {
			return o, fmt.Errorf("%v is nobody's: the address is not shared, or the port is the host's own", o.Shared)
		}
		return o, nil
	})
}

func newMapCommand() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "map",
		Short: "Show and change which host has which address of the dynamic pool",
		Long: `Shows and changes which IPv6 host has which IPv4 address of the pool
([router.dynamic] pool4), on the running isthmus. Mappings of the configuration
file ([router] eam) are not listed here.`,
		Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.PersistentFlags().StringVar(&socket, "socket", config.Default().Control.Socket, "control socket of the running isthmus")

	var asJSON bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List the mappings in order of their IPv4 addresses",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var entries []dynamic.Entry
			if err := control.Get(c.Context(), socket, mapPath, &entries); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), entries)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "IPv4\tIPv6\tsince\tlast used\tby hand")
			for _, e := range entries {
				byHand := ""
				if e.Pinned {
					byHand = "yes"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.IPv4, e.IPv6, ago(e.Created), ago(e.Used), byHand)
			}
			return w.Flush()
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	add := &cobra.Command{
		Use:     "add IPV6 IPV4",
		Short:   "Give a host an address of the pool for good",
		Example: "  isthmus map add 2001:db8:64::2 100.64.0.2",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var m mapChange
			var err error
			if m.IPv6, err = netip.ParseAddr(args[0]); err != nil || !m.IPv6.Is6() || m.IPv6.Is4In6() {
				return usageError{fmt.Errorf("%s is no IPv6 address", args[0])}
			}
			if m.IPv4, err = netip.ParseAddr(args[1]); err != nil || !m.IPv4.Is4() {
				return usageError{fmt.Errorf("%s is no IPv4 address", args[1])}
			}
			return control.Ask(c.Context(), socket, http.MethodPut, mapPath, m, &m)
		},
	}
	remove := &cobra.Command{
		Use:   "remove ADDRESS",
		Short: "Forget the mapping of an IPv6 or IPv4 address",
		Long: `Forgets the mapping of an IPv6 or IPv4 address. A host that goes on sending
gets another address with its next packet.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := netip.ParseAddr(args[0])
			if err != nil {
				return usageError{fmt.Errorf("%s is no IP address", args[0])}
			}
			m := mapChange{IPv4: a}
			if a.Is6() {
				m = mapChange{IPv6: a}
			}
			return control.Ask(c.Context(), socket, http.MethodDelete, mapPath, m, &m)
		},
	}
	whose := &cobra.Command{
		Use:   "owner ADDRESS PORT",
		Short: "Tell whose a port of a shared address is",
		Long: `Tells which host a port of a shared address belongs to ([router.share]): ports are
given to hosts in ranges, so no log of connections is needed. It is the host that
has the range now; one that lost its address to idleness before is not known.`,
		Example: "  isthmus map owner 203.0.113.7 1281",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var o owner
			var err error
			if o.Shared, err = netip.ParseAddrPort(args[0] + ":" + args[1]); err != nil || !o.Shared.Addr().Is4() {
				return usageError{fmt.Errorf("%s %s is no IPv4 address and port", args[0], args[1])}
			}
			if err := control.Ask(c.Context(), socket, http.MethodPost, ownerPath, o, &o); err != nil {
				return err
			}
			if !o.IPv6.IsValid() {
				return fmt.Errorf("the port is of %v, which no host has at the moment", o.IPv4)
			}
			fmt.Fprintf(c.OutOrStdout(), "%v (%v)\n", o.IPv6, o.IPv4)
			return nil
		},
	}
	c.AddCommand(list, add, remove, whose)
	return c
}

func ago(t time.Time) string { return time.Since(t).Round(time.Second).String() + " ago" }
