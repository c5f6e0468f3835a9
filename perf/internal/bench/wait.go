package bench

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// ReadyTime bounds waiting for something that should come soon, on a busy machine.
const ReadyTime = 40 * time.Second

// WaitFor waits until something is true.
func WaitFor(ctx context.Context, true func() bool) error {
	for deadline := time.Now().Add(ReadyTime); !true(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v", ReadyTime)
		}
		if err := Pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// Pause waits, or returns the context's error.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Settle waits until the program has nothing more to do, such as for clients that
// have gone. The next use of it tells if it has ended.
func (p *Process) Settle(ctx context.Context) error {
	return WaitFor(ctx, func() bool {
		before, err := p.CPU()
		if err != nil {
			return true
		}
		time.Sleep(40 * time.Millisecond)
		after, err := p.CPU()
		return err != nil || after-before < time.Millisecond
	})
}

// Pinned is a command on a CPU. taskset becomes the command, and what that starts
// stays there.
func Pinned(cpu int, name string, args ...string) *exec.Cmd {
	return exec.Command("taskset", append([]string{"-c", fmt.Sprint(cpu), name}, args...)...)
}
