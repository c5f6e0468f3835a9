package translate_test

import (
	"net/netip"
	"testing"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/twin"
)

// TestTwinSizes goes through every relation of packet, segments and MTUs, for
// packets that the fast path takes and for those that it leaves.
func TestTwinSizes(t *testing.T) {
	metas := []translate.Meta{{}, {PartialChecksum: true}}
	for _, s := range []uint16{1, 528, 1200, 1220, 1221, 1240, 1400, 1460} {
		metas = append(metas, translate.Meta{PartialChecksum: true, SegmentSize: s})
	}
	sizes := []int{0, 20, 528, 1200, 1201, 1219, 1220, 1221, 1240, 1241, 1440, 1460, 3000}
	words := []uint16{0, 0x4000, 0x2000, 5}
	if testing.Short() {
		metas, sizes = metas[:5], []int{20, 1200, 1201, 1240, 1460, 3000}
	}
	var seen [translate.NumVerdicts]int
	for i, c := range twinConfigs()[:4] {
		tr, err := translate.New(c)
		if err != nil {
			t.Fatal(err)
		}
		pr := &pair{config: c, tr: tr, state: translate.NewState(uint64(i))}
		for _, v6 := range []bool{true, false} {
			src, dst := netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("198.18.4.1")
			if v6 {
				src, dst = netip.MustParseAddr("2001:db8:aaaa::1"), twin.Embed(c.Pool6[0], src)
			}
			for _, proto := range []byte{6, 17, 1, 99} {
				for _, word := range words {
					for _, size := range sizes {
						p := plain(v6, proto, src, dst, word, make([]byte, size))
						if !v6 && word == 0x4000 {
							p[6] |= 0x40
							p[10], p[11] = 0, 0
							c := ^add16(p[:20])
							p[10], p[11] = byte(c>>8), byte(c)
						}
						for _, m := range metas {
							for _, mtu := range twinMTUs {
								o, _ := pr.mustAgree(t, p, m, 1500, mtu, twinSources)
								checkOutcome(t, pr, p, m, mtu, o)
								seen[o.verdict]++
							}
						}
					}
				}
			}
		}
	}
	for _, v := range []translate.Verdict{translate.Forward, translate.Split, translate.TooBig4, translate.TooBig6, translate.Superpacket} {
		if seen[v] == 0 {
			t.Errorf("no packet got the verdict %v", v)
		}
	}
}
