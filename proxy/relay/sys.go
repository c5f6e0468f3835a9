package relay

import "golang.org/x/sys/unix"

// The calls that move bytes. All sockets and pipes are non-blocking; a number of
// bytes is never negative.

func read(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// send writes to a socket. For a broken one there is a SIGPIPE, too, which the
// runtime takes and ignores.
func send(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Write(fd, b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func splice(from, to, n int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return max(int(n), 0), err
		}
	}
}
