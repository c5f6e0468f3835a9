package emulator

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// processor is how QEMU plays an architecture.
type processor struct {
	program string
	pkg     string // Debian's, that has the program
	args    []string
	slow    []string // where KVM can't be used
	console string
}

// The largest set of a processor's abilities; pauth-impdef is a cheap hash where
// the true one would take most of the time.
var processors = map[string]processor{
	"arm64": {
		program: "qemu-system-aarch64", pkg: "qemu-system-arm",
		args:    []string{"-M", "virt,gic-version=3"},
		slow:    []string{"-accel", "tcg,thread=multi", "-cpu", "max,pauth-impdef=on"},
		console: "ttyAMA0",
	},
	"amd64": {
		program: "qemu-system-x86_64", pkg: "qemu-system-x86",
		args:    []string{"-M", "q35"},
		slow:    []string{"-accel", "tcg,thread=multi", "-cpu", "max"},
		console: "ttyS0",
	},
}

// qemu is a QEMU: a program and its first arguments.
type qemu []string

// findQEMU gives the one that is installed, or for cards that it may not have, that
// of Debian 13, unpacked like everything else and run by its own loader.
func findQEMU(ctx context.Context, cache string, m *Machine) (qemu, error) {
	p := processors[m.Arch]
	if m.Card != igb {
		return qemu{p.program}, nil
	}
	out, err := exec.CommandContext(ctx, p.program, "-device", "help").Output()
	if err != nil {
		return nil, fmt.Errorf("%s -device help: %w", p.program, err)
	}
	if strings.Contains(string(out), `name "igb"`) {
		return qemu{p.program}, nil
	}
	root, err := newDebian(cache, "trixie", runtime.GOARCH).unpack(ctx, true, p.pkg)
	if err != nil {
		return nil, err
	}
	for _, loader := range []string{"usr/lib64/ld-linux-x86-64.so.2", "usr/lib/ld-linux-aarch64.so.1"} {
		libraries, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
		if err != nil {
			return nil, err
		}
		if at := filepath.Join(root, loader); exists(at) && len(libraries) == 1 {
			return qemu{at, "--library-path", libraries[0], filepath.Join(root, "usr/bin", p.program), "-L", filepath.Join(root, "usr/share/qemu")}, nil
		}
	}
	return nil, fmt.Errorf("no loader of programs in %s", root)
}

func (q qemu) command(ctx context.Context, args []string) *exec.Cmd {
	return exec.CommandContext(ctx, q[0], slices.Concat(q[1:], args)...)
}

var quick = []string{"-accel", "kvm", "-cpu", "host"}

// accelerator is how QEMU plays the processor: by KVM where that works for this
// architecture, else by itself. Not every machine that has /dev/kvm can use it, so
// the kernel is tried: without a root file system it reboots at once.
func accelerator(ctx context.Context, q qemu, arch string, k *kernel) ([]string, error) {
	p := processors[arch]
	if arch != runtime.GOARCH {
		return p.slow, nil
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return p.slow, nil
	}
	f.Close()
	try, cancel := context.WithTimeout(ctx, kvmPatience)
	defer cancel()
	args := slices.Concat(p.args, quick, []string{"-m", "512", "-display", "none", "-nodefaults", "-no-reboot", "-kernel", k.image, "-append", "panic=-1"})
	if q.command(try, args).Run() != nil {
		return p.slow, ctx.Err()
	}
	return quick, nil
}

// kvmPatience is for a boot that takes two seconds.
const kvmPatience = 10 * time.Second

// start is how a QEMU is begun: by itself, or in a namespace.
type start func(*exec.Cmd) error

// boot runs a machine until it has told its end, and gives tell all events. The
// console is kept for the case that it says nothing more.
func boot(ctx context.Context, q qemu, m *Machine, k *kernel, image string, extra []string, begin start, tell func(Event)) error {
	p := processors[m.Arch]
	args := slices.Concat(p.args, extra, []string{
		"-smp", fmt.Sprint(m.CPUs), "-m", fmt.Sprint(m.Memory), "-display", "none", "-monitor", "none", "-serial", "stdio",
		"-no-reboot", "-nodefaults", "-kernel", k.image, "-initrd", image,
		"-append", "console=" + p.console + " quiet loglevel=3 panic=-1"})
	ctx, cancel := context.WithTimeoutCause(ctx, m.Patience, fmt.Errorf("it did not end within %v", m.Patience))
	defer cancel()
	c := q.command(ctx, args)
	c.WaitDelay = 5 * time.Second
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	var complaints outputEnd
	c.Stderr = &complaints
	if err := begin(c); err != nil {
		return err
	}
	ended, console := listen(out, tell)
	err = c.Wait()
	used := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	tell(Event{Kind: "used", Millis: used.Milliseconds()})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w; the end of its console:\n%s", context.Cause(ctx), console)
	case err != nil:
		return fmt.Errorf("%s: %w\n%s", p.program, err, &complaints)
	case !ended:
		return fmt.Errorf("it stopped before its jobs were done; the end of its console:\n%s%s", console, &complaints)
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

// outputEnd keeps the end of what a program says.
type outputEnd struct{ b []byte }

func (o *outputEnd) Write(b []byte) (int, error) {
	o.b = clip(append(o.b, b...))
	return len(b), nil
}

func (o *outputEnd) String() string { return string(o.b) }
