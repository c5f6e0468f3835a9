// Command guest is the first process of an emulated machine: it mounts what Linux
// wants mounted, loads modules, runs the jobs of its plan one after the other and
// powers off.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/emulator"
)

func main() {
	err := boot()
	if err == nil {
		err = work()
	}
	if err != nil {
		say(emulator.Event{Kind: "end", Text: err.Error()})
	} else {
		say(emulator.Event{Kind: "end", OK: true})
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// say writes an event as a line of its own, whatever the kernel wrote before.
func say(e emulator.Event) {
	line, err := json.Marshal(e)
	if err != nil {
		line = []byte(`{"Kind":"end","Text":"an event without JSON"}`)
	}
	os.Stdout.Write(append(append([]byte("\n"+emulator.Mark), line...), '\n'))
}

func boot() error {
	for _, m := range []struct{ what, at, data string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", ""}, {"devpts", "/dev/pts", ""},
		{"tmpfs", "/dev/shm", ""}, {"tmpfs", "/run", ""}, {"bpf", "/sys/fs/bpf", ""}, {"tmpfs", "/tmp", "mode=1777"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.at, m.what, 0, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", m.what, m.at, err)
		}
	}
	for link, to := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	say(emulator.Event{Kind: "boot", Text: unix.ByteSliceToString(u.Release[:]), Pages: os.Getpagesize()})
	return nil
}

func work() error {
	data, err := os.ReadFile(emulator.PlanPath)
	if err != nil {
		return err
	}
	var plan emulator.Plan
	if err := json.Unmarshal(data, &plan); err != nil {
		return fmt.Errorf("%s: %w", emulator.PlanPath, err)
	}
	for _, m := range plan.Modules {
		if err := load(m); err != nil {
			return err
		}
	}
	if err := exec.Command("/sbin/ip", "link", "set", "lo", "up").Run(); err != nil {
		return fmt.Errorf("ip link set lo up: %w", err)
	}
	for _, j := range plan.Jobs {
		j.Run(context.Background(), func(e emulator.Event) {
			if e.Kind == "job" && !e.OK {
				e.Text += "\nthe end of the kernel's log:\n" + kernelLog()
			}
			say(e)
		})
	}
	return nil
}

// load puts a module into the kernel, which unpacks it where it has to.
func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(file, ".ko") {
		flags = 4 // MODULE_INIT_COMPRESSED_FILE, since Linux 5.17
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", file, err)
	}
	return nil
}

// kernelLog is the end of what the kernel has said, which is kept off the console
// unless it is grave.
func kernelLog() string {
	b := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, b)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, n-8<<10):n])
}
