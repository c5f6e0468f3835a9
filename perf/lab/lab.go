package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"

	"golang.org/x/sys/unix"
)

// Lab is a set of network namespaces that live and go together.
// Its methods and those of its hosts may be called concurrently.
type Lab struct {
	id   string
	lock *lock

	mu       sync.Mutex
	hosts    []*Host
	children []*exec.Cmd
	closed   bool
}

var (
	labName  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	hostName = regexp.MustCompile(`^[a-z0-9]{1,32}$`)
)

// New makes an empty lab, after it has removed whatever crashed runs left
// behind. The name is lower-case letters, digits and dashes; if a lab of that
// name is alive the new one is called name.2, name.3 and so on (see [Lab.ID]).
func New(name string) (*Lab, error) {
	if !labName.MatchString(name) {
		return nil, fmt.Errorf("lab name %q: only lower-case letters, digits and dashes", name)
	}
	if err := Check(); err != nil {
		return nil, err
	}
	lock, err := acquire(name)
	if err != nil {
		return nil, err
	}
	return &Lab{id: lock.id, lock: lock}, nil
}

// ID is the lab's name with the suffix that makes it unique on this machine.
func (l *Lab) ID() string { return l.id }

// Dir makes a directory for files that shall go with the lab, and returns its
// path; every call returns the same one.
func (l *Lab) Dir() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return "", fmt.Errorf("lab %s is closed", l.id)
	}
	return l.lock.dir(), os.MkdirAll(l.lock.dir(), 0o700)
}

// Host makes a network namespace with lo up. The name is lower-case letters and
// digits; `ip netns` shows it as isthmus-<lab id>-<name>.
func (l *Lab) Host(name string) (*Host, error) {
	if !hostName.MatchString(name) {
		return nil, fmt.Errorf("host name %q: only lower-case letters and digits", name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("lab %s is closed", l.id)
	}
	file := namePrefix + l.id + "-" + name
	if err := l.lock.record(file); err != nil {
		return nil, err
	}
	h, err := newHost(l, name, file)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	l.hosts = append(l.hosts, h)
	return h, nil
}

// Close kills what was started in the lab and removes its namespaces. It may be
// called more than once, and from a signal handler's goroutine while the lab is
// still being built: what is built afterwards fails.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	for _, c := range l.children {
		if err := c.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("kill %s: %w", c.Path, err))
		}
	}
	for _, h := range l.hosts {
		errs = append(errs, h.close())
	}
	errs = append(errs, l.lock.release())
	return errors.Join(errs...)
}

// started remembers a child so that Close can kill it; a child that raced with
// Close is killed here.
func (l *Lab) started(c *exec.Cmd) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Process.Kill()
		_ = c.Wait()
		return fmt.Errorf("lab %s is closed", l.id)
	}
	l.children = append(l.children, c)
	return nil
}

// Check says whether this process can make labs at all: nil, or an error that
// names what is missing and what to do about it.
func Check() error {
	for _, c := range []struct {
		bit  int
		name string
	}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}} {
		ok, err := capable(c.bit)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("network namespaces need the capability %s: run as root (sudo)", c.name)
		}
	}
	err := onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	switch {
	case errors.Is(err, unix.EPERM):
		return errors.New("the kernel refuses network namespaces (unshare: operation not permitted): inside a container, run it privileged")
	case errors.Is(err, unix.EINVAL):
		return errors.New("the kernel has no network namespaces: it needs CONFIG_NET_NS")
	case errors.Is(err, unix.ENOSPC):
		return errors.New("no more network namespaces allowed: raise the sysctl user.max_net_namespaces")
	case err != nil:
		return fmt.Errorf("make a network namespace: %w", err)
	}
	return nil
}

func capable(bit int) (bool, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false, fmt.Errorf("read own capabilities: %w", err)
	}
	return data[bit/32].Effective&(1<<(bit%32)) != 0, nil
}
