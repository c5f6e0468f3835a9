package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tree are the living processes of a program: itself and all its descendants.
func (p *Process) Tree() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		children[s.parent] = append(children[s.parent], pid)
	}
	tree := []int{p.Cmd.Process.Pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}

// CPU is the time that a program has used so far, in user space and in the kernel,
// with its descendants. Of those that live it is exact, of those that have ended to
// 10 ms.
func (p *Process) CPU() (used time.Duration, err error) {
	tree, err := p.Tree()
	if err != nil {
		return 0, err
	}
	for _, pid := range tree {
		s, err := readStat(pid)
		if err == nil {
			used += time.Duration(s.ended) * (time.Second / userHZ)
			var living time.Duration
			living, err = cpuClock(pid)
			used += living
		}
		if err != nil && !gone(err) {
			return 0, err
		}
	}
	return used, nil
}

// CPUOf is the time that one process has used so far.
func CPUOf(pid int) (time.Duration, error) { return cpuClock(pid) }

// MemoryOf is what one process occupies in bytes (PSS, proc(5)).
func MemoryOf(pid int) (int64, error) { return readPSS(pid) }

// cpuClock reads the clock of all threads of a process, those that have ended, too
// (clock_getcpuclockid(3), whose numbers are MAKE_PROCESS_CPUCLOCK of the kernel's
// posix-timers_types.h).
func cpuClock(pid int) (time.Duration, error) {
	const perProcess, scheduled = 0, 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcess|scheduled), &t); err != nil {
		if err == unix.EINVAL { // there is no such process any more
			err = unix.ESRCH
		}
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Memory is what a program's processes occupy in bytes: what they share is
// divided among those that share it (PSS, proc(5)). Memory that the kernel has for
// them is not in it.
func (p *Process) Memory() (bytes int64, processes int, err error) {
	tree, err := p.Tree()
	if err != nil {
		return 0, 0, err
	}
	for _, pid := range tree {
		n, err := readPSS(pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		bytes, processes = bytes+n, processes+1
	}
	return bytes, processes, nil
}

// userHZ is the unit of times in /proc, the same on all of Linux's platforms that
// Go has but alpha (time(7)).
const userHZ = 100

// stat is what is needed of /proc/PID/stat.
type stat struct {
	parent int
	ended  uint64 // ticks of children that were waited for
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(text))
}

// parseStat reads the line, whose second field is a name in brackets with anything
// in it.
func parseStat(line string) (s stat, err error) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 15 {
		return s, fmt.Errorf("read /proc/PID/stat: %q", line)
	}
	if s.parent, err = strconv.Atoi(fields[1]); err != nil {
		return s, err
	}
	for _, f := range fields[13:15] { // cutime, cstime
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return s, err
		}
		s.ended += n
	}
	return s, nil
}

func readPSS(pid int) (int64, error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
			return kb << 10, err
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fs.ErrNotExist // a process that has ended and was not waited for
}

// gone tells whether a process ended while it was looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// StopTree is Stop, and the end of descendants that stay.
func (p *Process) StopTree() error {
	tree, err := p.Tree()
	if err != nil {
		return errors.Join(err, p.Stop())
	}
	err = p.Stop()
	for _, pid := range tree[1:] {
		// They were our program's children: ended ones were its to wait for, or
		// are now init's, so that a number hardly comes to mean another process
		// in this time.
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return err
}
