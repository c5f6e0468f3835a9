package relay

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// TestLikeDirect has two peers do random things, over the relay and without it:
// what each of them hears must be the same, to the byte and to how it ends.
func TestLikeDirect(t *testing.T) {
	rounds := uint64(150)
	if testing.Short() {
		rounds = 30
	}
	var mu sync.Mutex
	scripts := map[byte]func(*net.TCPConn){}
	good := backend(t, func(c *net.TCPConn) {
		var which [1]byte
		if _, err := io.ReadFull(c, which[:]); err != nil {
			return
		}
		mu.Lock()
		f := scripts[which[0]]
		mu.Unlock()
		f(c)
	})
	s, at := serve(t, Config{}, to(good))
	var all sync.WaitGroup
	for seed := range rounds {
		if seed%8 == 0 {
			all.Wait()
		}
		all.Go(func() {
			direct := converse(t, good, seed, byte(2*seed), &mu, scripts)
			relayed := converse(t, at, seed, byte(2*seed+1), &mu, scripts)
			if direct != relayed {
				t.Errorf("seed %d: direct %s; relayed %s", seed, direct, relayed)
			}
		})
	}
	all.Wait()
	eventually(t, "all to end", func() bool { return s.Stats().Open == 0 })
}

// converse plays the script of a seed and tells what both sides heard.
func converse(t *testing.T, at netip.AddrPort, seed uint64, which byte, mu *sync.Mutex, scripts map[byte]func(*net.TCPConn)) string {
	var heardBackend string
	done := make(chan struct{})
	mu.Lock()
	scripts[which] = func(c *net.TCPConn) {
		defer close(done)
		heardBackend = play(c, seed, 1)
	}
	mu.Unlock()
	c := dialTo(t, at)
	defer c.Close()
	say(t, c, string([]byte{which}))
	heardClient := play(c, seed, 2)
	<-done
	return fmt.Sprintf("client: %s, backend: %s", heardClient, heardBackend)
}

// play writes and, at the same time, reads. It says what it heard.
func play(c *net.TCPConn, seed, side uint64) string {
	r := rand.New(rand.NewPCG(seed, side))
	var writing sync.WaitGroup
	writing.Go(func() {
		data := noise(1<<20, seed+side)
		for range r.IntN(12) {
			n := r.IntN(1 << r.IntN(20))
			if _, err := c.Write(data[:n]); err != nil {
				return
			}
			if r.IntN(4) == 0 {
				time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
			}
		}
		_ = c.CloseWrite()
	})
	pace := rand.New(rand.NewPCG(seed, side+10))
	var heard, b = sumOf{}, make([]byte, 64<<10)
	for {
		n, err := c.Read(b[:1+pace.IntN(len(b))])
		heard.add(b[:n])
		if err != nil {
			writing.Wait()
			return fmt.Sprintf("%v then %v", heard, err == io.EOF)
		}
		if pace.IntN(32) == 0 {
			time.Sleep(time.Duration(pace.IntN(1000)) * time.Microsecond)
		}
	}
}

// sumOf is a length and a checksum that does not depend on how it is cut.
type sumOf struct{ n, sum uint64 }

func (s *sumOf) add(b []byte) {
	for _, x := range b {
		s.sum = s.sum*1099511628211 + uint64(x) + 1
	}
	s.n += uint64(len(b))
}
