package emulator

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// processor is how QEMU plays an architecture.
type processor struct {
	program string
	pkg     string // Debian's, that has the program
	args    []string
	console string
}

// The largest set of a processor's abilities; pauth-impdef is a cheap hash where
// the true one would take most of the time. KVM is used where there is one for
// this architecture.
var processors = map[string]processor{
	"arm64": {
		program: "qemu-system-aarch64", pkg: "qemu-system-arm",
		args:    []string{"-M", "virt,gic-version=3", "-accel", "tcg,thread=multi", "-cpu", "max,pauth-impdef=on"},
		console: "ttyAMA0",
	},
	"amd64": {
		program: "qemu-system-x86_64", pkg: "qemu-system-x86",
		args:    []string{"-M", "q35", "-accel", "kvm", "-accel", "tcg,thread=multi", "-cpu", "max"},
		console: "ttyS0",
	},
}

// start is how a QEMU is begun: by itself, or in a namespace.
type start func(*exec.Cmd) error

// boot runs a machine until it has told its end, and gives tell all events. The
// console is kept for the case that it says nothing more.
func boot(ctx context.Context, m *Machine, k *kernel, image string, extra []string, begin start, tell func(Event)) error {
	p := processors[m.Arch]
	args := append(p.args[:len(p.args):len(p.args)],
		"-smp", fmt.Sprint(m.CPUs), "-m", fmt.Sprint(m.Memory), "-display", "none", "-monitor", "none", "-serial", "stdio",
		"-no-reboot", "-nodefaults", "-kernel", k.image, "-initrd", image,
		"-append", "console="+p.console+" quiet loglevel=3 panic=-1 "+m.Append)
	ctx, cancel := context.WithTimeoutCause(ctx, m.Patience, fmt.Errorf("it did not end within %v", m.Patience))
	defer cancel()
	c := exec.CommandContext(ctx, p.program, append(args, extra...)...)
	c.WaitDelay = 5 * time.Second
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	var complaints strings.Builder
	c.Stderr = &complaints
	if err := begin(c); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = fmt.Errorf("%w; install the package %s (make deps-arm64)", err, p.pkg)
		}
		return err
	}
	ended, console := listen(out, tell)
	err = c.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w; the end of its console:\n%s", context.Cause(ctx), console)
	case err != nil:
		return fmt.Errorf("%s: %w\n%s", p.program, err, complaints.String())
	case !ended:
		return fmt.Errorf("it stopped before its jobs were done; the end of its console:\n%s%s", console, complaints.String())
	}
	return nil
}

// listen hands events on, and keeps the end of all else.
func listen(console io.Reader, tell func(Event)) (ended bool, rest string) {
	in := bufio.NewReader(console)
	var kept []string
	for {
		line, err := in.ReadString('\n')
		text := strings.TrimSpace(line)
		if data, ok := strings.CutPrefix(text, Mark); ok {
			var e Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				kept = append(kept, text)
			} else {
				ended = ended || e.Kind == "end"
				tell(e)
			}
		} else if text != "" {
			if kept = append(kept, text); len(kept) > 200 {
				kept = kept[100:]
			}
		}
		if err != nil {
			return ended, strings.Join(kept, "\n")
		}
	}
}
