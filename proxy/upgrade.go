package proxy

import (
	"io"
	"net/http"
	"strings"

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

// tunnel is a VM's side of another protocol.
type tunnel struct {
	io.ReadWriteCloser
	x *exchange
}

// Read implements [io.Reader].
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(p)
	t.x.down.Add(uint64(n))
	t.x.progress()
	if err != nil && err != io.EOF && t.x.request.Context().Err() == nil {
		t.x.fail(BrokenByVM, "")
	}
	return n, err
}

// Write implements [io.Writer].
func (t *tunnel) Write(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Write(p)
	t.x.up.Add(uint64(n))
	t.x.progress()
	return n, err
}

// CloseWrite tells the VM that nothing more comes.
func (t *tunnel) CloseWrite() error {
	return t.ReadWriteCloser.(interface{ CloseWrite() error }).CloseWrite()
}
