package xsk

import (
	"net"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// runChild is what a child process does that TestKilled kills: it takes an
// interface's frames and never reads them. "ready" or an error.
func runChild(ifname string) string {
	switch ifname {
	case "-socket":
		return withoutCapabilities(func() error {
			u, err := NewUMEM(UMEMConfig{Chunks: 1, ChunkSize: Chunk2K})
			if err == nil {
				_, err = Open(u, SocketConfig{Ifindex: 1})
			}
			return err
		})
	case "-program":
		return withoutCapabilities(func() error {
			_, err := NewTables()
			return err
		})
	}
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return err.Error()
	}
	u, err := NewUMEM(UMEMConfig{Chunks: 2048, ChunkSize: Chunk2K})
	if err != nil {
		return err.Error()
	}
	s, err := Open(u, SocketConfig{Ifindex: ifi.Index, Rx: 512, Fill: 1024})
	if err != nil {
		return err.Error()
	}
	t, err := NewTables()
	if err != nil {
		return err.Error()
	}
	if err := t.Update([]netip.Prefix{testPool6}, nil); err != nil {
		return err.Error()
	}
	p, err := AttachProgram(t, ProgramConfig{Ifindex: ifi.Index})
	if err != nil {
		return err.Error()
	}
	if err := p.Register(0, s); err != nil {
		return err.Error()
	}
	return "ready"
}

// withoutCapabilities runs fn on a thread that has none.
func withoutCapabilities(fn func() error) string {
	runtime.LockOSThread()
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return "drop capabilities: " + err.Error()
	}
	if err := fn(); err != nil {
		return err.Error()
	}
	return "no error"
}
