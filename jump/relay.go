package jump

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Buffers are as large as an SSH packet's payload. They are taken when there is
// something to read and given back when there is not: an idle session has none.
const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// batchSize is what a client that sends much is read with: the more at a time, the
// fewer messages that widen its window, and the fewer writes to the VM.
const batchSize = 256 << 10

var batches = sync.Pool{New: func() any { return new([batchSize]byte) }}

// keystrokes is enough for what people type. While a client sends no more at a
// time, its channel is read without a large buffer.
const keystrokes = 512

// relay is a channel and the TCP connection to its VM. Each direction ends by
// itself when its sender has closed, so that half-closed connections work.
type relay struct {
	conn    *conn
	channel ssh.Channel
	vm      *net.TCPConn
	stall   time.Duration

	up, down atomic.Uint64
	last     atomic.Int64 // when a byte moved, UnixNano
	vmDone   atomic.Bool  // the VM has closed
	eof      atomic.Bool  // the client has, and the channel is not read any more

	once    sync.Once
	end     End
	overdue *time.Timer   // the client's closing
	sent    chan struct{} // the VM has all that it will get
	closed  chan struct{} // the client has closed the channel
}

// run relays until both directions have ended.
func (r *relay) run() {
	r.last.Store(time.Now().UnixNano())
	var running sync.WaitGroup
	running.Go(func() {
		defer close(r.sent)
		r.toVM()
	})
	r.toClient()
	running.Wait()
	r.close(Finished)
	if r.eof.Load() {
		r.conn.wire.halfClosed.Add(-1)
	}
}

// close ends both directions at once. The first reason is the one that counts. A
// client that does not close the channel, too, loses its connection.
func (r *relay) close(end End) {
	r.once.Do(func() {
		r.end = end
		r.overdue = time.AfterFunc(r.stall, func() { r.conn.end(Stalled) })
		r.vm.Close()
		r.channel.Close()
	})
}

// answer answers requests about the channel, which has nothing to set, until the
// client closes it; then it lets go of the VM. They are not held against anyone:
// PuTTY measures windows by asking for something that does not exist.
func (r *relay) answer(requests <-chan *ssh.Request) {
	ssh.DiscardRequests(requests)
	close(r.closed)
	<-r.sent
	r.close(r.clientEnd())
}

// linger keeps a channel that has ended until the client, too, has closed it:
// before that, the SSH library keeps it, and what still comes for it.
func (r *relay) linger() {
	r.conn.wire.waiting.Add(1)
	defer r.conn.wire.waiting.Add(-1)
	r.conn.discard(r.channel)
	<-r.closed
	r.overdue.Stop()
}

// quiet tells whether a client that has said it would send no more keeps to
// that. The SSH library takes what comes all the same, and somebody has to look.
func (r *relay) quiet() bool {
	if !r.eof.Load() {
		return true
	}
	var b [1]byte
	n, _ := r.channel.Read(b[:]) // does not wait after an end of file
	return n == 0
}

func (r *relay) moved(direction *atomic.Uint64, n int) {
	direction.Add(uint64(n))
	r.last.Store(time.Now().UnixNano())
}

// idle is how long no byte has moved.
func (r *relay) idle() time.Duration { return time.Since(time.Unix(0, r.last.Load())) }

// toVM carries what the client sends.
func (r *relay) toVM() {
	var small [keystrokes]byte
	for {
		n, err := r.channel.Read(small[:])
		r.conn.wire.take(n)
		if n > 0 && !r.writeVM(small[:n]) {
			return
		}
		if n == keystrokes && err == nil {
			err = r.bulk()
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			r.conn.wire.halfClosed.Add(1)
			r.eof.Store(true)
			// This is the client's end of file, or its going away. Who reads
			// the connection can tell, and closes with that reason.
			if err := r.vm.CloseWrite(); err != nil {
				r.close(r.vmEnd())
			}
			return
		default: // and closed already, unless the connection is
			r.close(r.clientEnd())
			return
		}
	}
}

// clientEnd is why the channel takes nothing more: the client has closed it,
// unless its connection is at its end.
func (r *relay) clientEnd() End { return r.conn.reason(Finished) }

// vmEnd is why the VM takes nothing more. One that has closed resets the
// connection when something comes after that, and has finished all the same.
func (r *relay) vmEnd() End {
	if r.vmDone.Load() {
		return Finished
	}
	return VMGone
}

// bulk reads with a large buffer for as long as the client fills small ones.
func (r *relay) bulk() error {
	b := batches.Get().(*[batchSize]byte)
	defer batches.Put(b)
	for {
		// Others first: those that decrypt fill the batch.
		runtime.Gosched()
		n, err := r.channel.Read(b[:])
		r.conn.wire.take(n)
		if n > 0 && !r.writeVM(b[:n]) {
			return io.ErrClosedPipe
		}
		if err != nil || n < keystrokes {
			return err
		}
	}
}

// writeVM hands over to the VM, which may take its time up to the stall timeout.
func (r *relay) writeVM(p []byte) bool {
	r.conn.wire.waiting.Add(1)
	defer r.conn.wire.waiting.Add(-1)
	if err := r.vm.SetWriteDeadline(time.Now().Add(r.stall)); err != nil {
		r.close(r.vmEnd())
		return false
	}
	if _, err := r.vm.Write(p); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			r.close(Stalled)
		} else {
			r.close(r.vmEnd())
		}
		return false
	}
	r.moved(&r.up, len(p))
	return true
}

// toClient carries what the VM sends.
func (r *relay) toClient() {
	raw, err := r.vm.SyscallConn()
	if err != nil {
		r.close(VMGone)
		return
	}
	for {
		b, n, err := readable(raw)
		if n > 0 {
			_, werr := r.channel.Write(b[:n])
			buffers.Put(b)
			if werr != nil {
				r.close(r.clientEnd())
				return
			}
			r.moved(&r.down, n)
			continue
		}
		if err != nil {
			r.close(VMGone)
			return
		}
		r.vmDone.Store(true)
		if err := r.channel.CloseWrite(); err != nil {
			r.close(r.clientEnd())
		}
		return
	}
}

// rawReader is the part of a syscall.RawConn that reading needs.
type rawReader interface {
	Read(func(fd uintptr) (done bool)) error
}

// readable waits for data and takes a buffer only then. The buffer is the
// caller's if n > 0; n == 0 without an error is the end.
func readable(raw rawReader) (b *[bufferSize]byte, n int, err error) {
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		b = buffers.Get().(*[bufferSize]byte)
		for {
			n, failed = unix.Read(int(fd), b[:])
			if failed != unix.EINTR {
				break
			}
		}
		if n > 0 {
			return true
		}
		buffers.Put(b)
		return failed != unix.EAGAIN
	})
	if err == nil {
		err = failed
	}
	return b, max(n, 0), err
}
