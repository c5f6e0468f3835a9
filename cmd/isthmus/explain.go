package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/explain"
	"aarch64.com/isthmus/cmd/internal/logging"
	"aarch64.com/isthmus/translate"
)

// explainFlags is the command line of explain.
type explainFlags struct {
	config, in, pcap, output      string
	frame, mtuIn, mtuOut, segment int
	partial                       bool
	own                           []string
}

const defaultMTU = 1500

func newExplainCommand() *cobra.Command {
	var f explainFlags
	c := &cobra.Command{
		Use:   "explain [-c FILE] [--in PORT] {PACKET | - | --pcap FILE --frame N}",
		Short: "Say what becomes of a packet, and why",
		Long: `Does with one packet what a running isthmus with this configuration would do, and
says step by step why, with the rules' sources, the counters that move, and the
packet before and after. It sends nothing, and needs neither root nor a running
isthmus. Routes are not looked at: say with --mtu-out what link it leaves by.

PACKET is hexadecimal, with its IP header first, or its Ethernet header: digits
with or without spaces, or what Wireshark, tcpdump -x, xxd and hexdump -C print,
offsets included. With -, it is read from standard input, where it may also be
written as text, one header to a line (see docs/explain.md).

The exit status is 0 whatever becomes of the packet.`,
		Example: `  isthmus explain -c isthmus.toml --pcap trace.pcapng --frame 7
  tcpdump -x -r trace.pcap -c 1 | isthmus explain -
  isthmus explain --mtu-out 1400 -o json 4500001c...`,
		Args: func(c *cobra.Command, args []string) error { return f.check(c, args) },
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args) },
	}
	addConfigFlag(c, &f.config)
	c.Flags().StringVar(&f.in, "in", "wire", "where it comes in: a port of the configuration, wire (any port), or kernel (the TUN device)")
	c.Flags().StringVar(&f.pcap, "pcap", "", "capture file, pcap or pcapng, with the packet")
	c.Flags().IntVar(&f.frame, "frame", 1, "which frame of the capture file; the first is 1")
	c.Flags().IntVar(&f.mtuIn, "mtu-in", defaultMTU, "MTU of the link that it comes by; 0: not known, as from the kernel")
	c.Flags().IntVar(&f.mtuOut, "mtu-out", defaultMTU, "MTU of the link that it leaves by; 0: not known")
	c.Flags().BoolVar(&f.partial, "partial-checksum", false, "its transport checksum is left for hardware to complete (virtio-net)")
	c.Flags().IntVar(&f.segment, "segment-size", 0, "it is a segmentation-offload packet with this many payload bytes to a segment")
	c.Flags().StringSliceVar(&f.own, "own", nil, "addresses of the translating host itself, which a running isthmus knows")
	c.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	_ = c.MarkFlagFilename("pcap", "pcap", "pcapng", "cap")
	words(c, "output", "text", "json")
	_ = c.RegisterFlagCompletionFunc("in", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		list := []string{"wire", "kernel"}
		if conf, err := loadConfig(f.config); err == nil {
			for _, p := range conf.Router.Ports {
				list = append(list, p.Interface)
			}
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// check finds what is wrong with the command line itself.
func (f *explainFlags) check(c *cobra.Command, args []string) error {
	frame := c.Flags().Changed("frame")
	switch {
	case f.pcap == "" && frame:
		return errors.New("--frame is about a capture file; give one with --pcap")
	case f.pcap == "" && len(args) == 0:
		return errors.New("which packet? Give it in hexadecimal, - for standard input, or --pcap FILE --frame N")
	case f.pcap != "" && len(args) > 0:
		return errors.New("a packet and --pcap are two packets; give one of them")
	case len(args) > 1 && (args[0] == "-" || strings.HasPrefix(args[1], "-")):
		return fmt.Errorf("%q is one packet too many; give - alone", args[1])
	case f.frame < 1:
		return fmt.Errorf("--frame %d: frames are counted from 1, as Wireshark does", f.frame)
	case f.mtuIn < 0 || f.mtuIn > 1<<17:
		return fmt.Errorf("--mtu-in %d: write bytes of IP packet, 0 to %d", f.mtuIn, 1<<17)
	case f.mtuOut < 0 || f.mtuOut > 1<<17:
		return fmt.Errorf("--mtu-out %d: write bytes of IP packet, 0 to %d", f.mtuOut, 1<<17)
	case f.segment < 0 || f.segment > 65535:
		return fmt.Errorf("--segment-size %d: write bytes of payload, 1 to 65535, or 0 for none", f.segment)
	case f.output != "text" && f.output != "json":
		return fmt.Errorf("--output %q: write text or json", f.output)
	}
	for _, a := range f.own {
		if _, err := netip.ParseAddr(a); err != nil {
			return fmt.Errorf("--own %q is no IP address", a)
		}
	}
	return nil
}

func (f *explainFlags) run(c *cobra.Command, args []string) error {
	conf, err := loadConfig(f.config)
	if err != nil {
		return err
	}
	o := explain.Options{
		Config: conf.Translate(), ConfigName: source(f.config),
		Meta:  translate.Meta{PartialChecksum: f.partial, SegmentSize: uint16(f.segment)},
		MTUIn: f.mtuIn, MTUOut: f.mtuOut, Dynamic: conf.Router.Dynamic.Pool4.IsValid(), AutoVMs: conf.Router.AutoVMs,
	}
	for _, a := range f.own {
		o.Own = append(o.Own, netip.MustParseAddr(a).Unmap().WithZone(""))
	}
	if err := f.port(c, conf, &o); err != nil {
		return usageError{err}
	}
	in, err := f.packet(c.InOrStdin(), args)
	if err != nil {
		return err
	}
	r, err := explain.Explain(in, o)
	if err != nil {
		return err
	}
	if f.output == "json" {
		return printJSON(c.OutOrStdout(), r)
	}
	out, isFile := c.OutOrStdout().(*os.File)
	return r.Print(c.OutOrStdout(), isFile && logging.Colors(out))
}

// port takes from the configuration what matters about where the packet comes in.
func (f *explainFlags) port(c *cobra.Command, conf *config.Config, o *explain.Options) error {
	if f.in == "kernel" || f.in == conf.Router.Kernel.Interface {
		o.FromKernel, o.Port = true, fmt.Sprintf("the TUN device %s", conf.Router.Kernel.Interface)
		if !c.Flags().Changed("mtu-in") {
			o.MTUIn = 0 // a worker does not know it there
		}
		return nil
	}
	if o.Meta != (translate.Meta{}) && c.Flags().Changed("in") {
		return fmt.Errorf("--in %s: only packets by the TUN device say that a checksum is partial or where to segment; use --in kernel", f.in)
	}
	if f.in == "wire" {
		return nil
	}
	names := []string{"wire", "kernel"}
	for _, p := range conf.Router.Ports {
		if p.Interface == f.in {
			o.Port, o.Complete = "port "+p.Interface, p.Checksum == config.ChecksumComplete
			return nil
		}
		names = append(names, p.Interface)
	}
	return fmt.Errorf("--in %s: the configuration has no such port; there is %s", f.in, strings.Join(names, ", "))
}

// packet reads the packet from wherever it is.
func (f *explainFlags) packet(stdin io.Reader, args []string) (explain.Input, error) {
	if f.pcap != "" {
		return explain.CaptureFile(f.pcap, f.frame)
	}
	if args[0] != "-" {
		// A dump on the command line may come as several words.
		return explain.TextInput(strings.Join(args, " "), "the command line")
	}
	text, err := io.ReadAll(io.LimitReader(stdin, 2<<20))
	if err != nil {
		return explain.Input{}, fmt.Errorf("read standard input: %w", err)
	}
	return explain.TextInput(string(text), "standard input")
}
