package fastpath

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Errors that callers react to; test for them with errors.Is. With any of them
// the translator works without the fast path, in user space.
var (
	// ErrPermission: a capability is missing; the error says which.
	ErrPermission = errors.New("permission missing")
	// ErrUnsupported: the kernel lacks a feature; the error says which.
	ErrUnsupported = errors.New("kernel feature missing")
	// ErrDeviceGone: there is no such interface (any more).
	ErrDeviceGone = errors.New("device is gone")
	// ErrNotEthernet: the program needs Ethernet frames at an interface.
	ErrNotEthernet = errors.New("not an Ethernet interface")
	// ErrClosed: the program was closed before.
	ErrClosed = errors.New("already closed")
)

// explain adds to an error of bpf(2) what is missing and what to do.
func explain(what string, err error) error {
	var ve *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && !errors.As(err, &ve),
		// Without it, the verifier knows no kernel pointers.
		errors.As(err, &ve) && !capable(unix.CAP_PERFMON):
		return fmt.Errorf("%s: %w: give the process CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: %w", what, ErrPermission, err)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, btf.ErrNotFound), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%s: %w: Linux 6.2 or newer with CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_ACT and CONFIG_DEBUG_INFO_BTF is needed: %w", what, ErrUnsupported, err)
	case errors.As(err, &ve):
		// A kernel whose verifier sees it otherwise can't run it.
		return fmt.Errorf("%s: %w: this kernel refuses the program: %s", what, ErrUnsupported, strings.TrimSpace(ve.Error()))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// capable tells whether the calling thread has a capability, or CAP_SYS_ADMIN, which
// contains those about BPF.
func capable(bit int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	have := uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	return have>>bit&1 == 1 || have>>unix.CAP_SYS_ADMIN&1 == 1
}
