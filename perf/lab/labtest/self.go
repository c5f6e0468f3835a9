package labtest

import (
	"os"
	"os/exec"
)

// EmulatorEnv names an environment variable with the path of a program that runs
// the test binary where the machine itself can't: qemu-aarch64-static for one of
// arm64.
const EmulatorEnv = "ISTHMUS_EMULATOR"

// Self is this test binary as another process.
func Self(args ...string) *exec.Cmd {
	emulator := os.Getenv(EmulatorEnv)
	if emulator == "" {
		return exec.Command("/proc/self/exe", args...)
	}
	self, err := os.Executable()
	c := exec.Command(emulator, append([]string{self}, args...)...)
	c.Err = err
	return c
}
