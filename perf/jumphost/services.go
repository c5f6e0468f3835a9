package jumphost

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"

	"aarch64.com/isthmus/perf/lab"
)

// services are what listens in the VM: a sink counts what it takes, a source what
// it gives, and an echo gives back.
type services struct {
	listeners   []net.Listener
	up, down    atomic.Int64 // bytes taken and given
	connections atomic.Int64 // of sink and source, that have moved something
}

// chunk is what sink and source hand to the kernel at once, in bytes.
const chunk = 256 << 10

func serve(vm *lab.Host) (*services, error) {
	s := &services{}
	for _, one := range []struct {
		addr  netip.Addr
		serve func(net.Conn)
	}{{sinkAddr, s.sink}, {sourceAddr, s.source}, {echoAddr, echo}} {
		l, err := vm.Listen("tcp", netip.AddrPortFrom(one.addr, vmPort).String())
		if err != nil {
			s.close()
			return nil, err
		}
		s.listeners = append(s.listeners, l)
		go func() {
			for {
				c, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil {
					continue // a connection that has gone already
				}
				go func() {
					defer c.Close()
					one.serve(c)
				}()
			}
		}()
	}
	return s, nil
}

func (s *services) sink(c net.Conn)   { s.move(c.Read, &s.up) }
func (s *services) source(c net.Conn) { s.move(c.Write, &s.down) }

func (s *services) move(op func([]byte) (int, error), total *atomic.Int64) {
	b := make([]byte, chunk)
	for first := true; ; first = false {
		n, err := op(b)
		total.Add(int64(n))
		if first && n > 0 {
			s.connections.Add(1)
			defer s.connections.Add(-1)
		}
		if err != nil {
			return
		}
	}
}

func echo(c net.Conn) {
	var b [64]byte
	for {
		n, err := c.Read(b[:])
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

func (s *services) close() {
	for _, l := range s.listeners {
		l.Close()
	}
}
