package nat44

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// A connection of conntrack comes as a netlink message; attributes in brackets
// are nested (linux/netfilter/nfnetlink_conntrack.h):
//
//	nlmsghdr 16 | nfgenmsg 4 | [tuple of the first packet] [tuple of answers] ... id ... zone
//	tuple: [ip: source, destination] [proto: number, source port, destination port | ICMP id]
const (
	nlmsgHdrLen = 16
	nfgenmsgLen = 4
	nlaHdrLen   = 4
	nlaType     = 0x3fff // without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER

	subsystem = unix.NFNL_SUBSYS_CTNETLINK << 8
	ctGet     = subsystem | 1 // IPCTNL_MSG_CT_GET
	ctDelete  = subsystem | 2 // IPCTNL_MSG_CT_DELETE

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaID         = 12
	ctaZone       = 18

	ctaTupleIP     = 1
	ctaTupleProto  = 2
	ctaIPv4Src     = 1
	ctaIPv4Dst     = 2
	ctaProtoNum    = 1
	ctaProtoDst    = 3
	ctaProtoICMPID = 4

	// dumpBuffer is what one answer may need at most: the kernel makes them
	// as large as the reads before, up to 32 KB.
	dumpBuffer    = 1 << 16
	answerSeconds = 5 // a dump that says nothing for so long is broken
)

// flow is a connection that began with IPv4.
type flow struct {
	source   netip.Addr // of the first packet
	shared   netip.Addr // where answers go to
	protocol uint8
	port     uint16 // where answers go to; ICMP: the identifier
	key      []byte // attributes that name it, valid during the callback
}

// conntrack is a netlink socket in the network namespace of the thread that
// made it. The library that isthmus has for links and routes reads a list of
// connections as a whole into memory, which may be 100 MB.
type conntrack struct {
	mu  sync.Mutex
	fd  int
	buf []byte
	key []byte
	seq uint32
}

func openConntrack() (*conntrack, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	c := &conntrack{fd: fd, buf: make([]byte, dumpBuffer)}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerSeconds}),
	)
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *conntrack) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// each calls do for every connection. complete is false where the list changed
// so that some may have been left out.
func (c *conntrack) each(do func(*flow)) (complete bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dump(do)
}

// forget removes the connections that which tells, and says how many.
func (c *conntrack) forget(which func(*flow) bool) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 3 {
		var keys [][]byte
		complete, err := c.dump(func(f *flow) {
			if which(f) {
				keys = append(keys, append([]byte(nil), f.key...))
			}
		})
		if err != nil {
			return n, err
		}
		for _, k := range keys {
			// It may have ended by itself.
			if err := c.request(ctDelete, unix.NLM_F_ACK, k, nil); err == nil {
				n++
			} else if !errors.Is(err, unix.ENOENT) {
				return n, fmt.Errorf("forget a connection: %w", err)
			}
		}
		if complete {
			break
		}
	}
	return n, nil
}

func (c *conntrack) dump(do func(*flow)) (complete bool, err error) {
	complete = true
	err = c.request(ctGet, unix.NLM_F_DUMP, nil, func(flags uint16, b []byte) {
		complete = complete && flags&unix.NLM_F_DUMP_INTR == 0
		var f flow
		if c.parse(b, &f) {
			do(&f)
		}
	})
	return complete, err
}

// request sends one message and hands each message of the answer to do, until
// the kernel says that it is done.
func (c *conntrack) request(kind, flags uint16, attributes []byte, do func(flags uint16, b []byte)) error {
	if c.fd < 0 {
		return errClosed
	}
	c.seq++
	m := make([]byte, nlmsgHdrLen+nfgenmsgLen, nlmsgHdrLen+nfgenmsgLen+len(attributes))
	m = append(m, attributes...)
	binary.NativeEndian.PutUint32(m[0:], uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], flags|unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(m[8:], c.seq)
	m[nlmsgHdrLen] = unix.AF_INET
	if err := unix.Sendto(c.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		done, err := c.answers(c.buf[:n], do)
		if done || err != nil {
			return err
		}
	}
}

// answers walks the messages of one datagram.
func (c *conntrack) answers(b []byte, do func(flags uint16, b []byte)) (done bool, err error) {
	for len(b) >= nlmsgHdrLen {
		size := int(binary.NativeEndian.Uint32(b))
		if size < nlmsgHdrLen || size > len(b) {
			return true, errors.New("netlink message with a wrong length")
		}
		kind, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		body := b[nlmsgHdrLen:size]
		// What is left of an earlier request that failed is not for this one.
		if binary.NativeEndian.Uint32(b[8:]) == c.seq {
			switch kind {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if len(body) < 4 {
					return true, nil
				}
				if e := int32(binary.NativeEndian.Uint32(body)); e < 0 {
					return true, unix.Errno(-e)
				}
				return true, nil
			default:
				if do != nil && len(body) >= nfgenmsgLen {
					do(flags, body[nfgenmsgLen:])
				}
			}
		}
		b = b[min(align(size), len(b)):]
	}
	return false, nil
}

// parse reads the attributes of a connection. False: not one of IPv4.
func (c *conntrack) parse(b []byte, f *flow) bool {
	c.key = c.key[:0]
	attributes(b, func(kind uint16, whole, v []byte) {
		switch kind {
		case ctaTupleOrig:
			f.source, _, f.protocol, _ = tuple(v)
			c.key = append(c.key, whole...)
		case ctaTupleReply:
			_, f.shared, _, f.port = tuple(v)
		case ctaID, ctaZone:
			c.key = append(c.key, whole...)
		}
	})
	f.key = c.key
	return f.source.IsValid() && f.shared.IsValid()
}

// tuple reads addresses, protocol, and the port at the destination.
func tuple(b []byte) (src, dst netip.Addr, protocol uint8, port uint16) {
	attributes(b, func(kind uint16, _, v []byte) {
		switch kind {
		case ctaTupleIP:
			attributes(v, func(kind uint16, _, v []byte) {
				if len(v) != 4 {
					return
				}
				switch kind {
				case ctaIPv4Src:
					src = netip.AddrFrom4([4]byte(v))
				case ctaIPv4Dst:
					dst = netip.AddrFrom4([4]byte(v))
				}
			})
		case ctaTupleProto:
			attributes(v, func(kind uint16, _, v []byte) {
				switch {
				case kind == ctaProtoNum && len(v) == 1:
					protocol = v[0]
				case (kind == ctaProtoDst || kind == ctaProtoICMPID) && len(v) == 2:
					port = binary.BigEndian.Uint16(v)
				}
			})
		}
	})
	return src, dst, protocol, port
}

// attributes calls do for each attribute; whole includes header and padding.
func attributes(b []byte, do func(kind uint16, whole, v []byte)) {
	for len(b) >= nlaHdrLen {
		size := int(binary.NativeEndian.Uint16(b))
		if size < nlaHdrLen || size > len(b) {
			return
		}
		end := min(align(size), len(b))
		do(binary.NativeEndian.Uint16(b[2:])&nlaType, b[:end], b[nlaHdrLen:size])
		b = b[end:]
	}
}

func align(n int) int { return (n + 3) &^ 3 }
