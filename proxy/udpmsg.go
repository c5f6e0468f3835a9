package proxy

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxDatagrams is what one message may hold: datagrams of one sender that the
	// kernel has joined (UDP_GRO), each as long as the first but the last.
	maxDatagrams = 64 << 10

	// maxMessages is how many one system call receives. Most often there is one;
	// a flood from many addresses fills all.
	maxMessages = 16

	// controlSize is enough for the control messages below, on sending and receiving.
	controlSize = 256
)

// messages is what recvmmsg(2) and sendmsg(2) read and write: made once for a
// loop, so that no datagram allocates. What the calls of package unix take and
// give, interfaces with addresses, would.
type messages struct {
	in      [maxMessages]unix.Mmsghdr
	iov     [maxMessages]unix.Iovec
	from    [maxMessages]rawAddr
	control [maxMessages][controlSize]byte
	space   []byte

	out        unix.Msghdr
	outIov     unix.Iovec
	to         rawAddr
	outControl [controlSize]byte
}

func newMessages() *messages {
	m := &messages{space: make([]byte, maxMessages*maxDatagrams)}
	for i := range m.in {
		m.iov[i].Base = &m.space[i*maxDatagrams]
		m.iov[i].SetLen(maxDatagrams)
		h := &m.in[i].Hdr
		h.Name, h.Iov, h.Control = &m.from[i][0], &m.iov[i], &m.control[i][0]
		h.SetIovlen(1)
	}
	m.out.Iov = &m.outIov
	m.out.SetIovlen(1)
	return m
}

// receive reads what is there, n messages; fewer than maxMessages say that there
// are no more.
func (m *messages) receive(fd int) (n int, err error) {
	for i := range m.in {
		h := &m.in[i].Hdr
		h.Namelen = rawAddrSize
		h.SetControllen(controlSize)
	}
	r, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.in[0])), maxMessages, unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// datagrams are what one message has brought.
type datagrams struct {
	bytes   []byte
	segment int  // length of each datagram
	ecn     byte // RFC 3168: passed on, so that congestion is heard of end to end
	from    netip.AddrPort
	to      netip.Addr // of this host; invalid from sockets that are connected
}

// at reads message i, whose bytes hold until the next receive.
func (m *messages) at(i int) (d datagrams) {
	n := int(m.in[i].Len)
	d.bytes, d.segment = m.space[i*maxDatagrams:][:n:n], n
	d.from = m.from[i].addrPort()
	for control := m.control[i][:m.in[i].Hdr.Controllen]; len(control) > 0; {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		control = rest
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			d.segment = max(1, int(binary.NativeEndian.Uint32(data)))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			d.ecn = data[0] & 3
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			d.ecn = byte(binary.NativeEndian.Uint32(data)) & 3
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= 12:
			d.to = netip.AddrFrom4([4]byte(data[8:])) // struct in_pktinfo: index, address of the route, of the header
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 20:
			d.to = netip.AddrFrom16([16]byte(data)) // struct in6_pktinfo: address, index
		}
	}
	return d
}

// send sends b, cut into datagrams of this length. To is nil for sockets that are
// connected, and from then not looked at. What the socket does not take is lost,
// as on any path.
func (m *messages) send(fd int, b []byte, segment int, ecn byte, v6 bool, to *rawAddr, from netip.Addr) error {
	var value [4]byte
	c := m.outControl[:0]
	if segment > 0 && segment < len(b) {
		binary.NativeEndian.PutUint16(value[:], uint16(segment))
		c = appendControl(c, unix.IPPROTO_UDP, unix.UDP_SEGMENT, value[:2])
	}
	if ecn != 0 {
		binary.NativeEndian.PutUint32(value[:], uint32(ecn))
		if v6 {
			c = appendControl(c, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, value[:])
		} else {
			c = appendControl(c, unix.IPPROTO_IP, unix.IP_TOS, value[:])
		}
	}
	if to != nil && from.IsValid() {
		var info [20]byte
		if v6 {
			a := from.As16()
			copy(info[:], a[:])
			c = appendControl(c, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info[:])
		} else {
			a := from.As4()
			copy(info[4:], a[:])
			c = appendControl(c, unix.IPPROTO_IP, unix.IP_PKTINFO, info[:12])
		}
	}
	m.outIov.Base = unsafe.SliceData(b)
	m.outIov.SetLen(len(b))
	m.out.Name, m.out.Namelen = nil, 0
	if to != nil {
		m.to = *to
		m.out.Name, m.out.Namelen = &m.to[0], m.to.size()
	}
	m.out.Control = nil
	if len(c) > 0 {
		m.out.Control = &c[0]
	}
	m.out.SetControllen(len(c))
	_, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.out)), unix.MSG_DONTWAIT)
	if e != 0 {
		return e
	}
	return nil
}

// appendControl adds a control message (cmsg(3)).
func appendControl(b []byte, level, kind int32, data []byte) []byte {
	start := len(b)
	b = b[:start+unix.CmsgSpace(len(data))]
	h := b[start:]
	at := unix.SizeofCmsghdr - 8
	if at == 8 {
		binary.NativeEndian.PutUint64(h, uint64(unix.CmsgLen(len(data))))
	} else {
		binary.NativeEndian.PutUint32(h, uint32(unix.CmsgLen(len(data))))
	}
	binary.NativeEndian.PutUint32(h[at:], uint32(level))
	binary.NativeEndian.PutUint32(h[at+4:], uint32(kind))
	copy(h[unix.CmsgLen(0):], data)
	return b
}

const rawAddrSize = unix.SizeofSockaddrInet6

// rawAddr is a struct sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)): family, port
// and address; with IPv6 there is a flow label between and a zone behind.
type rawAddr [rawAddrSize]byte

func rawAddrOf(a netip.AddrPort) (r rawAddr) {
	binary.BigEndian.PutUint16(r[2:], a.Port())
	if ip := a.Addr().Unmap(); ip.Is4() {
		binary.NativeEndian.PutUint16(r[:], unix.AF_INET)
		b := ip.As4()
		copy(r[4:], b[:])
	} else {
		binary.NativeEndian.PutUint16(r[:], unix.AF_INET6)
		b := ip.As16()
		copy(r[8:], b[:])
	}
	return r
}

func (r *rawAddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(r[2:])
	switch binary.NativeEndian.Uint16(r[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(r[4:])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(r[8:])).Unmap(), port)
	}
	return netip.AddrPort{}
}

func (r *rawAddr) size() uint32 {
	if binary.NativeEndian.Uint16(r[:]) == unix.AF_INET {
		return unix.SizeofSockaddrInet4
	}
	return unix.SizeofSockaddrInet6
}
