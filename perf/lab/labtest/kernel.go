package labtest

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// NeedFastPath skips the test on kernels without what the fast path is made of
// (bpf_cast_to_kern_ctx came with Linux 6.2). On others it must load.
func NeedFastPath(t testing.TB) {
	t.Helper()
	if major, minor := kernel(t); major < 6 || major == 6 && minor < 2 {
		t.Skipf("the fast path needs Linux 6.2 or newer, and this is %d.%d", major, minor)
	}
}

// kernel is the version of the one that runs.
func kernel(t testing.TB) (major, minor int) {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		t.Fatalf("kernel release %q: %v", release, err)
	}
	return major, minor
}
