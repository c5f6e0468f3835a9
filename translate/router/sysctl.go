package router

import (
	"fmt"
	"os"
	"strings"
)

// checkKernel tells what keeps the kernel from doing its part.
func (r *Router) checkKernel() {
	for _, s := range []struct{ key, protocol string }{
		{"net/ipv4/ip_forward", "IPv4"},
		{"net/ipv6/conf/all/forwarding", "IPv6"},
	} {
		b, err := os.ReadFile("/proc/sys/" + s.key)
		if err == nil && strings.TrimSpace(string(b)) == "0" {
			r.log(true, fmt.Sprintf("the kernel does not forward %s, so packets that take its way get lost: sysctl -w %s=1", s.protocol, strings.ReplaceAll(s.key, "/", ".")))
		}
	}
}
