package main

import (
	"github.com/spf13/cobra"
	"path/filepath"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/translate/router/dynamic"
	"aarch64.com/isthmus/xsk"
)

// addConfigFlag adds -c FILE.
func addConfigFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "config", "c", "", "configuration file (TOML); without it the built-in defaults hold")
	_ = c.MarkFlagFilename("config", "toml")
}

// addPersistentConfigFlag adds -c FILE for a command and those below it.
func addPersistentConfigFlag(c *cobra.Command, file *string) {
	c.PersistentFlags().StringVarP(file, "config", "c", "", "configuration file (TOML); without it the built-in defaults hold")
	_ = c.MarkPersistentFlagFilename("config", "toml")
}

// loadConfig reads the file, or gives what holds where there is none.
func loadConfig(file string) (*config.Config, error) {
	if file == "" {
		return config.OutOfTheBox(), nil
	}
	return config.Load(file)
}

var (
	zeroCopy = map[string]xsk.ZeroCopy{
		config.ZeroCopyAuto:    xsk.ZeroCopyAuto,
		config.ZeroCopyRequire: xsk.ZeroCopyRequire,
		config.ZeroCopyOff:     xsk.ZeroCopyOff,
	}
	attach = map[string]xsk.Attach{
		config.AttachAuto:    xsk.AttachAuto,
		config.AttachDriver:  xsk.AttachDriver,
		config.AttachGeneric: xsk.AttachGeneric,
	}
)

// routerConfig is what the configuration says about the data plane.
func routerConfig(c *config.Config) router.Config {
	out := router.Config{
		Translate: c.Translate(),
		Kernel:    router.KernelConfig{Interface: c.Router.Kernel.Interface, SetForwarding: c.Router.Kernel.Forwarding == config.ForwardingSet},
		Dynamic: dynamic.Config{
			Pool4: c.Router.Dynamic.Pool4, Idle: c.Router.Dynamic.Idle, MaxPer64: c.Router.Dynamic.MaxPer64,
		},
		AutoVMs: c.Router.AutoVMs,
	}
	out.FastPath = c.Router.Kernel.FastPath == config.FastPathAuto
	out.FastPathInterfaces = c.Router.Kernel.FastPathInterfaces
	s := c.Router.Share
	out.Share = router.ShareConfig{
		Auto: s.Auto, Addresses: s.Addresses, Keep: s.Keep, PortsPerVM: s.PortsPerVM,
		MaxConnections: noBound(s.MaxConnections), NewPerSecond: noBound(s.NewPerSecond),
	}
	out.ErrorRate, out.ErrorBurst = errorLimit(c.Router.ICMPErrorRate)
	if dir := c.Router.StateDir; dir != "" {
		out.Dynamic.StateFile = filepath.Join(dir, "dynamic-map")
	}
	for _, p := range c.Router.Ports {
		out.Ports = append(out.Ports, router.PortConfig{
			Interface:         p.Interface,
			Queues:            p.Queues,
			ZeroCopy:          zeroCopy[p.ZeroCopy],
			Attach:            attach[p.Attach],
			CompleteChecksums: p.Checksum == config.ChecksumComplete,
			ChunkSize:         p.FrameSize,
		})
	}
	return out
}

// noBound turns the configuration's 0 into the router's negative.
func noBound(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// errorLimit is the router's limit of a number of ICMP errors per second. The
// router's 0 is its default, and less than that is none.
func errorLimit(perSecond int) (rate, burst int) {
	if perSecond == 0 {
		return -1, -1
	}
	return perSecond, max(1, perSecond/2)
}
