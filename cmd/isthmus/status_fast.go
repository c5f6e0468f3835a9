package main

import (
	"fmt"

	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// fastStatus is the part of the kernel's own translation, which is in all the sums
// besides.
type fastStatus struct {
	Attached   bool     `json:"attached"`
	Interfaces []string `json:"interfaces"` // attached ones
	Missing    []string `json:"missing"`    // configured, but not attached
	Device     uint64   `json:"device_packets"`
	AtPorts    uint64   `json:"interface_packets"`
}

func makeFastStatus(s *router.FastPathStats) fastStatus {
	out := fastStatus{
		Attached: s.Attached, Device: s.Traffic(fastpath.AtDevice).RxPackets, AtPorts: s.Traffic(fastpath.AtInterface).RxPackets,
	}
	for _, i := range s.Interfaces {
		if i.Attached {
			out.Interfaces = append(out.Interfaces, i.Name)
		} else {
			out.Missing = append(out.Missing, i.Name)
		}
	}
	return out
}

func (s *fastStatus) String() string {
	if !s.Attached {
		return "off"
	}
	line := fmt.Sprintf("%d packets at the TUN device", s.Device)
	if len(s.Interfaces)+len(s.Missing) > 0 {
		line += fmt.Sprintf(", %d at interfaces (%s)", s.AtPorts, orNone(s.Interfaces))
	}
	if len(s.Missing) > 0 {
		line += "; not there: " + orNone(s.Missing)
	}
	return line
}
