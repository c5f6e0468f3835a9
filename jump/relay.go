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

// maxBatches is how many may be in use: VMs that take nothing hold them. Beyond
// that, a buffer has to do.
const maxBatches = 128

var inBulk atomic.Int32

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

	in, errors *intake // what the client sends, and what it sends as error output

	up, down atomic.Uint64
	last     atomic.Int64 // when a byte moved, UnixNano
	vmDone   atomic.Bool  // the VM has closed
	eof      atomic.Bool  // the client has, and the channel is not read any more

	listening atomic.Bool // for what comes all the same

	offered atomic.Int64 // since when the client has been offered something, UnixNano; 0: nothing

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
}

// close ends both directions at once. The first reason is the one that counts. A
// client that does not close the channel, too, loses its connection.
func (r *relay) close(end End) {
	r.once.Do(func() {
		r.end = end
		r.overdue = time.AfterFunc(r.stall, func() { r.conn.end(Stalled) })
		if end == Stalled {
			// A VM that takes nothing would leave the kernel with its bytes.
			_ = r.vm.SetLinger(0)
		}
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
	defer r.conn.wire.backlog.remove(r.in)
	defer r.conn.wire.backlog.remove(r.errors)
	defer r.overdue.Stop()
	r.in.discard(r.channel)
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-r.closed:
			return
		case <-ticker.C:
			r.listen()
		}
	}
}

// stuck ends a relay whose VM takes too little, for the sake of the others.
func (r *relay) stuck() { r.close(Stalled) }

// watch ends what has timed out.
func (r *relay) watch(t *Timeouts) {
	offered := r.offered.Load()
	switch {
	case offered != 0 && time.Since(time.Unix(0, offered)) > r.stall:
		go r.close(Stalled) // writes to the client
	case r.idle() > t.Idle:
		go r.close(Idled)
	}
	if r.eof.Load() && r.listening.CompareAndSwap(false, true) {
		go func() {
			r.listen()
			r.listening.Store(false)
		}()
	}
}

// listen ends the connection of a client that has said it would send no more and
// does. The SSH library takes what comes all the same. It may write to the client.
func (r *relay) listen() {
	var b [1]byte
	// These do not wait after an end of file.
	n, _ := r.in.read(r.channel, b[:])
	m, _ := r.errors.read(r.channel.Stderr(), b[:])
	if n+m > 0 {
		r.conn.end(ClientGone)
	}
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
		n, err := r.in.read(r.channel, small[:])
		if n > 0 && !r.writeVM(small[:n]) {
			return
		}
		if n == keystrokes && err == nil {
			err = r.bulk()
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
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
	var b []byte
	if inBulk.Add(1) <= maxBatches {
		batch := batches.Get().(*[batchSize]byte)
		defer batches.Put(batch)
		b = batch[:]
	} else {
		buffer := buffers.Get().(*[bufferSize]byte)
		defer buffers.Put(buffer)
		b = buffer[:]
	}
	defer inBulk.Add(-1)
	for {
		// Others first: those that decrypt fill the batch.
		runtime.Gosched()
		n, err := r.in.read(r.channel, b)
		if n > 0 && !r.writeVM(b[:n]) {
			return io.ErrClosedPipe
		}
		if err != nil || n < keystrokes {
			return err
		}
	}
}

// writeVM hands over to the VM, which may take its time, and nothing at all for up
// to the stall timeout.
func (r *relay) writeVM(p []byte) bool {
	for len(p) > 0 {
		if err := r.vm.SetWriteDeadline(time.Now().Add(r.stall)); err != nil {
			r.close(r.vmEnd())
			return false
		}
		n, err := r.vm.Write(p)
		if n > 0 {
			r.moved(&r.up, n)
		}
		p = p[n:]
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			r.close(r.vmEnd())
			return false
		case n == 0:
			r.close(Stalled)
			return false
		}
	}
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
			r.offered.Store(time.Now().UnixNano())
			_, werr := r.channel.Write(b[:n])
			r.offered.Store(0)
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
