// Command guest is the first process of an emulated machine: it mounts what Linux
// wants mounted, loads modules, runs the jobs of its plan one after the other and
// powers off.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

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
		run(j)
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

// keep is how much of a job's output is shown if it fails, in bytes.
const keep = 16 << 10

func run(j emulator.Job) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(j.Seconds)*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, j.Args[0], j.Args[1:]...)
	c.Dir = j.Dir
	c.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "TMPDIR=/tmp"}, j.Env...)
	c.WaitDelay = 5 * time.Second
	r, w := io.Pipe()
	c.Stdout, c.Stderr = w, w
	begin := time.Now()
	var (
		tail   []byte
		passed int
	)
	read := make(chan struct{})
	go func() {
		defer close(read)
		tail, passed = follow(j, r)
		// What follow could not take must not stop the job.
		_, _ = io.Copy(io.Discard, r)
	}()
	err := c.Run()
	w.Close()
	<-read
	e := emulator.Event{Kind: "job", Job: j.Name, OK: err == nil, Passed: passed, Millis: time.Since(begin).Milliseconds()}
	switch {
	case ctx.Err() != nil:
		e.Text = fmt.Sprintf("it did not end within %d s\n%s", j.Seconds, tail)
	case err != nil:
		e.Text = err.Error() + "\n" + string(tail)
	}
	say(e)
}

// Lines of go test -v that end a test, and those that a test logs.
var (
	verdict = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(`)
	logged  = regexp.MustCompile(`^ +\S+\.go:\d+: (.*)`)
)

// follow tells of tests that failed or were skipped, and gives the end of the
// output and how many passed.
func follow(j emulator.Job, r io.Reader) (tail []byte, passed int) {
	var since []byte // what came after the last verdict
	last := ""
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		tail = clip(append(tail, line...))
		since = clip(append(since, line...))
		text := string(bytes.TrimRight(line, "\n"))
		if m := logged.FindStringSubmatch(text); m != nil {
			last = m[1]
		}
		if m := verdict.FindStringSubmatch(text); m != nil && j.Tests {
			switch m[1] {
			case "PASS":
				passed++
			case "SKIP":
				say(emulator.Event{Kind: "skip", Job: j.Name, Test: m[2], Text: last})
			case "FAIL":
				say(emulator.Event{Kind: "fail", Job: j.Name, Test: m[2], Text: string(since)})
			}
			since = nil
		}
		if err != nil {
			return tail, passed
		}
	}
}

func clip(b []byte) []byte {
	if len(b) > 2*keep {
		b = append(b[:0], b[len(b)-keep:]...)
	}
	return b
}
