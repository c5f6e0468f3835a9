package nat44

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// attribute builds one netlink attribute, padded.
func attribute(kind uint16, v ...[]byte) (b []byte) {
	b = make([]byte, nlaHdrLen)
	for _, v := range v {
		b = append(b, v...)
	}
	binary.NativeEndian.PutUint16(b, uint16(len(b)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

// connection is how the kernel tells of a UDP or ICMP connection.
func connection(protocol uint8, portKind uint16) []byte {
	const nested = unix.NLA_F_NESTED
	return append(append(
		attribute(ctaTupleOrig|nested,
			attribute(ctaTupleIP|nested, attribute(ctaIPv4Src, []byte{100, 64, 0, 1}), attribute(ctaIPv4Dst, []byte{203, 0, 113, 2})),
			attribute(ctaTupleProto|nested, attribute(ctaProtoNum, []byte{protocol}), attribute(portKind, []byte{0, 53}))),
		attribute(ctaTupleReply|nested,
			attribute(ctaTupleIP|nested, attribute(ctaIPv4Src, []byte{203, 0, 113, 2}), attribute(ctaIPv4Dst, []byte{203, 0, 113, 1})),
			attribute(ctaTupleProto|nested, attribute(ctaProtoNum, []byte{protocol}), attribute(portKind, []byte{5, 1})))...),
		attribute(ctaID, []byte{1, 2, 3, 4})...)
}

func TestParseConnection(t *testing.T) {
	for _, c := range []struct {
		name     string
		b        []byte
		protocol uint8
		ok       bool
	}{
		{"UDP", connection(unix.IPPROTO_UDP, ctaProtoDst), unix.IPPROTO_UDP, true},
		{"ICMP", connection(unix.IPPROTO_ICMP, ctaProtoICMPID), unix.IPPROTO_ICMP, true},
		{"no answers' tuple", connection(unix.IPPROTO_UDP, ctaProtoDst)[:44], unix.IPPROTO_UDP, false},
		{"nothing", nil, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f flow
			ok := new(conntrack).parse(c.b, &f)
			if ok != c.ok {
				t.Fatalf("ok is %t", ok)
			}
			if !ok {
				return
			}
			if f.source != netip.MustParseAddr("100.64.0.1") || f.shared != sharedAddr || f.protocol != c.protocol || f.port != 0x501 {
				t.Errorf("%+v", f)
			}
			if len(f.key) != 44+8 {
				t.Errorf("the key has %d bytes", len(f.key))
			}
		})
	}
}

func FuzzAnswers(f *testing.F) {
	c := connection(unix.IPPROTO_UDP, ctaProtoDst)
	m := make([]byte, nlmsgHdrLen+nfgenmsgLen)
	binary.NativeEndian.PutUint32(m, uint32(len(m)+len(c)))
	f.Add(append(m, c...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := new(conntrack)
		if len(b) >= nlmsgHdrLen {
			c.seq = binary.NativeEndian.Uint32(b[8:])
		}
		_, _ = c.answers(b, func(_ uint16, b []byte) {
			var f flow
			if c.parse(b, &f) && (!f.source.Is4() || len(f.key) == 0) {
				t.Errorf("%+v", f)
			}
		})
	})
}
