package lab_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

const impairPatience = 60 * time.Second

// impaired is two hosts with an IPv4 link that does harm.
func impaired(t *testing.T, c lab.LinkConfig) (x, y *lab.Host) {
	t.Helper()
	l := labtest.New(t, "test-impair")
	x, y = labtest.Host(t, l, "x"), labtest.Host(t, l, "y")
	for _, h := range []*lab.Host{x, y} {
		// What IPv6 says by itself would be counted as well.
		must(t, h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"))
	}
	must(t, l.Link(x, y, c))
	must(t, x.Addr("eth0", "192.0.2.1/24"))
	must(t, y.Addr("eth0", "192.0.2.2/24"))
	return x, y
}

// What arrives is what the counters say: so many lost, so many twice, so many
// out of order, and each with the bytes that it left with.
func TestImpairDatagrams(t *testing.T) {
	for _, tt := range []struct {
		name string
		what lab.Impairment
	}{
		{"harmless", lab.Impairment{}},
		{"loss", lab.Impairment{Loss: 0.1}},
		{"reordering", lab.Impairment{Reorder: 0.1, By: 2}},
		{"duplication", lab.Impairment{Duplicate: 0.1}},
		{"all", lab.Impairment{Loss: 0.05, Reorder: 0.05, Duplicate: 0.05}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := lab.NewImpairer(1)
			x, y := impaired(t, lab.LinkConfig{Impair: i})
			sink, err := y.ListenPacket("udp4", ":7")
			must(t, err)
			defer sink.Close()
			raw, err := sink.(*net.UDPConn).SyscallConn()
			must(t, err)
			must(t, raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
			}))
			must(t, err)
			c, err := x.Dial(context.Background(), "udp4", "192.0.2.2:7")
			must(t, err)
			defer c.Close()
			// Neighbours are found without harm.
			_, err = c.Write([]byte("first"))
			must(t, err)
			must(t, sink.SetReadDeadline(time.Now().Add(impairPatience)))
			_, _, err = sink.ReadFrom(make([]byte, 10))
			must(t, err)

			before := i.Counts()
			i.Set(tt.what)
			const sent = 1000
			payload := make([]byte, 1000)
			for n := range uint32(sent) {
				binary.BigEndian.PutUint32(payload, n)
				_, err := c.Write(payload)
				must(t, err)
			}
			var late, twice uint64
			seen := map[uint32]bool{}
			newest := int64(-1)
			for b := make([]byte, 2000); ; {
				must(t, sink.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
				n, _, err := sink.ReadFrom(b)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				must(t, err)
				k := binary.BigEndian.Uint32(b)
				if n != len(payload) || !bytes.Equal(b[4:n], payload[4:]) {
					t.Fatalf("datagram %d has %d bytes, or others than were sent", k, n)
				}
				switch {
				case seen[k]:
					twice++
				case int64(k) < newest:
					late++
				}
				seen[k] = true
				newest = max(newest, int64(k))
			}
			lost := sent - uint64(len(seen))
			got := i.Counts()
			for _, c := range []struct {
				name       string
				wanted     bool
				have, says uint64
			}{
				{"lost", tt.what.Loss > 0, lost, got.Lost - before.Lost},
				{"reordered", tt.what.Reorder > 0, late, got.Reordered - before.Reordered},
				{"duplicated", tt.what.Duplicate > 0, twice, got.Duplicated - before.Duplicated},
			} {
				if c.have != c.says || c.wanted != (c.says > 0) {
					t.Errorf("%s: %d, the counter says %d", c.name, c.have, c.says)
				}
			}
			if got.Failed != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Superpackets and partial checksums cross as they are, and what TCP delivers
// is what was sent.
func TestImpairStream(t *testing.T) {
	for _, offload := range []bool{true, false} {
		name := "without offload"
		if offload {
			name = "with offload"
		}
		t.Run(name, func(t *testing.T) {
			i := lab.NewImpairer(2)
			i.Set(lab.Impairment{Loss: 0.01, Reorder: 0.02, Duplicate: 0.01})
			x, y := impaired(t, lab.LinkConfig{Impair: i, ChecksumOffload: offload, GRO: offload})
			l, err := y.Listen("tcp4", ":7")
			must(t, err)
			defer l.Close()
			size := 8 << 20
			if testing.Short() {
				size = 2 << 20
			}
			data := make([]byte, size)
			_, _ = rand.Read(data)
			sent := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), impairPatience)
				defer cancel()
				c, err := x.Dial(ctx, "tcp4", "192.0.2.2:7")
				if err == nil {
					_, err = c.Write(data)
					err = errors.Join(err, c.Close())
				}
				sent <- err
			}()
			must(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(impairPatience)))
			c, err := l.Accept()
			must(t, err)
			defer c.Close()
			must(t, c.SetDeadline(time.Now().Add(impairPatience)))
			got, err := io.ReadAll(c)
			must(t, err)
			must(t, <-sent)
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes arrived, and not those %d that were sent", len(got), len(data))
			}
			n := i.Counts()
			if n.Lost == 0 || n.Reordered == 0 || n.Duplicated == 0 || n.Failed != 0 || (n.Super > 0) != offload {
				t.Errorf("%+v", n)
			}
		})
	}
}

func TestImpairerServesOneLink(t *testing.T) {
	i := lab.NewImpairer(3)
	l := labtest.New(t, "test-impair")
	x, y := labtest.Host(t, l, "x"), labtest.Host(t, l, "y")
	must(t, l.Link(x, y, lab.LinkConfig{Impair: i}))
	if err := l.Link(x, y, lab.LinkConfig{NameA: "eth1", NameB: "eth1", Impair: i}); err == nil {
		t.Error("it was used for a second link")
	}
}
