package bench

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Load is the machine's one-minute average; 0 without procfs.
func Load() (l float64) {
	text, _ := os.ReadFile("/proc/loadavg")
	_, _ = fmt.Sscan(string(text), &l)
	return l
}

// Kernel is the running kernel's release.
func Kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// CPUs are the first n that this process may use. The error says how many there are.
func CPUs(n int) ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("ask for CPUs: %w", err)
	}
	var cpus []int
	for cpu := 0; cpu < len(set)*64 && len(cpus) < n; cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) < n {
		return nil, fmt.Errorf("%d CPUs are needed, and this process may use %d", n, len(cpus))
	}
	return cpus, nil
}

// Pin keeps all threads of this process on one CPU until undo is called. Programs
// that are started meanwhile inherit it (sched_setaffinity(2)).
func Pin(cpu int) (undo func() error, err error) {
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("ask for CPUs: %w", err)
	}
	one.Set(cpu)
	undo = func() error { return setAffinity(&before) }
	if err := setAffinity(&one); err != nil {
		return nil, err
	}
	return undo, nil
}

// setAffinity moves every thread. A thread that is made meanwhile has its maker's
// CPUs, so it is done when a pass finds no new one.
func setAffinity(set *unix.CPUSet) error {
	moved := map[int]bool{}
	for again := true; again; {
		again = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || moved[tid] {
				continue
			}
			if err := unix.SchedSetaffinity(tid, set); err != nil && err != unix.ESRCH {
				return fmt.Errorf("choose a CPU: %w", err)
			}
			moved[tid], again = true, true
		}
	}
	return nil
}
