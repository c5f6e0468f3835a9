package relay

import "golang.org/x/sys/unix"

const (
	pipeSize = 256 << 10
	// pipesKept is how many empty pipes a loop keeps. Each is two file
	// descriptors, and memory only while there are bytes in it.
	pipesKept = 64
)

// pipe carries bytes from one socket to another inside the kernel.
type pipe struct {
	r, w int
	n    int // bytes in it
}

// pipes are those that are empty.
type pipes struct{ free []*pipe }

// get gives an empty pipe, or nil if there is none to be had.
func (p *pipes) get() *pipe {
	if n := len(p.free); n > 0 {
		x := p.free[n-1]
		p.free = p.free[:n-1]
		return x
	}
	var fd [2]int
	if unix.Pipe2(fd[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	// Beyond the user's share of pipe memory the default size has to do.
	_, _ = unix.FcntlInt(uintptr(fd[0]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{r: fd[0], w: fd[1]}
}

// put takes a pipe back. One that is not empty can't be used again.
func (p *pipes) put(x *pipe) {
	if x.n == 0 && len(p.free) < pipesKept {
		p.free = append(p.free, x)
		return
	}
	closeFD(x.r)
	closeFD(x.w)
}

func (p *pipes) close() {
	for _, x := range p.free {
		closeFD(x.r)
		closeFD(x.w)
	}
	p.free = nil
}
