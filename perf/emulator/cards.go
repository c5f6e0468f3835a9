package emulator

import (
	"fmt"
	"os/exec"

	"github.com/vishvananda/netlink"

	"aarch64.com/isthmus/perf/lab"
)

// QEMU's names of network cards.
const (
	virtioNet = "virtio-net-pci"
	igb       = "igb" // Intel 82576: RSS over its queues, and since QEMU 8.0
)

// The bridge that joins the cards of a machine, and its ports.
const (
	bridgeName = "br0"
	portName   = "card%d"
)

// cards gives a machine its network cards: a namespace with a bridge and a TAP
// device for each card, and QEMU's words for them. QEMU has to be started there.
//
//	guest eth0 ── card0 ┐
//	guest eth1 ── card1 ┼─ br0
//	guest eth2 ── card2 ┘
func cards(l *lab.Lab, m *Machine) (h *lab.Host, args []string, err error) {
	if h, err = l.Host("cards"); err != nil {
		return nil, nil, err
	}
	nl, err := h.Netlink()
	if err != nil {
		return nil, nil, err
	}
	defer nl.Close()
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name = bridgeName
	snooping := false
	bridge.MulticastSnooping = &snooping
	if err := nl.LinkAdd(bridge); err != nil {
		return nil, nil, fmt.Errorf("make a bridge: %w", err)
	}
	if err := h.Up(bridgeName); err != nil {
		return nil, nil, err
	}
	for i := range m.NICs {
		name := fmt.Sprintf(portName, i)
		if err := tap(h, name, m.Card == virtioNet); err != nil {
			return nil, nil, err
		}
		port, err := nl.LinkByName(name)
		if err != nil {
			return nil, nil, fmt.Errorf("find %s: %w", name, err)
		}
		if err := nl.LinkSetMaster(port, bridge); err != nil {
			return nil, nil, fmt.Errorf("put %s on %s: %w", name, bridgeName, err)
		}
		if err := h.Up(name); err != nil {
			return nil, nil, err
		}
		args = append(args, card(m, i, name)...)
	}
	return h, args, nil
}

// tap makes a device that stays when nobody has it open, with as many queues as
// QEMU opens.
func tap(h *lab.Host, name string, multi bool) error {
	args := []string{"tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr"}
	if multi {
		args = append(args, "multi_queue")
	}
	c := exec.Command("ip", args...)
	var out outputEnd
	c.Stdout, c.Stderr = &out, &out
	err := h.Start(c)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		return fmt.Errorf("make the TAP device %s: %w\n%s", name, err, &out)
	}
	return nil
}

// card is QEMU's word for one. XDP wants no received superpackets and no partial
// checksums of virtio-net (virtnet_xdp_set, drivers/net/virtio_net.c); its driver
// hands queues to AF_XDP only if it maps memory for the device the way it does for
// real ones (VIRTIO_F_ACCESS_PLATFORM, which QEMU calls iommu_platform).
func card(m *Machine, i int, tap string) []string {
	netdev := fmt.Sprintf("tap,id=net%d,ifname=%s,script=no,downscript=no", i, tap)
	device := fmt.Sprintf("%s,netdev=net%d,mac=52:54:00:00:01:%02x,romfile=", m.Card, i, i)
	if m.Card == virtioNet {
		netdev += fmt.Sprintf(",queues=%d", m.CPUs)
		device += fmt.Sprintf(",mq=on,vectors=%d,rx_queue_size=1024,disable-legacy=on,iommu_platform=on,"+
			"guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off", 2*m.CPUs+2)
	}
	// A port each: virtual functions need room on the bus.
	return []string{"-netdev", netdev, "-device", fmt.Sprintf("pcie-root-port,id=port%d,chassis=%d", i, i+1), "-device", device + fmt.Sprintf(",bus=port%d", i)}
}
