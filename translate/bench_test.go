package translate

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// The benchmarks call Locate and Fetch (if Large), Decide, Fit and Rewrite as the data plane
// does: on batches of 64 packets that lie in 2048-byte chunks. The packets are put back between
// batches, outside of the measured time. The floor does only the unavoidable
// work on the same chunks: read the header, write the other one, one 16-bit
// addition.

const (
	benchBatch = 64
	benchChunk = 2048
	benchStart = 256
)

// floor6 turns 40 bytes into 20.
//
//go:noinline
func floor6(buf []byte, start int) (newStart, n int) {
	h := (*[header6Len]byte)(buf[start:])
	a, b := binary.BigEndian.Uint64(h[0:]), binary.BigEndian.Uint64(h[8:])
	c, d, e := binary.BigEndian.Uint64(h[16:]), binary.BigEndian.Uint64(h[24:]), binary.BigEndian.Uint64(h[32:])
	f := (*[2]byte)(buf[start+56:])
	binary.BigEndian.PutUint16(f[:], binary.BigEndian.Uint16(f[:])+uint16(a))
	o := (*[header4Len]byte)(buf[start+20:])
	binary.BigEndian.PutUint64(o[0:], a^b)
	binary.BigEndian.PutUint64(o[8:], c^d)
	binary.BigEndian.PutUint32(o[16:], uint32(e))
	return start + 20, int(a>>16&0xffff) + 20
}

// floor4 turns 20 bytes into 40.
//
//go:noinline
func floor4(buf []byte, start int) (newStart, n int) {
	h := (*[header4Len]byte)(buf[start:])
	a, b, c := binary.BigEndian.Uint64(h[0:]), binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint32(h[16:])
	f := (*[2]byte)(buf[start+36:])
	binary.BigEndian.PutUint16(f[:], binary.BigEndian.Uint16(f[:])+uint16(a))
	o := (*[header6Len]byte)(buf[start-20:])
	binary.BigEndian.PutUint64(o[0:], a)
	binary.BigEndian.PutUint64(o[8:], b)
	binary.BigEndian.PutUint64(o[16:], a^b)
	binary.BigEndian.PutUint64(o[24:], b^uint64(c))
	binary.BigEndian.PutUint64(o[32:], a^uint64(c))
	return start - 20, int(a>>32&0xffff) + 20
}

// benchHost gives the addresses of host i by arithmetic, so that choosing one at
// random reads no memory: IPv6 addresses as hosts choose them (64 to an IPv6 /64,
// random interface identifiers), IPv4 addresses in a row.
func benchHost(i uint64) (six addr, four uint32) {
	lo := (i + 1) * 0x9e3779b97f4a7c15 // splitmix64
	lo = (lo ^ lo>>30) * 0xbf58476d1ce4e5b9
	lo = (lo ^ lo>>27) * 0x94d049bb133111eb
	return addr{0x20010db8_00000000 | i/64, lo ^ lo>>31}, 0x64400000 + uint32(i) // 100.64.0.0/10
}

// benchTable gives translators with 1, 10,000 and 1,000,000 host mappings.
var benchTable = sync.OnceValue(func() map[int]*Translator {
	trs := map[int]*Translator{}
	for _, n := range []int{1, 10_000, 1_000_000} {
		list := make([]EAM, n)
		for i := range list {
			a, v := benchHost(uint64(i))
			list[i] = EAM{netip.PrefixFrom(netip6(a), 128), netip.PrefixFrom(netip4(v), 32)}
		}
		tr, err := New(Config{Pool6: []netip.Prefix{wellKnownPrefix}, EAM: list})
		if err != nil {
			panic(err)
		}
		trs[n] = tr
	}
	return trs
})

func netip6(a addr) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

func netip4(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// bench is one benchmark's packets.
type bench struct {
	tr      *Translator
	entries uint64
	from    Family
	random  bool
	packet  []byte
	chunks  []byte
	rnd     *rand.Rand
}

func newBench(entries int, from Family, proto string, size int, random bool) *bench {
	b := &bench{tr: benchTable()[entries], entries: uint64(entries), from: from, random: random}
	b.chunks = make([]byte, benchBatch*benchChunk)
	b.rnd = rand.New(rand.NewPCG(3, 4))
	six, four := benchHost(b.entries / 2)
	host6, host4 := netip6(six).String(), netip4(four).String()
	n := size - header4Len
	if from == V6 {
		n = size - header6Len
	}
	var p byte
	var l4 []byte
	switch proto {
	case "tcp":
		p, l4 = protoTCP, tcp(n)
	case "udp":
		p, l4 = protoUDP, udp(n)
	case "echo":
		p, l4 = protoICMP4, icmpMessage(icmp4EchoReply, 0, 1, bytesOf(n-8))
		if from == V6 {
			p, l4[0] = protoICMP6, icmp6Echo
		}
	}
	if from == V6 {
		b.packet = v6(host6, server6, p, l4)
	} else {
		b.packet = v4(server, host4, p, l4, frag(flagDF))
	}
	return b
}

// restore puts the headers of a batch back; with random, every packet belongs to
// another mapping and another server.
func (b *bench) restore() {
	for i := range benchBatch {
		c := b.chunks[i*benchChunk+benchStart:]
		copy(c, b.packet[:64])
		if !b.random {
			continue
		}
		k := b.rnd.Uint64()
		six, four := benchHost(k & 0xffffffff % b.entries)
		srv := 0x20000000 | uint32(k>>35) // 32.0.0.0/3
		if b.from == V6 {
			binary.BigEndian.PutUint64(c[8:], six.hi)
			binary.BigEndian.PutUint64(c[16:], six.lo)
			binary.BigEndian.PutUint32(c[36:], srv)
			continue
		}
		binary.BigEndian.PutUint32(c[12:], srv)
		binary.BigEndian.PutUint32(c[16:], four)
		c[10], c[11] = 0, 0
		binary.BigEndian.PutUint16(c[10:], ^sum(c[:20]))
	}
}

// measure gives nanoseconds per packet of translating and of the floor, batches
// of both in turns.
func (b *bench) measure(packets int) (ns, floor float64) {
	var pl Plan
	st := NewState(1)
	var spent, least time.Duration
	rounds := max(1, packets/benchBatch)
	size := len(b.packet)
	for range rounds {
		b.restore()
		t0 := time.Now()
		if b.from == V6 {
			for i := range benchBatch {
				floor6(b.chunks[i*benchChunk:(i+1)*benchChunk], benchStart)
			}
		} else {
			for i := range benchBatch {
				floor4(b.chunks[i*benchChunk:(i+1)*benchChunk], benchStart)
			}
		}
		least += time.Since(t0)

		b.restore()
		t0 = time.Now()
		if b.tr.Large() {
			var at [benchBatch]uint32
			for i := range at {
				at[i] = b.tr.Locate(b.chunks[i*benchChunk+benchStart : i*benchChunk+benchStart+size])
			}
			b.tr.Fetch(at[:])
		}
		for i := range benchBatch {
			c := b.chunks[i*benchChunk : (i+1)*benchChunk]
			if b.tr.Decide(&pl, c[benchStart:benchStart+size], Meta{}) != Forward {
				panic(pl.Verdict.String())
			}
			if b.tr.Fit(&pl, 1520, 1520) != Forward {
				panic(pl.Verdict.String())
			}
			b.tr.Rewrite(&pl, st, c, benchStart)
		}
		spent += time.Since(t0)
	}
	n := float64(rounds * benchBatch)
	return float64(spent.Nanoseconds()) / n, float64(least.Nanoseconds()) / n
}

func benchName(from Family, proto string, size, entries int, random bool) string {
	dir, pattern := "6to4", "same"
	if from == V4 {
		dir = "4to6"
	}
	if random {
		pattern = "random"
	}
	return fmt.Sprintf("%s/%s/%d/eam=%d/%s", dir, proto, size, entries, pattern)
}

// BenchmarkTranslate reports ns/op, the floor of the same run and their ratio.
// same: every packet has the same addresses. random: every packet has a mapping
// chosen uniformly among all, and a random server.
func BenchmarkTranslate(b *testing.B) {
	for _, from := range []Family{V6, V4} {
		for _, proto := range []string{"tcp", "udp", "echo"} {
			for _, size := range []int{64, 512, 1500} {
				for _, entries := range []int{1, 10_000, 1_000_000} {
					for _, random := range []bool{false, true} {
						b.Run(benchName(from, proto, size, entries, random), func(b *testing.B) {
							m := newBench(entries, from, proto, size, random)
							b.ResetTimer()
							ns, floor := m.measure(b.N)
							b.ReportMetric(ns, "ns/op")
							b.ReportMetric(floor, "floor-ns")
							b.ReportMetric(ns/floor, "x-floor")
						})
					}
				}
			}
		}
	}
}

// BenchmarkSummary prints the ratios as one table, in place of TestMain's noise:
// go test -bench Summary -benchtime 1x ./translate
func BenchmarkSummary(b *testing.B) {
	for b.Loop() {
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "\ndirection\tproto\tbytes\taddresses\tfloor ns\team=1\t10,000\t1,000,000\tx floor at 10,000\t1,000,000 / 1\t")
		for _, from := range []Family{V6, V4} {
			for _, proto := range []string{"tcp", "udp", "echo"} {
				for _, size := range []int{64, 512, 1500} {
					for _, random := range []bool{false, true} {
						var ns [3]float64
						var floor float64
						for i, entries := range []int{1, 10_000, 1_000_000} {
							m := newBench(entries, from, proto, size, random)
							m.measure(20_000)
							var f float64
							ns[i], f = m.measure(400_000)
							if i == 1 {
								floor = f
							}
						}
						pattern := "same"
						if random {
							pattern = "random"
						}
						fmt.Fprintf(w, "%d to %d\t%s\t%d\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", from, 10-from, proto, size, pattern,
							floor, ns[0], ns[1], ns[2], ns[1]/floor, ns[2]/ns[0])
					}
				}
			}
		}
		w.Flush()
	}
}
