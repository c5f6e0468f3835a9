package router

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// forwarding are the switches without which the kernel routes neither what it
// gets from the translator nor what it has for it.
var forwarding = []struct{ file, sysctl string }{
	{"/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"},
	{"/proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"},
}

// KernelWarnings are settings of the calling thread's network namespace that keep
// the kernel from doing its part, with the remedy.
func KernelWarnings() []string {
	var w []string
	for _, f := range forwarding {
		switch data, err := os.ReadFile(f.file); {
		case errors.Is(err, os.ErrNotExist):
			w = append(w, fmt.Sprintf("this kernel has no %s: that protocol is missing", f.sysctl))
		case err == nil && strings.TrimSpace(string(data)) == "0":
			w = append(w, fmt.Sprintf("%s is 0: the kernel will not forward packets to and from the translator; run sysctl -w %s=1", f.sysctl, f.sysctl))
		}
	}
	return w
}
