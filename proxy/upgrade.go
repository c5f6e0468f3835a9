package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/proxy/http1"
)

// mayUpgrade tells whether a client may get another protocol on its connection
// (RFC 9110 section 7.8): the same rule as that by which the checker pauses.
func mayUpgrade(r *http.Request) bool {
	if r.ProtoMajor != 1 || r.ProtoMinor == 0 || r.ContentLength != 0 || len(r.TransferEncoding) > 0 ||
		http1.Upgrade(strings.Join(r.Header["Upgrade"], ", ")) == "" {
		return false
	}
	for _, v := range r.Header["Connection"] {
		for option := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(option, " \t"), "upgrade") {
				return true
			}
		}
	}
	return false
}

// switched is called when a VM agrees to another protocol.
func (x *exchange) switched(r *http.Response) error {
	body, ok := r.Body.(io.ReadWriteCloser)
	if !x.upgrade || !ok {
		return errRefused
	}
	x.record.Protocol, x.record.Status = Upgraded, http.StatusSwitchingProtocols
	x.headers.Store(true)
	x.conn.decide(otherProtocol)
	r.Body = &tunnel{body, x}
	return nil
}

// tunnel is a VM's side of another protocol. Such connections are mostly silent,
// and many: a buffer is taken when there is something to read, and given back.
type tunnel struct {
	io.ReadWriteCloser
	x *exchange
}

// WriteTo implements [io.WriterTo]: from the VM to the client.
func (t *tunnel) WriteTo(client io.Writer) (int64, error) {
	down := direction{&t.x.down, BrokenByVM, BrokenByUser}
	vm, _ := t.x.backend.Conn.(*net.TCPConn)
	if vm == nil {
		return io.Copy(client, struct{ io.Reader }{t.ReadWriteCloser})
	}
	// What came with the VM's head is in the body only.
	buffer := bufferPool{}.Get()
	_ = vm.SetReadDeadline(time.Unix(1, 0))
	n, _ := t.ReadWriteCloser.Read(buffer)
	_ = vm.SetReadDeadline(time.Time{})
	err := down.pass(t.x, client, buffer[:n])
	bufferPool{}.Put(buffer)
	if err == nil {
		err = down.carry(t.x, client, t.ReadWriteCloser, func() error { return readable(vm) })
	}
	return 0, err
}

// ReadFrom implements [io.ReaderFrom]: from the client to the VM.
func (t *tunnel) ReadFrom(client io.Reader) (int64, error) {
	up := direction{&t.x.up, BrokenByUser, BrokenByVM}
	return 0, up.carry(t.x, t.ReadWriteCloser, client, t.x.conn.readable)
}

// direction is one of two.
type direction struct {
	sum      *atomic.Uint64
	from, to Result // if that side breaks
}

// carry copies until the end of src. wait returns when src can be read.
func (d direction) carry(x *exchange, dst io.Writer, src io.Reader, wait func() error) error {
	for {
		err := wait()
		if err == nil {
			var n int
			buffer := bufferPool{}.Get()
			n, err = src.Read(buffer)
			writeErr := d.pass(x, dst, buffer[:n])
			bufferPool{}.Put(buffer)
			if writeErr != nil {
				return writeErr
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			d.broken(x, d.from, err)
			return err
		}
	}
}

func (d direction) pass(x *exchange, dst io.Writer, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := dst.Write(b)
	d.sum.Add(uint64(n))
	x.progress()
	if err != nil {
		d.broken(x, d.to, err)
	}
	return err
}

// broken notes whose side broke, unless this host has ended it.
func (d direction) broken(x *exchange, side Result, err error) {
	if !errors.Is(err, net.ErrClosed) && !isTimeout(err) {
		x.fail(side, "")
	}
}

// CloseWrite tells the VM that nothing more comes.
func (t *tunnel) CloseWrite() error {
	return t.ReadWriteCloser.(interface{ CloseWrite() error }).CloseWrite()
}

// readable waits until something, or the end, can be read.
func readable(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	// A connection's error is told once: to whoever asks first.
	var broken error
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, broken = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return broken != unix.EAGAIN && broken != unix.EINTR
	})
	if err != nil {
		return err
	}
	return broken
}

// readable waits until Read has something.
func (c *webConn) readable() error {
	if len(c.held) > 0 {
		return nil
	}
	return readable(c.Conn.(*net.TCPConn))
}
