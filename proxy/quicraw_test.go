package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
)

// rawVM is a backend that is told what to answer.
type rawVM struct {
	*net.UDPConn
	t    *testing.T
	name string
	peer netip.AddrPort // who was heard last
}

func newRawVM(t *testing.T, name string) *rawVM {
	t.Helper()
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &rawVM{c, t, name, netip.AddrPort{}}
}

// route leads to the VM.
func (v *rawVM) route(host, project string) routes.Route {
	r := route(host, v.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	r.Project = project
	return r
}

// next is the next datagram.
func (v *rawVM) next() []byte {
	v.t.Helper()
	b := make([]byte, 2000)
	_ = v.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, from, err := v.ReadFromUDPAddrPort(b)
	if err != nil {
		v.t.Fatalf("%s: %v", v.name, err)
	}
	v.peer = from
	return b[:n]
}

// expect fails unless the next datagram is this one.
func (v *rawVM) expect(want []byte) {
	v.t.Helper()
	if got := v.next(); !bytes.Equal(got, want) {
		v.t.Fatalf("%s gets %.60q, want %.60q", v.name, got, want)
	}
}

// rawClient is a visitor that can send anything.
type rawClient struct {
	*net.UDPConn
	w *world
}

func (w *world) rawClient() *rawClient {
	w.t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return &rawClient{c, w}
}

func (c *rawClient) send(b []byte) {
	c.w.t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, c.w.at); err != nil {
		c.w.t.Fatal(err)
	}
}

func (c *rawClient) next() []byte {
	c.w.t.Helper()
	b := make([]byte, 2000)
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := c.Read(b)
	if err != nil {
		c.w.t.Fatal(err)
	}
	return b[:n]
}

// short is a datagram with a short header.
func short(id, text string) []byte { return append([]byte("\x40"+id), text...) }

// long is one with a Handshake packet's header.
func long(dcid, scid []byte, text string) []byte {
	b := append([]byte("\xe0\x00\x00\x00\x01"), byte(len(dcid)))
	b = append(append(b, dcid...), byte(len(scid)))
	return append(append(b, scid...), "\x40\x20"+text+string(make([]byte, 30))...)
}

// established is a flow whose client has been heard with the backend's id. It gives
// the client's own.
func (c *rawClient) established(host string, v *rawVM, id string) (scid []byte) {
	t := c.w.t
	t.Helper()
	hello := helloOf(t, host)
	h, _ := sniff.ParseLongHeader(hello[0])
	for _, b := range hello {
		c.send(b)
	}
	for _, b := range hello {
		v.expect(b)
	}
	answer := long(h.SCID, []byte(id), "answer")
	if _, err := v.WriteToUDPAddrPort(answer, v.peer); err != nil {
		t.Fatal(err)
	}
	if got := c.next(); !bytes.Equal(got, answer) {
		t.Fatalf("the client gets %.60q", got)
	}
	finished := long([]byte(id), h.SCID, "finished")
	c.send(finished)
	v.expect(finished)
	return h.SCID
}

const (
	idA = "AAAAaaaa"
	idB = "BBBBbbbb"
	idX = "XXXXxxxx" // known to nobody
)

// counted waits for a counter.
func (w *world) counted(what string, n uint64, count func(QUICStats) uint64) {
	w.t.Helper()
	eventually(w.t, what, func() bool { return count(w.Stats().QUIC) == n })
}

func mixed(s QUICStats) uint64 { return s.Mixed }

func stray(s QUICStats) uint64 { return s.Stray }
