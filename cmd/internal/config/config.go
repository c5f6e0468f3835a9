package config

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"time"

	"aarch64.com/isthmus/translate"
)

// Config is the whole file with every default filled in.
type Config struct {
	POP     string // name of this point of presence, "" when not set
	Domain  string // DNS suffix of the names that users are shown, "" when not set
	Router  Router
	Proxy   Proxy
	Routes  Routes
	API     API
	Jump    Jump
	Metrics Metrics
	Control Control
}

// Router is the [router] section.
type Router struct {
	Pool6           []netip.Prefix
	EAM             []translate.EAM
	LowestIPv6MTU   int // bytes
	MSSClamp        translate.MSSClamp
	UDPZeroChecksum string
	TOS             translate.TOS
	ICMPSource4     []netip.Prefix
	ICMPSource6     []netip.Prefix
	Deny4           []netip.Prefix
	AllowPrivate4   bool
	Hairpin         string
	ICMPErrorRate   int            // per second and worker
	VMPrefixes      []netip.Prefix // none and not AutoVMs: all
	AutoVMs         bool           // by the host's routes
	StateDir        string         // absolute path, "" for none
	Dynamic         Dynamic
	Share           Share
	Ports           []Port
	Kernel          Kernel
}

// Dynamic is the [router.dynamic] section.
type Dynamic struct {
	Pool4    netip.Prefix // not valid: none
	Idle     time.Duration
	MaxPer64 int // 0: no bound
}

// Share is the [router.share] section.
type Share struct {
	Auto           bool
	Addresses      []netip.Addr // none and not Auto: nothing is shared
	PortsPerVM     int
	MaxConnections int // 0: no bound
	NewPerSecond   int // 0: no bound
	Keep           bool
}

// Port is one [[router.port]]: a network interface that AF_XDP sockets serve.
type Port struct {
	Interface string
	Queues    []int // nil: all
	ZeroCopy  string
	Attach    string
	Checksum  string
	FrameSize int // bytes; 0: by the MTU
}

// Kernel is the [router.kernel] section.
type Kernel struct {
	Interface string
	FastPath  string
	// FastPathInterfaces are where packets are translated right at the ingress.
	FastPathInterfaces []string
	Forwarding         string
}

// Metrics is the [metrics] section.
type Metrics struct {
	Listen string // host:port, "" for no endpoint
}

// Control is the [control] section.
type Control struct {
	Socket string // absolute path, "" for no socket
}

// The words that keys with a fixed choice take.
const (
	UDPZeroCompute = "compute"
	UDPZeroDrop    = "drop"

	HairpinIntrinsic = "intrinsic"
	HairpinSimple    = "simple"
	HairpinOff       = "off"

	ZeroCopyAuto    = "auto"
	ZeroCopyRequire = "require"
	ZeroCopyOff     = "off"

	AttachAuto    = "auto"
	AttachDriver  = "driver"
	AttachGeneric = "generic"

	FastPathAuto = "auto"
	FastPathOff  = "off"

	ForwardingCheck = "check"
	ForwardingSet   = "set"

	ChecksumTrust    = "trust"
	ChecksumComplete = "complete"
)

// maxFile bounds what Load reads: room for more than a million EAM entries,
// and an end to a path that is /dev/zero.
const maxFile = 256 << 20

// Default returns the configuration of an empty file.
func Default() *Config {
	c, err := Parse("built-in defaults", nil)
	if err != nil {
		// Only a wrong entry in keys.go gets here; TestDefaults reads them all.
		panic(err)
	}
	return c
}

// outOfTheBox is what holds without a file: the VMs of this host reach the IPv4
// Internet by the host's own address.
const outOfTheBox = `
[router]
vm_prefixes = "auto"
[router.dynamic]
pool4 = "100.64.0.0/16"   # RFC 6598
[router.share]
address = "auto"
[router.kernel]
forwarding = "set"
`

// OutOfTheBox returns the configuration that holds when there is no file: the
// defaults, and address sharing.
func OutOfTheBox() *Config {
	c, err := Parse("built-in defaults", []byte(outOfTheBox))
	if err != nil {
		panic(err) // TestOutOfTheBox reads it
	}
	return c
}

// Load reads and checks the file at path. The error is Errors when the file
// could be read but is not right.
func Load(path string) (*Config, error) { return load(path, maxFile) }

// load is Load with another bound than maxFile.
func load(path string, limit int64) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: no such file; give the right path with -c, or leave -c out to run on built-in defaults", path)
		}
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: larger than %d MiB, which is no configuration of isthmus; check the path given with -c", path, limit>>20)
	}
	return Parse(path, data)
}

// Parse checks data and returns what it configures. The name stands in front
// of every error. The error is Errors.
func Parse(name string, data []byte) (*Config, error) {
	rep := &report{file: name, doc: data}
	root := parseTree(rep, data)
	if root == nil {
		return nil, rep.err()
	}
	c := &Config{}
	d := &decoder{report: rep, config: c}
	d.document(root)
	check(d, root)
	if err := rep.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// NeedRestart names the keys and sections that differ between c and next and
// that a running daemon cannot change. Everything else takes effect on reload.
func (c *Config) NeedRestart(next *Config) []string {
	var changed []string
	for _, part := range []struct {
		key  string
		same bool
	}{
		{"pop", c.POP == next.POP},
		{"domain", c.Domain == next.Domain},
		{"router.icmp_error_rate", c.Router.ICMPErrorRate == next.Router.ICMPErrorRate},
		{"router.state_dir", c.Router.StateDir == next.Router.StateDir},
		{"router.dynamic", c.Router.Dynamic == next.Router.Dynamic},
		{"router.share", reflect.DeepEqual(c.Router.Share, next.Router.Share)},
		{"router.port", reflect.DeepEqual(c.Router.Ports, next.Router.Ports)},
		{"router.kernel", reflect.DeepEqual(c.Router.Kernel, next.Router.Kernel)},
		{"proxy.listen_http", slices.Equal(c.Proxy.ListenHTTP, next.Proxy.ListenHTTP)},
		{"proxy.listen_https", slices.Equal(c.Proxy.ListenHTTPS, next.Proxy.ListenHTTPS)},
		{"proxy.listen_quic", slices.Equal(c.Proxy.ListenQUIC, next.Proxy.ListenQUIC)},
		{"proxy.routes_file", c.Proxy.RoutesFile == next.Proxy.RoutesFile},
		{"routes", reflect.DeepEqual(c.Routes, next.Routes)},
		{"api.listen", slices.Equal(c.API.Listen, next.API.Listen)},
		{"api.cert_file", c.API.CertFile == next.API.CertFile},
		{"api.key_file", c.API.KeyFile == next.API.KeyFile},
		{"jump.listen", slices.Equal(c.Jump.Listen, next.Jump.Listen)},
		{"metrics", c.Metrics == next.Metrics},
		{"control", c.Control == next.Control},
	} {
		if !part.same {
			changed = append(changed, part.key)
		}
	}
	return changed
}

// Reloaded is what holds after a reload with next: the new values of what a
// running daemon can change, and the old ones of what NeedRestart names.
func (c *Config) Reloaded(next *Config) *Config {
	running := *next
	running.POP, running.Domain, running.Metrics, running.Control = c.POP, c.Domain, c.Metrics, c.Control
	running.Router.Ports, running.Router.Kernel = c.Router.Ports, c.Router.Kernel
	running.Router.ICMPErrorRate = c.Router.ICMPErrorRate
	running.Router.StateDir, running.Router.Dynamic = c.Router.StateDir, c.Router.Dynamic
	running.Router.Share = c.Router.Share
	running.Proxy.ListenHTTP, running.Proxy.ListenHTTPS, running.Proxy.ListenQUIC = c.Proxy.ListenHTTP, c.Proxy.ListenHTTPS, c.Proxy.ListenQUIC
	running.Proxy.RoutesFile = c.Proxy.RoutesFile
	running.Routes = c.Routes
	running.API.Listen, running.API.CertFile, running.API.KeyFile = c.API.Listen, c.API.CertFile, c.API.KeyFile
	running.Jump.Listen = c.Jump.Listen
	return &running
}
