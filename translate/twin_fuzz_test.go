package translate_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"aarch64.com/isthmus/translate"
)

// addSeeds gives a fuzz target packets of every kind to start from, a few for
// each configuration.
func addSeeds(f *testing.F, perConfig int, add func(r maker, config uint8, p []byte)) {
	configs := twinConfigs()
	for i := range configs {
		for k := range perConfig {
			r := maker{rand.New(rand.NewPCG(uint64(i), uint64(k))), &configs[i]}
			if p := r.any(); len(p) < 1700 {
				add(r, uint8(i), p)
			}
		}
	}
}

// repaired puts lengths and the IPv4 header checksum right, so that a mutated
// packet gets further than the first checks.
func repaired(p []byte) []byte {
	p = append([]byte{}, p...)
	switch {
	case len(p) >= 20 && p[0]>>4 == 4 && int(p[0]&15)*4 <= len(p) && p[0]&15 >= 5:
		binary.BigEndian.PutUint16(p[2:], uint16(min(len(p), 65535)))
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], ^add16(p[:int(p[0]&15)*4]))
	case len(p) >= 40 && p[0]>>4 == 6:
		binary.BigEndian.PutUint16(p[4:], uint16(min(len(p)-40, 65535)))
	}
	return p
}

// FuzzTwin: translator and twin do the same with every packet, to the bit.
// flags: 1 partial checksum, 2 superpacket, 4 lengths and checksum are repaired.
func FuzzTwin(f *testing.F) {
	addSeeds(f, 12, func(r maker, config uint8, p []byte) {
		f.Add(config, uint8(r.IntN(8)), uint16(r.IntN(2000)), uint16(pick(r, twinMTUs...)), uint16(pick(r, twinMTUs...)), p)
	})
	pairs := newPairs(f)
	f.Fuzz(func(t *testing.T, config, flags uint8, segment, mtuIn, mtuOut uint16, p []byte) {
		pr := pairs[int(config)%len(pairs)]
		m := translate.Meta{PartialChecksum: flags&1 != 0}
		if flags&2 != 0 {
			m.SegmentSize = segment
		}
		if flags&4 != 0 {
			p = repaired(p)
		}
		o, _ := pr.mustAgree(t, p, m, int(mtuIn), int(mtuOut), twinSources)
		checkOutcome(t, pr, p, m, int(mtuOut), o)
	})
}
