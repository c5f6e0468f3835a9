package hosts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// dockerBridge is how Docker names its bridges: the default one, and those of
// `docker network create`.
var dockerBridge = regexp.MustCompile(`^(docker0|br-[0-9a-f]{12})$`)

// DockerWithout gives the Docker bridges of this host that have no IPv6.
// Containers behind them cannot reach a NAT64 address, whatever /etc/hosts says.
func DockerWithout() (names []string, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	for _, l := range links {
		if l.Type() != "bridge" || !dockerBridge.MatchString(l.Attrs().Name) {
			continue
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", l.Attrs().Name, err)
		}
		if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.IsGlobalUnicast() }) {
			names = append(names, l.Attrs().Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// dockerDaemon is the configuration that gives containers IPv6, on the default
// bridge and on new networks. Docker before 27 needs the last two.
const dockerDaemon = `{
  "ipv6": true,
  "fixed-cidr-v6": "fd00:64:64::/64",
  "default-network-opts": { "bridge": { "com.docker.network.enable_ipv6": "true" } },
  "ip6tables": true,
  "experimental": true
}`

// DockerHint says what to do about such bridges.
func DockerHint(bridges []string) string {
	have := "have"
	if len(bridges) == 1 {
		have = "has"
	}
	return fmt.Sprintf("%s %s no IPv6: containers there reach no NAT64 address. In /etc/docker/daemon.json, then restart Docker and make its networks anew:\n%s", strings.Join(bridges, ", "), have, dockerDaemon)
}
