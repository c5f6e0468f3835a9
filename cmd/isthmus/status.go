package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/control"
	"aarch64.com/isthmus/cmd/internal/version"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// statusPath is where the control socket answers with a status.
const statusPath = "/v1/status"

// status is what a running isthmus says about itself.
type status struct {
	Version  string    `json:"version"`
	PID      int       `json:"pid"`
	Config   string    `json:"config"`
	Started  time.Time `json:"started"`
	Services []string  `json:"services"`
	// The web proxy, the store of its routes with the API, and the jump server; all
	// else is the router.
	Proxy    *proxyStatus `json:"proxy,omitempty"`
	Store    *storeStatus `json:"store,omitempty"` // of routes
	API      *apiStatus   `json:"api,omitempty"`
	Jump     *jumpStatus  `json:"jump,omitempty"`
	Pool6    []string     `json:"pool6"`
	Mappings int          `json:"mappings"`
	Workers  int          `json:"workers"`
	Ports    []portStatus `json:"ports"`
	FastPath fastStatus   `json:"fast_path"`
	// Packets by verdict, and what else happened by reason; without zeros.
	Verdicts map[string]uint64 `json:"verdicts"`
	Reasons  map[string]uint64 `json:"reasons"`
	// What the hosts that share an address have been refused in the last hour.
	Limited map[string]uint64 `json:"limited,omitempty"`
}

type portStatus struct {
	Interface string `json:"interface"`
	Mode      string `json:"mode"` // driver, generic, tun or absent
	RxPackets uint64 `json:"rx_packets"`
	TxPackets uint64 `json:"tx_packets"`
}

// newStatus is the status of a process, without those of its services.
func newStatus(file string, started time.Time, services []string) status {
	return status{
		Version: version.Get().Version, PID: os.Getpid(), Config: source(file), Started: started, Services: services,
		Verdicts: map[string]uint64{}, Reasons: map[string]uint64{},
	}
}

// addRouter adds up the counters of all workers.
func (out *status) addRouter(c *config.Config, s router.Stats) {
	out.Pool6, out.Mappings, out.Workers = prefixStrings(c.Router.Pool6), len(c.Router.EAM), len(s.Workers)
	for _, p := range s.Ports {
		mode := "absent"
		if p.Attached {
			mode = p.Mode.String()
		}
		out.Ports = append(out.Ports, portStatus{Interface: p.Interface, Mode: mode})
	}
	fast := s.FastPath.Traffic(fastpath.AtDevice)
	kernel := portStatus{Interface: c.Router.Kernel.Interface, Mode: "tun", RxPackets: fast.RxPackets, TxPackets: fast.TxPackets}
	out.FastPath = makeFastStatus(&s.FastPath)
	for _, list := range s.Verdicts() {
		for v, n := range list {
			if n > 0 {
				out.Verdicts[translate.Verdict(v).String()] += n
			}
		}
	}
	for i := range s.Workers {
		w := &s.Workers[i]
		kernel.RxPackets += w.Kernel.RxPackets
		kernel.TxPackets += w.Kernel.TxPackets
		for _, wire := range w.Wire {
			for j := range out.Ports {
				if p := &out.Ports[j]; p.Interface == wire.Port {
					p.RxPackets += wire.RxPackets
					p.TxPackets += wire.TxPackets
				}
			}
		}
		for r, n := range w.Reasons {
			if n > 0 {
				out.Reasons[router.Reason(r).String()] += n
			}
		}
	}
	out.Ports = append(out.Ports, kernel)
}

func newStatusCommand() *cobra.Command {
	var socket string
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Ask the running isthmus how it is doing",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var s status
			if err := control.Get(c.Context(), socket, statusPath, &s); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), s)
			}
			return s.print(c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&socket, "socket", config.Default().Control.Socket, "control socket of the running isthmus")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (s *status) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "isthmus\t%s, process %d, up %s\n", s.Version, s.PID, time.Since(s.Started).Round(time.Second))
	fmt.Fprintf(w, "configuration\t%s\n", s.Config)
	if s.Proxy != nil {
		s.Proxy.print(w)
	}
	if s.Store != nil {
		s.Store.print(w)
	}
	if s.API != nil {
		s.API.print(w)
	}
	if s.Jump != nil {
		s.Jump.print(w)
	}
	if slices.Contains(s.Services, "router") {
		s.printRouter(w)
	}
	return w.Flush()
}

func (s *status) printRouter(w io.Writer) {
	fmt.Fprintf(w, "pool6\t%s\n", orNone(s.Pool6))
	fmt.Fprintf(w, "mappings (eam)\t%d\n", s.Mappings)
	fmt.Fprintf(w, "workers\t%d\n", s.Workers)
	for _, p := range s.Ports {
		fmt.Fprintf(w, "%s\t%s, %d packets in, %d out\n", p.Interface, p.Mode, p.RxPackets, p.TxPackets)
	}
	fmt.Fprintf(w, "fast path\t%s\n", &s.FastPath)
	for _, list := range []struct {
		name   string
		counts map[string]uint64
	}{{"packets", s.Verdicts}, {"besides", s.Reasons}, {"over limits", s.Limited}} {
		if list.counts != nil {
			fmt.Fprintf(w, "%s\t%s\n", list.name, orNone(counted(list.counts)))
		}
	}
}

// counted lists numbers behind their names.
func counted(counts map[string]uint64) []string {
	var parts []string
	for _, label := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", label, counts[label]))
	}
	return parts
}
