package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/proxy/http1"
	"aarch64.com/isthmus/proxy/relay"
	"aarch64.com/isthmus/proxy/routes"
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
	x.tunnel = &tunnel{ReadWriteCloser: body, x: x}
	r.Body = x.tunnel
	return nil
}

// tunnel is a VM's side of another protocol. The ReverseProxy writes the VM's
// answer to the client and begins to copy. That is when both connections go to the
// event loops: such connections are mostly silent, and many.
type tunnel struct {
	io.ReadWriteCloser
	x          *exchange
	once       sync.Once
	handedOver bool
}

var errHandedOver = errors.New("the event loops have both connections")

// WriteTo implements [io.WriterTo], for what comes from the VM.
func (t *tunnel) WriteTo(io.Writer) (int64, error) {
	t.once.Do(t.handOver)
	return 0, errHandedOver
}

// ReadFrom implements [io.ReaderFrom], for what comes from the client.
func (t *tunnel) ReadFrom(io.Reader) (int64, error) {
	t.once.Do(t.handOver)
	return 0, errHandedOver
}

// upgraded is what is kept of an exchange.
type upgraded struct {
	record Record
	joined *routes.Route
}

// handOver has the event loops relay. net/http closes its own descriptors of the
// connections.
func (t *tunnel) handOver() {
	x, c := t.x, t.x.conn
	vm, _ := x.backend.Conn.(syscall.Conn)
	if vm == nil {
		x.fail(BrokenByVM, fmt.Sprintf("no socket: %T", x.backend.Conn))
		return
	}
	a := relay.Adopted{
		From: c.client, To: c.local, VM: x.backend.to, Tag: &upgraded{x.record, x.joined},
		Up: append([]byte(nil), c.held...), Down: t.early(),
	}
	var err error
	if a.Client, err = duplicate(c.Conn.(*socket)); err != nil {
		x.fail(BrokenByUser, err.Error())
		return
	}
	if a.Backend, err = duplicate(vm); err != nil {
		unix.Close(a.Client)
		x.fail(BrokenByVM, err.Error())
		return
	}
	c.kept = true
	if !c.web.loops.Adopt(a) {
		c.kept = false
		unix.Close(a.Client)
		unix.Close(a.Backend)
		x.fail(Stopped, "")
		return
	}
	t.handedOver = true
}

// early is what came with the VM's head. The Transport has read it, and gives it
// without a look at the connection.
func (t *tunnel) early() []byte {
	_ = t.x.backend.SetReadDeadline(time.Unix(1, 0))
	b := bufferPool{}.Get()
	defer bufferPool{}.Put(b)
	n, _ := t.Read(b)
	return append([]byte(nil), b[:n]...)
}

// duplicate gives a descriptor of a connection that outlives it.
func duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, err
}

// Closed implements [relay.Judge].
func (w *web) Closed(c *relay.Conn) {
	w.server.limiter.leave(c.From.Addr())
	u, _ := c.Tag.(*upgraded)
	if u == nil {
		w.open.Add(-1)
		return
	}
	if u.joined != nil {
		w.server.limiter.part(u.joined.Host, u.joined.Project)
	}
	r := &u.record
	r.Result, r.Why = endOf(c)
	r.Up, r.Down, r.Took = c.Up, c.Down, time.Since(r.Start)
	w.server.record(r)
}
