package equivalence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/golden"
	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// countEnv names the environment variable that says how many generated packets
// to compare.
const countEnv = "ISTHMUS_EQUIVALENCE"

// longest is what a test run takes: a page, less what an skb needs of it.
const longest = 3300

// pair is a translator and a fast path with the same tables.
type pair struct {
	config     translate.Config
	mtu4, mtu6 int
	tr         *translate.Translator
	prog       *fastpath.Program
	state      *translate.State
	serves     [2]bool // directions that the program does not leave to user space
	ground     *ground // nil: only at the device
}

// tables is what a router tells the fast path of its configuration, and what
// only a test knows of links.
func tables(c translate.Config, mtu4, mtu6 int) fastpath.Tables {
	t := router.FastPathTables(c)
	t.SafeMTU4, t.SafeMTU6 = mtu4, mtu6
	return t
}

func newPair(t testing.TB, c translate.Config, mtu4, mtu6 int) *pair {
	t.Helper()
	labtest.NeedFastPath(t)
	prog, err := fastpath.Load(fastpath.Config{Hosts: 64})
	if errors.Is(err, fastpath.ErrPermission) || errors.Is(err, fastpath.ErrUnsupported) {
		if os.Getenv(labtest.RequireEnv) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	pr := &pair{prog: prog, state: translate.NewState(7), serves: [2]bool{true, true}}
	if err := pr.become(c, mtu4, mtu6); err != nil {
		t.Fatal(err)
	}
	return pr
}

// become gives both another configuration.
func (pr *pair) become(c translate.Config, mtu4, mtu6 int) (err error) {
	pr.config, pr.mtu4, pr.mtu6 = c, mtu4, mtu6
	if pr.tr, err = translate.New(c); err != nil {
		return err
	}
	return pr.prog.Update(tables(c, mtu4, mtu6))
}

// secluded runs f on a thread in a network namespace without routes, so that the
// program's questions to the routing table have one answer: no.
func secluded(t testing.TB, f func()) {
	t.Helper()
	once.Do(func() {
		ready := make(chan error)
		go func() {
			runtime.LockOSThread() // for as long as the process lives
			err := unix.Unshare(unix.CLONE_NEWNET)
			ready <- err
			if err == nil {
				for call := range calls {
					call()
				}
			}
		}()
		if err := <-ready; err != nil {
			panic(fmt.Sprintf("make a network namespace: %v", err))
		}
	})
	done := make(chan struct{})
	calls <- func() { defer close(done); f() }
	<-done
}

var (
	once  sync.Once
	calls = make(chan func())
)

// reference is what translate makes of a packet.
func (pr *pair) reference(p []byte) (translate.Verdict, []byte) {
	const start = translate.Headroom
	var pl translate.Plan
	buf := append(make([]byte, start, start+len(p)), p...)
	v := pr.tr.Decide(&pl, buf[start:], translate.Meta{})
	if v.Action() == translate.Emit {
		out := pr.mtu4
		if pl.To == translate.V6 {
			out = pr.mtu6
		}
		v = pr.tr.Fit(&pl, 0, out)
	}
	if v.Action() != translate.Emit {
		return v, nil
	}
	at, n := pr.tr.Rewrite(&pl, pr.state, buf, start)
	return v, buf[at : at+n]
}

// try runs the program, at the device or at an interface.
type try func(p []byte) ([]byte, fastpath.Reason, error)

// compare tells whether the program forwarded the packet, and an error if it
// should not have, or not so.
func (pr *pair) compare(p []byte, try try) (forwarded bool, err error) {
	if len(p) > longest || len(p) < 20 || p[0]>>4 == 6 && len(p) < 40 {
		return false, nil // a test run refuses it
	}
	got, why, err := try(p)
	if err != nil {
		return false, err
	}
	if why != fastpath.Forwarded {
		return false, nil
	}
	v, want := pr.reference(p)
	if want == nil {
		return true, fmt.Errorf("translate says %v, the program forwards\nin   %x\ngot  %x", v, p, got)
	}
	a, err := masked(got)
	if err != nil {
		return true, fmt.Errorf("%w\nin   %x\ngot  %x", err, p, got)
	}
	if b, err := masked(want); err != nil || !bytes.Equal(a, b) {
		return true, fmt.Errorf("not what translate gives (%v)\nin   %x\nwant %x\ngot  %x", err, p, want, got)
	}
	return true, nil
}

// masked clears a generated identification and the header checksum, which it
// verifies.
func masked(p []byte) ([]byte, error) {
	if len(p) < 20 || p[0] != 0x45 {
		return p, nil
	}
	if translate.Sum(p[:20]) != 0xffff {
		return p, errors.New("the IPv4 header checksum is wrong")
	}
	if binary.BigEndian.Uint16(p[6:])&0x4000 != 0 {
		return p, nil
	}
	p = bytes.Clone(p)
	p[4], p[5], p[10], p[11] = 0, 0, 0, 0
	return p, nil
}

// TestGeneratedPackets compares packets of which many are plain and the others
// nearly. ISTHMUS_EQUIVALENCE=1000000 makes it a million.
func TestGeneratedPackets(t *testing.T) {
	labtest.Need(t)
	n := 40000
	if s := os.Getenv(countEnv); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s: %v", countEnv, err)
		}
	}
	if testing.Short() {
		n = min(n, 6000)
	}
	pairs := configurations(t)
	t.Run("device", func(t *testing.T) {
		secluded(t, func() { generated(t, pairs, n, func(pr *pair) (try, [2]bool) { return pr.prog.Try, pr.serves }) })
	})
	t.Run("interface", func(t *testing.T) {
		grounds(t, pairs)
		generated(t, pairs, n, func(pr *pair) (try, [2]bool) {
			// There is no IPv6 on a link with so small an MTU.
			return pr.ground.try(pr), [2]bool{pr.serves[0], pr.serves[1] && pr.mtu4 >= 1280}
		})
	})
}

// generated compares n packets, and wants to see some forwarded where they should be.
func generated(t *testing.T, pairs []*pair, n int, by func(*pair) (try, [2]bool)) {
	for i, pr := range pairs {
		try, serves := by(pr)
		var forwarded [2]int
		within(t, pr.ground, func() {
			for seed := i; seed < n; seed += len(pairs) {
				p := (&maker{rand.New(rand.NewPCG(uint64(seed), 7915)), pr}).any()
				ok, err := pr.compare(p, try)
				if err != nil {
					t.Errorf("seed %d, config %+v, MTUs %d, %d: %v", seed, pr.config, pr.mtu4, pr.mtu6, err)
					return
				}
				if ok {
					forwarded[direction(p)]++
				}
			}
		})
		// If all fell through, nothing was shown.
		t.Logf("config %d: %d from IPv6, %d from IPv4 forwarded", i, forwarded[0], forwarded[1])
		for d, k := range forwarded {
			if serves[d] != (k > 0) {
				t.Errorf("config %d, direction %d: %d packets forwarded", i, d, k)
			}
		}
	}
}

// grounds gives each pair a ground of its own.
func grounds(t testing.TB, pairs []*pair) {
	t.Helper()
	for _, pr := range pairs {
		pr.ground = newGround(t, labtest.New(t, "equivalence"), pr)
	}
}

// within runs f on a thread in the ground's namespace, if there is one.
func within(t testing.TB, g *ground, f func()) {
	t.Helper()
	if g == nil {
		f()
		return
	}
	if err := g.Do(func() error { f(); return nil }); err != nil {
		t.Fatal(err)
	}
}

// direction is 0 for IPv6 and 1 for IPv4.
func direction(p []byte) int {
	if p[0]>>4 == 6 {
		return 0
	}
	return 1
}

// TestGoldenPackets puts the golden packets through the program.
func TestGoldenPackets(t *testing.T) {
	labtest.Need(t)
	cases, err := golden.Load("../../testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("device", func(t *testing.T) {
		pr := newPair(t, cases[0].Config, cases[0].MTU4, cases[0].MTU6)
		secluded(t, func() { goldens(t, cases, pr, pr.prog.Try, func(*golden.Case) error { return nil }) })
	})
	t.Run("interface", func(t *testing.T) {
		pr := newPair(t, cases[0].Config, cases[0].MTU4, cases[0].MTU6)
		grounds(t, []*pair{pr})
		within(t, pr.ground, func() {
			goldens(t, cases, pr, pr.ground.try(pr), func(c *golden.Case) error {
				return errors.Join(pr.ground.resize(c.MTU4, c.MTU6), pr.ground.lead(c.Config))
			})
		})
	})
}

func goldens(t *testing.T, cases []golden.Case, pr *pair, try try, prepare func(*golden.Case) error) {
	forwarded, offload, long := 0, 0, 0
	for i := range cases {
		c := &cases[i]
		switch {
		case c.Meta != (translate.Meta{}):
			offload++
			continue
		case len(c.In) > longest:
			long++
			continue
		}
		if err := errors.Join(prepare(c), pr.become(c.Config, c.MTU4, c.MTU6)); err != nil {
			t.Errorf("%s: %v", c.Where(), err)
			continue
		}
		ok, err := pr.compare(c.In, try)
		if err != nil {
			t.Errorf("%s: %v", c.Where(), err)
		}
		if ok {
			forwarded++
		}
	}
	t.Logf("%d packets: %d forwarded; %d with offloads and %d too long for a test run", len(cases), forwarded, offload, long)
	if forwarded == 0 {
		t.Error("the program has forwarded none")
	}
}

// FuzzEquivalence: whatever comes, bytes that translate gives, or none.
func FuzzEquivalence(f *testing.F) {
	labtest.Need(f)
	pairs := configurations(f)
	grounds(f, pairs[:2]) // one takes as long as thousands of packets
	for seed := range uint64(64) {
		pr := pairs[int(seed)%len(pairs)]
		f.Add((&maker{rand.New(rand.NewPCG(seed, 4)), pr}).any(), uint8(seed), seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, p []byte, config uint8, mend bool) {
		if len(p) < 20 || len(p) > longest {
			return
		}
		if mend {
			p = mended(p)
		}
		pr := pairs[int(config)%len(pairs)]
		both := func(try try) func() {
			return func() {
				if _, err := pr.compare(p, try); err != nil {
					t.Errorf("config %+v, MTUs %d, %d: %v", pr.config, pr.mtu4, pr.mtu6, err)
				}
			}
		}
		secluded(t, both(pr.prog.Try))
		if pr.ground != nil {
			within(t, pr.ground, both(pr.ground.try(pr)))
		}
	})
}

// mended puts lengths and header checksum right, so that a mutated packet gets
// further.
func mended(p []byte) []byte {
	p = bytes.Clone(p)
	switch {
	case p[0]>>4 == 6 && len(p) >= 40:
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	case p[0]>>4 == 4:
		p[0] = 0x45
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], ^translate.Sum(p[:20]))
	}
	return p
}
