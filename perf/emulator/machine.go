package emulator

import "time"

// Machine is one that is emulated.
type Machine struct {
	Name     string
	Arch     string // "arm64" or "amd64"
	Suite    string // of Debian, for the kernel
	Kernel   string // metapackage
	CPUs     int
	Memory   int    // MiB
	NICs     int    // cards with a queue for each CPU, joined by a bridge
	Card     string // which
	Patience time.Duration
	Packages []string          // whose tests run; a name with "..." at its end stands for all below, "!" in front leaves out
	Tests    map[string]string // of a package, those that run (-test.run); all if it isn't here
	Tags     string            // of the build of the tests
	Skips    []string          // parts of the reasons that tests may have to skip themselves here
	Demo     bool
	User     bool // no more than its processor: programs run on this machine's kernel
}

// What can depend on a kernel or a processor besides computing: whatever speaks
// with the kernel. The unit tests of all packages run on the processor alone.
var (
	kernelPackages = []string{
		"xsk", "xsk/tun", "xsk/tun/fastpath", "translate/router", "translate/router/nexthop", "translate/router/nat44",
		"translate/router/equivalence", "perf/lab", "cmd/isthmus",
	}
	kernelTests = map[string]string{"cmd/isthmus": "^(TestRun|TestReload|TestDoctor|TestMap|TestStatus)"}
	before62    = []string{"the fast path needs Linux 6.2", "TUN devices take UDP superpackets since Linux 6.2"}
)

// Machines are those that "make test-arm64" runs.
var Machines = []Machine{
	{Name: "processor", Arch: "arm64", User: true, Packages: []string{"..."}},
	{
		Name: "nic-virtio", Arch: "arm64", Suite: "forky", Kernel: "linux-image-arm64",
		CPUs: 4, Memory: 3072, NICs: 3, Card: virtioNet, Patience: patience, Tags: "nic", Skips: []string{"virtio_net refuses zero-copy"}, Packages: []string{"perf/emulator/nic"},
	},
	{
		Name: "nic-igb", Arch: "arm64", Suite: "forky", Kernel: "linux-image-arm64",
		CPUs: 4, Memory: 3072, NICs: 3, Card: igb, Patience: patience, Tags: "nic", Packages: []string{"perf/emulator/nic"},
	},
	{
		Name: "debian12", Arch: "arm64", Suite: "bookworm", Kernel: "linux-image-arm64",
		CPUs: 2, Memory: 3072, Patience: patience, Packages: []string{"xsk", "xsk/tun", "translate/router/nat44", "cmd/isthmus"}, Tests: kernelTests, Skips: before62, Demo: true,
	},
	{
		Name: "debian12-amd64", Arch: "amd64", Suite: "bookworm", Kernel: "linux-image-amd64",
		CPUs: 2, Memory: 3072, Patience: patience, Packages: kernelPackages, Tests: kernelTests, Skips: before62, Demo: true,
	},
	{
		Name: "debian13", Arch: "arm64", Suite: "trixie", Kernel: "linux-image-arm64",
		CPUs: 2, Memory: 3072, Patience: patience, Packages: []string{"xsk/tun/fastpath", "translate/router/equivalence"}, Demo: true,
	},
	{
		Name: "debian13-16k", Arch: "arm64", Suite: "trixie", Kernel: "linux-image-arm64-16k",
		CPUs: 2, Memory: 3072, Patience: patience, Packages: []string{"xsk", "xsk/tun", "translate/router"}, Demo: true,
	},
}

// patience is how long a machine may take; it bounds a hang.
const patience = 20 * time.Minute

// userSuite and userPackages are what guests have besides isthmus: what DEB_PACKAGES
// in the Makefile has for running, and a shell.
const userSuite = "bookworm"

var userPackages = []string{
	"bash", "coreutils", "dash", "grep", "sed", "findutils", "procps", "util-linux", "iproute2", "iputils-ping", "ethtool", "nftables", "traceroute",
	"iperf3", "curl", "openssl", "ca-certificates", "nginx", "unbound",
	"openssh-client", "openssh-server", "putty-tools", "dropbear-bin", "python3-paramiko", "rsync", "ssh-audit",
}

// modules are what tests and the demo need of a kernel that has them as modules;
// nobody is there to load them on demand.
var modules = []string{
	"crc32c_generic", // libcrc32c asks for it by name
	"veth", "tun", "dummy", "bridge", "virtio_pci", "virtio_net", "virtio_rng", "igb",
	"nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_ct", "nft_objref", "nft_redir", "nft_reject_ipv4", "nft_reject_ipv6", "nft_reject_inet", "nft_limit", "nft_numgen", "nft_hash", "nft_fib_inet", "nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nfnetlink_log",
	"sch_ingress", "cls_bpf", "act_bpf", "sch_fq", "sch_fq_codel",
	"inet_diag", "tcp_diag", "udp_diag", "xsk_diag", "tls", "vrf", "netdevsim",
}
