package labtest

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// NeedFastPath skips the test on kernels without what the fast path is made of
// (bpf_cast_to_kern_ctx came with Linux 6.2). On others it must load.
func NeedFastPath(t testing.TB) {
	t.Helper()
	if Before(t, 6, 2) {
		t.Skip("the fast path needs Linux 6.2 or newer")
	}
}

// Before tells whether the kernel is older than a version.
func Before(t testing.TB, major, minor int) bool {
	t.Helper()
	var have [2]int
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &have[0], &have[1]); err != nil {
		t.Fatalf("kernel release %q: %v", release, err)
	}
	return slices.Compare(have[:], []int{major, minor}) < 0
}
