package l2fwd

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// Config says how long and with what to measure.
type Config struct {
	Rounds   int           // how often each forwarder gets its turn; 0 means 9
	Duration time.Duration // of one turn, after Settle; 0 means half a second
	Settle   time.Duration // let the traffic flow before counting; 0 means 200 ms
	Ring     int           // entries of each of our rings, a power of two; 0 means DefaultRing
	Baseline int           // the same for asavie/xdp; 0 means DefaultBaseline
	Size     int           // bytes of a frame without check sequence; 0 means 60
}

// Ring sizes. Neither implementation was shown to gain from any other between 64 and 4096;
// perf/NOTES.md has the figures.
const (
	DefaultRing     = 512
	DefaultBaseline = 512
)

// Result holds one rate per round, in frames per second, in order.
type Result struct {
	Ours, Baseline []float64
}

// Ratio is the median over the rounds of our rate divided by the baseline's:
// the two of a round lie next to each other in time.
func (r Result) Ratio() float64 {
	q := make([]float64, len(r.Ours))
	for i := range q {
		q[i] = r.Ours[i] / r.Baseline[i]
	}
	return Median(q)
}

// Median of values; 0 if there are none.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// Compare runs both forwarders in turns on the same veth pair. It needs two
// CPUs: the traffic is made on the first allowed one, forwarding is on the next.
func Compare(c Config) (r Result, err error) {
	c.Rounds = orDefault(c.Rounds, 9)
	c.Duration = orDefault(c.Duration, time.Second/2)
	c.Settle = orDefault(c.Settle, 200*time.Millisecond)
	c.Ring = orDefault(c.Ring, DefaultRing)
	c.Baseline = orDefault(c.Baseline, DefaultBaseline)
	c.Size = orDefault(c.Size, 60)
	b, err := newBench(c)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for i := range c.Rounds {
		a, err := b.measure(newOurs, c.Ring)
		if err != nil {
			return r, fmt.Errorf("round %d, ours: %w", i+1, err)
		}
		t, err := b.measure(newTheirs, c.Baseline)
		if err != nil {
			return r, fmt.Errorf("round %d, baseline: %w", i+1, err)
		}
		r.Ours, r.Baseline = append(r.Ours, a), append(r.Baseline, t)
	}
	return r, nil
}

func orDefault[T int | time.Duration](v, preset T) T {
	if v == 0 {
		return preset
	}
	return v
}

// bench is the laboratory: two namespaces, two CPUs.
type bench struct {
	cfg      Config
	l        *lab.Lab
	gen, fwd *lab.Host
	cpus     [2]int
	turns    int
}

func newBench(c Config) (b *bench, err error) {
	b = &bench{cfg: c}
	if b.cpus, err = twoCPUs(); err != nil {
		return nil, err
	}
	if b.l, err = lab.New("l2fwd"); err != nil {
		return nil, err
	}
	if b.gen, err = b.l.Host("gen"); err == nil {
		b.fwd, err = b.l.Host("fwd")
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) close() error { return b.l.Close() }

// pair is a veth pair for one turn. The baseline library never unmaps its
// rings, which keeps its queue busy for as long as the process or the device
// lives; so each turn gets a device of its own.
type pair struct {
	gen      *lab.Host
	name     string
	src, fwd int // interface indexes in gen and fwd
	frame    []byte
}

func (b *bench) newPair() (*pair, error) {
	b.turns++
	p := &pair{gen: b.gen, name: fmt.Sprintf("eth%d", b.turns)}
	if err := b.l.Link(b.gen, b.fwd, lab.LinkConfig{NameA: p.name, NameB: p.name}); err != nil {
		return nil, err
	}
	p.frame = make([]byte, b.cfg.Size)
	p.frame[12], p.frame[13] = 0x88, 0xb5 // IEEE 802 local experimental: nobody's protocol
	for i, end := range []struct {
		h     *lab.Host
		index *int
	}{{b.fwd, &p.fwd}, {b.gen, &p.src}} {
		mac, err := end.h.MAC(p.name)
		if err == nil {
			*end.index, err = end.h.Ifindex(p.name)
		}
		if err != nil {
			return nil, errors.Join(err, p.remove())
		}
		copy(p.frame[6*i:], mac)
	}
	return p, nil
}

func (p *pair) remove() error {
	nl, err := p.gen.Netlink()
	if err != nil {
		return err
	}
	defer nl.Close()
	link, err := nl.LinkByName(p.name)
	if err != nil {
		return err
	}
	return nl.LinkDel(link)
}

func twoCPUs() (cpus [2]int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return cpus, fmt.Errorf("ask for CPUs: %w", err)
	}
	found := 0
	for cpu := 0; cpu < len(set)*64 && found < 2; cpu++ {
		if set.IsSet(cpu) {
			cpus[found] = cpu
			found++
		}
	}
	if found < 2 {
		return cpus, errors.New("two CPUs are needed: one makes traffic, one forwards it")
	}
	return cpus, nil
}

// onCPU runs fn in a namespace on a thread that never leaves the CPU. The
// thread ends with it, since its affinity can't be trusted afterwards.
func onCPU(cpu int, h *lab.Host, fn func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			done <- fmt.Errorf("pin to CPU %d: %w", cpu, err)
			return
		}
		done <- h.Do(fn)
	}()
	return done
}

// measure returns the frames per second that reach the sink.
func (b *bench) measure(open func(ifindex, ring int) (forwarder, error), ring int) (rate float64, err error) {
	p, err := b.newPair()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	var sink, redirect *attached
	var f forwarder
	if err := b.gen.Do(func() (err error) { sink, err = attachSink(p.src); return err }); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sink.close()) }()
	if err := b.fwd.Do(func() (err error) { redirect, err = attachRedirect(p.fwd); return err }); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, redirect.close()) }()
	if err := b.fwd.Do(func() (err error) { f, err = open(p.fwd, ring); return err }); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := redirect.data.Put(uint32(0), uint32(f.fd())); err != nil {
		return 0, fmt.Errorf("put the socket into the map: %w", err)
	}
	src, err := source(p.src)
	if err != nil {
		return 0, err
	}
	defer src.Close()

	stopGen, stopFwd := make(chan struct{}), make(chan struct{})
	fwd := onCPU(b.cpus[1], b.fwd, func() error { return f.run(stopFwd) })
	gen := onCPU(b.cpus[0], b.gen, func() error { return generate(src, p.frame, stopGen) })
	time.Sleep(b.cfg.Settle)
	rate, err = b.count(sink)
	close(stopGen)
	err = errors.Join(err, <-gen)
	close(stopFwd)
	return rate, errors.Join(err, <-fwd)
}

// patience bounds the wait for a frame; on a busy machine the generator may
// need more than one turn's time to get going.
const patience = 10 * time.Second

func (b *bench) count(sink *attached) (float64, error) {
	start := time.Now()
	before, err := sink.counted()
	if err != nil {
		return 0, err
	}
	for {
		time.Sleep(b.cfg.Duration)
		after, err := sink.counted()
		if err != nil {
			return 0, err
		}
		took := time.Since(start)
		if after > before {
			return float64(after-before) / took.Seconds(), nil
		}
		if took > patience {
			return 0, fmt.Errorf("no frame reached the sink in %v", took.Round(time.Second))
		}
	}
}
